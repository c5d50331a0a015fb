"""The tabs of the plugin in one viewer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollArea,
    QSlider,
    QTabBar,
    QTableView,
    QTabWidget,
)

from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.keys import KEYS, VIEWER
from napari_espmedsam.widgets.live_controls import SliderField

PLUGIN = "napari-espmedsam"
IMAGE = np.pad(np.ones((40, 40), np.uint8), 12)


@pytest.fixture
def open_dock(make_napari_viewer: Any, weights: Any, fake: Any) -> Callable[[], tuple[Any, ...]]:
    """Return a function that opens the dock through the manifest, with the fake inside."""

    def open_() -> tuple[Any, Any, Dock]:
        viewer = make_napari_viewer()
        viewer.add_image(IMAGE)
        holder, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
        dock.segment._load = dock.prompts.load = fake.load
        return viewer, holder, dock

    return open_


def test_a_run_fills_the_table_of_objects(
    open_dock: Any, qtbot: Any, finish: Callable[[Any], None]
) -> None:
    _viewer, _holder, dock = open_dock()
    dock.objects.set_open(True)  # as showing the window does
    dock.segment.run()
    finish(dock.segment)
    qtbot.waitUntil(lambda: dock.objects.table is not None, timeout=30_000)
    assert len(dock.objects.table) == 1


def test_closing_stops_the_run_and_gives_the_keys_back(
    open_dock: Any, fake: Any, finish: Callable[[Any], None], qtbot: Any
) -> None:
    viewer, holder, dock = open_dock()
    before = dict(viewer.keymap)
    dock.objects.set_open(True)
    assert dict(viewer.keymap) != before
    fake.hold()
    dock.segment.run()
    qtbot.waitUntil(lambda: fake.tiles_started > 0, timeout=30_000)
    segment = dock.segment
    viewer.window.remove_dock_widget(holder)
    fake.let(10)
    finish(segment)
    assert dict(viewer.keymap) == before


def test_a_dock_that_nobody_sees_has_no_keys(open_dock: Any, qtbot: Any) -> None:
    viewer, holder, dock = open_dock()
    mine: list[Any] = []
    viewer.bind_key("N", mine.append)
    window = viewer.window._qt_window
    window.show()
    qtbot.waitUntil(dock.isVisible)
    ours = {each.key.replace("-", "+") for each in KEYS if each.where == VIEWER}
    assert _keys(viewer) == ours
    dock.tabs.setCurrentWidget(dock.objects)
    dock.tabs.setCurrentWidget(dock.segment)
    assert _keys(viewer) == ours, "the review goes on"
    holder.hide()
    assert _keys(viewer) == {"N"}
    viewer.keymap[next(iter(viewer.keymap))](viewer)
    assert mine == [viewer]
    holder.show()
    qtbot.waitUntil(lambda: _keys(viewer) == ours)
    window.hide()


def _keys(viewer: Any) -> set[str]:
    """Return the keys that are bound on a viewer."""
    return {str(key) for key in viewer.keymap}


def test_each_control_says_what_it_does(open_dock: Any) -> None:
    _, _, dock = open_dock()
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QSlider, QLineEdit, QTableView)
    silent = [
        (type(widget).__name__, getattr(widget, "text", str)())
        for kind in kinds
        for widget in dock.findChildren(kind)
        if not _explained(widget, dock)
    ]
    assert silent == []


def _explained(widget: Any, dock: Any) -> bool:
    """Whether a control or what it is a part of has a tooltip; parts of Qt's own are left out."""
    if isinstance(widget.parentWidget(), (QAbstractSpinBox, QTabBar, QTableView)):
        return True
    while widget is not dock:
        if widget.toolTip():
            return True
        if isinstance(widget, (QScrollArea, QTabWidget)):
            return False
        widget = widget.parentWidget()
    return False


def test_run_is_off_with_the_reason_shown(open_dock: Any) -> None:
    viewer, _, dock = open_dock()
    assert dock.segment.run_button.isEnabled()
    viewer.layers.clear()
    button, status = dock.segment.run_button, dock.segment.status
    assert not button.isEnabled()
    assert "no image layer" in status.text()
    assert button.toolTip() == status.text()


def test_two_viewers_share_nothing(open_dock: Any) -> None:
    _, _, one = open_dock()
    _, _, other = open_dock()
    one.segment.form.fields["min_size"].editor.setValue(77)
    assert other.segment.form.fields["min_size"].value != 77
    assert one.objects.picker is not other.objects.picker


def test_the_dock_is_no_wider_than_320_px_needs(open_dock: Any) -> None:
    _, _, dock = open_dock()
    assert dock.minimumSizeHint().width() <= 320


def test_nothing_overlaps_or_is_cut_off_at_320_px(open_dock: Any, qtbot: Any) -> None:
    viewer, holder, dock = open_dock()
    window = viewer.window._qt_window
    window.show()
    window.resizeDocks([holder], [320], Qt.Orientation.Horizontal)
    dock.tabs.setCurrentWidget(dock.prompts)
    sliders = [f for f in dock.prompts.controls.fields.values() if isinstance(f, SliderField)]
    qtbot.waitUntil(lambda: holder.width() <= 320 and sliders[0].box.isVisible())
    for field in sliders:
        parts = [each.geometry() for each in (field.slider, field.box, field.reset_button)]
        assert all(left.right() < right.left() for left, right in pairwise(parts)), parts
        text = field.box.fontMetrics().horizontalAdvance("10000")
        assert field.box.lineEdit().width() >= text
    keys = dock.prompts.keys_part
    keys.expand(animate=False)
    qtbot.waitUntil(lambda: keys.note.height() >= keys.note.heightForWidth(keys.note.width()))
    window.hide()

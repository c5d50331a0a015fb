"""The tab "Objects" on a viewer: what it measures and when, and how it ends."""

from __future__ import annotations

import csv
import gc
import threading
import weakref
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QTabWidget, QWidget

from napari_espmedsam.widgets import objects_measurer, objects_table
from napari_espmedsam.widgets.layers import METADATA_KEY
from napari_espmedsam.widgets.objects_tab import ObjectsTab


def test_an_empty_viewer_says_what_to_do(viewer, open_tab) -> None:
    tab = open_tab(viewer)
    assert tab.table is None
    assert "run a segmentation" in tab.status.text()
    for button in (tab.next_button, tab.previous_button, tab.save_button, tab.lock_button):
        assert not button.isEnabled()
    for act in (tab.next_object, tab.previous_object, tab.toggle_lock):
        act()  # keys reach them all the same
    tab.link("Z", 0.5)
    tab.save_csv("nowhere.csv")
    assert not tab.is_busy


def test_our_newest_result_is_measured_in_world_units(viewer, open_tab, helpers) -> None:
    helpers.add_ours(viewer, "old")
    ours = helpers.add_ours(viewer, "new")
    viewer.add_labels(np.ones((3, 40, 60), np.uint8), name="mine")
    tab = open_tab(viewer)
    assert tab.layer == ours
    assert tab.table is not None
    assert tab.table.measured["volume_um3"].tolist() == [50.0, 50.0, 50.0, 60.0, 50.0, 70.0]
    assert "6 objects, brightness in 'cells'" in tab.status.text()
    headings = [tab.model.headerData(i, Qt.Orientation.Horizontal) for i in range(3)]
    assert headings == ["Label", "Volume (µm³)", "Diameter (µm)"]
    features = ours.features
    assert features["index"].tolist() == [1, 2, 3, 4, 5, 6]
    assert features["volume_um3"].tolist() == [50.0, 50.0, 50.0, 60.0, 50.0, 70.0]
    assert features["mean_intensity"].tolist() == [5.0] * 6


def test_a_layer_of_the_user_is_shown_and_left_alone(
    viewer, open_tab, wait, qtbot, helpers
) -> None:
    data = helpers.labels()
    mine = viewer.add_labels(data, name="mine", features={"kind": list("abcdefg")}, **helpers.PLACE)
    mine.metadata["note"] = "keep"
    tab = open_tab(viewer)
    before = data.copy(), mine.features.copy(), dict(mine.metadata)
    assert tab.table is not None
    assert len(tab.table) == 6
    helpers.click(tab, qtbot, 4)
    tab.link("Z", 0.5)
    wait(tab)
    np.testing.assert_array_equal(mine.data, before[0])
    assert mine.data is data
    assert mine.features.equals(before[1])
    assert mine.metadata == before[2]
    assert [layer.name for layer in viewer.layers] == ["mine", "mine linked"]
    assert "index" in viewer.layers["mine linked"].features


def test_edits_are_measured_while_the_tab_is_seen(
    viewer, open_tab, wait, measured, helpers
) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    tab.view.select_rows([tab.table.find(2), tab.table.find(3)])
    assert len(measured) == 1
    viewer.dims.set_current_step(0, 0)  # the slider changes nothing
    assert not tab.is_busy
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 9)
    for _ in range(5):
        layer.events.paint(value=[])
    wait(tab)
    assert len(measured) == 2
    assert tab.table.find(9) is not None
    assert 9 in layer.features["index"].to_numpy()
    assert [tab.table.key(row)[1] for row in tab.view.selected_rows()] == [2, 3]
    layer.data[:] = 0  # in place: nobody hears of it, so it has to be said
    tab.objects_changed(viewer.layers["cells"])
    assert not tab.is_busy
    tab.objects_changed(layer)
    wait(tab)
    assert len(tab.table) == 0
    assert "0 objects" in tab.status.text()


def test_shapes_come_in_a_second_step(viewer, open_tab, wait, qtbot, monkeypatch, helpers) -> None:
    """They take ten times as long as all the rest, and nobody waits for them."""
    original, gate, asked = objects_table.measure_objects, threading.Event(), []

    def slow(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["shape"])
        assert not kwargs["shape"] or gate.wait(20)
        return original(*args, **kwargs)

    monkeypatch.setattr(objects_table, "measure_objects", slow)
    monkeypatch.setattr(objects_measurer, "_LONG", 0.0)
    layer = viewer.add_labels(helpers.labels()[0])
    tab = ObjectsTab(viewer)
    qtbot.addWidget(tab)
    wanted: list[Any] = []
    tab.scores_wanted.connect(wanted.append)
    tab.show()
    qtbot.waitUntil(lambda: tab.table is not None)
    assert tab.table.measured["area_px"].tolist() == [100.0, 100.0]
    assert "solidity" not in tab.table.measured
    assert wanted == []
    gate.set()
    wait(tab)
    assert tab.table.measured["solidity"].tolist() == [1.0, 1.0]
    assert wanted == [layer]
    gate.clear()
    tab.refresh_button.click()
    qtbot.waitUntil(lambda: bool(np.isnan(tab.table.measured["solidity"]).all()))
    gate.set()
    wait(tab)
    assert tab.table.measured["solidity"].tolist() == [1.0, 1.0]
    assert asked == [False, True, False, True]
    tab.set_open(False)


def test_a_hidden_tab_measures_when_it_is_seen_again(
    viewer, open_tab, wait, measured, helpers
) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    tab.hide()
    layer.data = np.zeros_like(layer.data)
    layer.events.paint(value=[])
    assert not tab.is_busy
    assert len(measured) == 1
    tab.show()
    wait(tab)
    assert len(measured) == 2
    assert len(tab.table) == 0


def test_a_new_result_is_measured_though_the_tab_is_hidden(viewer, open_tab, wait, helpers) -> None:
    tab = open_tab(viewer)
    tab.hide()
    layer = helpers.add_ours(viewer)
    tab.show_layer(layer)
    wait(tab)
    assert tab.layer == layer
    assert len(layer.features) == 6


def test_a_change_of_scale_changes_the_numbers(viewer, open_tab, wait, helpers) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    layer.scale = (4.0, 0.5, 0.5)
    wait(tab)
    assert tab.table.measured["volume_um3"][0] == 100.0


def test_layers_may_go_be_renamed_and_come_back(viewer, open_tab, wait, helpers) -> None:
    one, two = helpers.add_ours(viewer, "one"), helpers.add_ours(viewer, "two")
    tab = open_tab(viewer)
    two.name = "renamed"
    assert tab.picker.currentText() == "renamed"
    tab.show_layer(one)
    viewer.layers.remove(one)  # while it is measured
    wait(tab)
    assert tab.layer == two
    assert len(tab.table) == 6
    viewer.layers.clear()
    wait(tab)
    assert tab.table is None
    assert tab.model.rowCount() == 0
    tab.next_object()
    viewer.layers.append(one)
    wait(tab)
    assert len(tab.table) == 6


def test_a_layer_with_too_many_axes_says_so(viewer, open_tab) -> None:
    viewer.add_labels(np.zeros((2, 2, 2, 20, 20), np.uint8), name="big")
    tab = open_tab(viewer)
    assert "'big' has 5 axes" in tab.status.text()
    assert tab.table is None


def test_the_table_is_written_with_boxes(viewer, open_tab, wait, tmp_path, helpers) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    tab.set_scores(layer, (0,), helpers.scores(o1=0.2))
    tab.save_csv(tmp_path / "new" / "cells.csv")
    wait(tab)
    assert "Wrote 6 rows to cells.csv" in tab.status.text()
    with (tmp_path / "new" / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list("123456")
    assert (rows[0]["volume_um3"], rows[0]["bbox_min_y_px"], rows[0]["doubt"]) == (
        "50.0",
        "4",
        "0.2",
    )
    (tmp_path / "file").write_text("")
    tab.save_csv(tmp_path / "file" / "cells.csv")
    wait(tab)
    assert "cannot write" in tab.status.text()


def test_a_mask_says_that_it_is_one_object(viewer, open_tab, helpers) -> None:
    layer = helpers.add_ours(viewer, labels=(helpers.labels() > 0).astype(np.uint32))
    record = layer.metadata[METADATA_KEY]
    layer.metadata = {METADATA_KEY: {**record, "post": {"output": "mask"}}}
    assert "A mask is one object" in open_tab(viewer).status.text()


def test_two_viewers_share_nothing(open_tab, helpers) -> None:
    one, two = ViewerModel(), ViewerModel()
    first, second = helpers.add_ours(one), helpers.add_ours(two)
    left, right = open_tab(one), open_tab(two)
    left.set_scores(first, (0,), helpers.scores(o1=0.2))
    left.next_object()
    assert second.selected_label == 1
    assert "doubt" not in second.features
    assert right.view.selected_rows() == []


def test_an_unexpected_error_is_shown_and_the_tab_goes_on(
    viewer, open_tab, wait, monkeypatch, helpers
) -> None:
    helpers.add_ours(viewer)
    tab = open_tab(viewer)

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    shown = []
    monkeypatch.setattr(objects_table, "measure_objects", fail)
    import napari_espmedsam.widgets.objects_jobs as jobs

    monkeypatch.setattr(jobs.notification_manager, "receive_error", lambda *a: shown.append(a[1]))
    tab.refresh_button.click()
    wait(tab)
    assert "Unexpected RuntimeError: out of memory" in tab.status.text()
    assert [str(error) for error in shown] == ["out of memory"]
    monkeypatch.undo()
    tab.refresh_button.click()
    wait(tab)
    assert len(tab.table) == 6


def test_the_tab_fits_into_a_narrow_dock(viewer, open_tab, helpers) -> None:
    helpers.add_ours(viewer, "a name that is far too long for any dock of a usual width")
    tab = open_tab(viewer)
    tab.link_part.expand(False)
    tab.keys_part.expand(False)
    assert tab.minimumSizeHint().width() <= 300
    tab.resize(300, 700)
    for button in (tab.next_button, tab.save_button, tab.link_part.button, tab.refresh_button):
        corner = button.mapTo(tab, QPoint(button.width(), 0))
        assert corner.x() <= 300


def _open_and_close(
    make_napari_viewer: Any, qtbot: Any, wait: Any, helpers: Any
) -> tuple[Any, Any]:
    viewer = make_napari_viewer()
    layer = helpers.add_ours(viewer)
    tab = ObjectsTab(PublicOnlyProxy(viewer))  # what napari hands to a plugin
    tabs = QTabWidget()
    tabs.addTab(QWidget(), "Segment")
    tabs.addTab(tab, "Objects")
    tabs.setCurrentIndex(1)
    viewer.window.add_dock_widget(tabs, name="Segment")
    viewer.window._qt_window.show()
    wait(tab)
    viewer.layers.selection.active = layer
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.keyClick(canvas, Qt.Key.Key_N)
    qtbot.keyClick(canvas, Qt.Key.Key_N)
    assert layer.selected_label == 2
    qtbot.keyClick(canvas, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert layer.selected_label == 1
    tab.show_layer(layer)
    tab.link("Z", 0.5)
    wait(tab)
    assert viewer.layers["result linked"].features["label"].tolist() == [1, 2]
    tab.objects_changed(viewer.layers["result linked"])
    tab.set_open(False)
    viewer.window.remove_dock_widget(tabs)
    return viewer, weakref.ref(tab)


def test_closing_the_dock_ends_the_thread_and_frees_the_tab(
    make_napari_viewer, qtbot, wait, helpers
) -> None:
    viewer, left = _open_and_close(make_napari_viewer, qtbot, wait, helpers)
    assert not viewer.keymap
    qtbot.wait(50)
    gc.collect()
    assert left() is None, gc.get_referrers(left())

"""The tab "Objects" on a viewer: what it measures and when, both ways of selecting, links, keys."""

from __future__ import annotations

import csv
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QTabWidget, QWidget

from napari_espmedsam.widgets import objects_measurer, objects_table
from napari_espmedsam.widgets.layers import METADATA_KEY
from napari_espmedsam.widgets.objects_tab import ObjectsTab

SCALE = (2.0, 0.5, 0.5)
PLACE = {"scale": SCALE, "translate": (10, 20, 30), "units": ("micrometer",) * 3}


def _labels() -> np.ndarray:
    """Return three planes with the objects 1 and 2, 3 and 4, 5 and 6."""
    labels = np.zeros((3, 40, 60), np.uint32)
    for z in range(3):
        labels[z, 4:14, 6:16] = 2 * z + 1
        labels[z, 20 : 30 + 2 * z, 40:50] = 2 * z + 2
    return labels


def _add_ours(viewer: Any, name: str = "result", labels: Any = None) -> Any:
    """Add an image and a layer as a run leaves it."""
    image = np.full((3, 40, 60), 5, np.uint16)
    if "cells" not in viewer.layers:
        viewer.add_image(image, name="cells", **PLACE)
    layer = viewer.add_labels(_labels() if labels is None else labels, name=name, **PLACE)
    record = {"image": "cells", "shape": [3, 40, 60], "dtype": "uint16", "axes": "ZYX"}
    layer.metadata = {METADATA_KEY: {**record, "channel": None, "rgb": False}}
    return layer


@pytest.fixture
def wait(qtbot: Any) -> Callable[[ObjectsTab], None]:
    """Return a function that waits until a tab has nothing to do."""
    return lambda tab: qtbot.waitUntil(lambda: not tab.is_busy, timeout=30_000)


@pytest.fixture
def open_tab(qtbot: Any, wait: Any) -> Iterator[Callable[..., ObjectsTab]]:
    """Return a function that shows the tab on a viewer and waits for its table."""
    tabs = []

    def open_(viewer: Any) -> ObjectsTab:
        tab = ObjectsTab(viewer)
        qtbot.addWidget(tab)
        tabs.append(tab)
        tab.show()
        wait(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.set_open(False)


@pytest.fixture
def viewer() -> ViewerModel:
    """Return a viewer without a window."""
    return ViewerModel()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each measurement."""
    counts: list[int] = []
    original = objects_table.measure_objects

    def count(*args: Any, **kwargs: Any) -> Any:
        counts.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(objects_table, "measure_objects", count)
    return counts


def _row_of(tab: ObjectsTab, label: int) -> int:
    """Return where a label stands on the screen."""
    assert tab.table is not None
    return tab.model.rows_on_screen([tab.table.find(label)])[0]


def _click(tab: ObjectsTab, qtbot: Any, label: int) -> None:
    """Click on the row of a label, as a user does."""
    index = tab.model.index(_row_of(tab, label), 0)
    tab.view.scrollTo(index)
    qtbot.mouseClick(
        tab.view.viewport(), Qt.MouseButton.LeftButton, pos=tab.view.visualRect(index).center()
    )


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


def test_our_newest_result_is_measured_in_world_units(viewer, open_tab) -> None:
    _add_ours(viewer, "old")
    ours = _add_ours(viewer, "new")
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


def test_a_layer_of_the_user_is_shown_and_left_alone(viewer, open_tab, wait, qtbot) -> None:
    data = _labels()
    mine = viewer.add_labels(data, name="mine", features={"kind": list("abcdefg")}, **PLACE)
    mine.metadata["note"] = "keep"
    tab = open_tab(viewer)
    before = data.copy(), mine.features.copy(), dict(mine.metadata)
    assert tab.table is not None
    assert len(tab.table) == 6
    _click(tab, qtbot, 4)
    tab.link("Z", 0.5)
    wait(tab)
    np.testing.assert_array_equal(mine.data, before[0])
    assert mine.data is data
    assert mine.features.equals(before[1])
    assert mine.metadata == before[2]
    assert [layer.name for layer in viewer.layers] == ["mine", "mine linked"]
    assert "index" in viewer.layers["mine linked"].features


def test_a_row_moves_slider_camera_and_label(viewer, open_tab, qtbot) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    _click(tab, qtbot, 6)
    assert layer.selected_label == 6
    assert viewer.dims.point[0] == 10 + 2 * 2.0
    y, x = viewer.scene.camera.center[-2:]
    assert 20 + 26 * 0.5 <= y <= 20 + 27 * 0.5
    assert 30 + 44 * 0.5 <= x <= 30 + 45 * 0.5
    zoom = viewer.scene.camera.zoom
    qtbot.keyClick(tab.view, Qt.Key.Key_Up)
    assert layer.selected_label == 5
    assert viewer.scene.camera.zoom == zoom


def test_a_label_that_is_picked_selects_its_row_and_moves_nothing(viewer, open_tab) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    before = viewer.scene.camera.center, viewer.dims.point
    layer.selected_label = 6
    assert tab.view.selected_rows() == [tab.table.find(6)]
    assert (viewer.scene.camera.center, viewer.dims.point) == before
    layer.selected_label = 99  # a new one that nobody has drawn
    assert tab.view.selected_rows() == []


def test_layers_in_other_units_are_found_as_well(viewer, open_tab) -> None:
    """The world is in the unit of one layer; the others stand in it with theirs."""
    viewer.add_image(np.zeros((3, 40, 60)), scale=(2000, 500, 500), units=("nanometer",) * 3)
    layer = viewer.add_labels(_labels(), scale=SCALE, units=("micrometer",) * 3)
    tab = open_tab(viewer)
    tab.view.row_chosen.emit(tab.table.find(5))
    assert layer.selected_label == 5
    assert viewer.dims.current_step[0] == 2
    tab.view.clearSelection()
    layer.selected_label = 3
    assert tab.view.selected_rows() == [tab.table.find(3)]


def test_a_time_series_selects_the_row_of_the_time_that_is_shown(viewer, open_tab) -> None:
    labels = _labels()
    labels[labels > 0] = 1
    layer = viewer.add_labels(labels, axis_labels=("t", "y", "x"))
    tab = open_tab(viewer)
    assert [tab.table.key(row) for row in range(3)] == [(0, 1), (1, 1), (2, 1)]
    layer.selected_label = 7
    viewer.dims.set_current_step(0, 2)
    layer.selected_label = 1
    assert tab.view.selected_rows() == [2]


def test_edits_are_measured_while_the_tab_is_seen(viewer, open_tab, wait, measured) -> None:
    layer = _add_ours(viewer)
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


def test_shapes_come_in_a_second_step(viewer, open_tab, wait, qtbot, monkeypatch) -> None:
    """They take ten times as long as all the rest, and nobody waits for them."""
    original, gate, asked = objects_table.measure_objects, threading.Event(), []

    def slow(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["shape"])
        assert not kwargs["shape"] or gate.wait(20)
        return original(*args, **kwargs)

    monkeypatch.setattr(objects_table, "measure_objects", slow)
    monkeypatch.setattr(objects_measurer, "_LONG", 0.0)
    layer = viewer.add_labels(_labels()[0])
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


def test_a_hidden_tab_measures_when_it_is_seen_again(viewer, open_tab, wait, measured) -> None:
    layer = _add_ours(viewer)
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


def test_a_new_result_is_measured_though_the_tab_is_hidden(viewer, open_tab, wait) -> None:
    tab = open_tab(viewer)
    tab.hide()
    layer = _add_ours(viewer)
    tab.show_layer(layer)
    wait(tab)
    assert tab.layer == layer
    assert len(layer.features) == 6


def test_a_change_of_scale_changes_the_numbers(viewer, open_tab, wait) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    layer.scale = (4.0, 0.5, 0.5)
    wait(tab)
    assert tab.table.measured["volume_um3"][0] == 100.0


def test_layers_may_go_be_renamed_and_come_back(viewer, open_tab, wait) -> None:
    one, two = _add_ours(viewer, "one"), _add_ours(viewer, "two")
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


def _scores(**doubt: float) -> dict[str, np.ndarray]:
    labels = [int(name[1:]) for name in doubt]
    return {"label": np.array(labels), "doubt": np.array(list(doubt.values()))}


def test_a_review_goes_from_doubt_to_doubt(viewer, open_tab) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    assert "In the order of the table: 0 of 6" in tab.review_note.text()
    tab.set_scores(layer, (0,), _scores(o1=0.2, o2=0.7))
    tab.set_scores(layer, (2,), _scores(o5=0.9, o6=0.1))
    assert "Most doubtful first" in tab.review_note.text()
    assert "doubt" in layer.features
    visits = []
    for _ in range(3):
        tab.next_object()
        visits.append((layer.selected_label, viewer.dims.current_step[0]))
    assert visits == [(5, 2), (2, 0), (1, 0)]
    assert "3 of 6" in tab.review_note.text()
    tab.previous_object()
    assert layer.selected_label == 2
    layer.selected_label = 6  # looked at by oneself
    assert "4 of 6" in tab.review_note.text()
    for _ in range(3):
        tab.next_object()
    assert "begins again" in tab.review_note.text()
    tab.next_object()
    assert layer.selected_label == 5


def test_without_scores_the_review_follows_the_table(viewer, open_tab) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    tab.view.sortByColumn(tab.model.position("volume_um3"), Qt.SortOrder.DescendingOrder)
    seen = []
    for _ in range(3):
        tab.next_object()
        seen.append(int(layer.selected_label))
    assert seen == [6, 4, 1]


def test_objects_are_locked_where_a_session_can(viewer, open_tab, qtbot) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    asked: list[tuple[Any, ...]] = []
    tab.lock_requested.connect(lambda *args: asked.append(args))
    tab.view.select_rows([0, 3])
    tab.toggle_lock()
    assert asked == []
    assert not tab.lock_button.isEnabled()
    assert "while the prompts of their image" in tab.lock_button.toolTip()
    tab.set_locked(layer, ())
    assert tab.lock_button.isEnabled()
    qtbot.mouseClick(tab.lock_button, Qt.MouseButton.LeftButton)
    assert asked.pop() == (layer, {(0,): (1,), (1,): (4,)}, True)
    tab.set_locked(layer, {1, 4})
    assert tab.lock_button.text() == "Unlock"
    assert layer.features["locked"].tolist() == [True, False, False, True, False, False]
    assert "0 of 4" in tab.review_note.text()
    tab.toggle_lock()
    assert asked.pop() == (layer, {(0,): (1,), (1,): (4,)}, False)
    box = tab.model.index(_row_of(tab, 2), tab.model.position("locked"))
    tab.model.setData(box, Qt.CheckState.Checked.value, Qt.ItemDataRole.CheckStateRole)
    assert asked.pop() == (layer, {(0,): (2,)}, True)
    resets: list[None] = []
    tab.model.modelReset.connect(lambda: resets.append(None))
    tab.set_locked(layer, {4, 1})
    assert not resets, "the table was made anew though nothing had changed"
    tab.set_locked(layer, None)
    assert tab.model.position("locked") == -1


def test_the_table_is_written_with_boxes(viewer, open_tab, wait, tmp_path) -> None:
    layer = _add_ours(viewer)
    tab = open_tab(viewer)
    tab.set_scores(layer, (0,), _scores(o1=0.2))
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


def test_linking_shows_the_new_layer(viewer, open_tab, wait, qtbot) -> None:
    layer = _add_ours(viewer)
    before = layer.data.copy()
    tab = open_tab(viewer)
    tab.link_part.expand(False)
    qtbot.waitUntil(lambda: not tab.link_part.button.visibleRegion().isEmpty())
    qtbot.mouseClick(tab.link_part.button, Qt.MouseButton.LeftButton)
    assert not tab.link_part.button.isEnabled()
    wait(tab)
    assert tab.link_part.button.isEnabled()
    assert tab.layer.name == "result linked"
    assert tab.table.measured["volume_um3"].tolist() == [150.0, 180.0]
    assert "2 objects linked through Z, brightness in 'cells'" in tab.status.text()
    np.testing.assert_array_equal(layer.data, before)
    tab.link("Z", 5.0)
    wait(tab)
    assert "outside 0 to 1" in tab.status.text()
    assert tab.link_part.button.isEnabled()


def test_a_plane_has_nothing_to_link(viewer, open_tab) -> None:
    viewer.add_labels(_labels()[0])
    tab = open_tab(viewer)
    assert not tab.link_part.isVisibleTo(tab)
    assert "solidity" in tab.table.measured


def test_a_mask_says_that_it_is_one_object(viewer, open_tab) -> None:
    layer = _add_ours(viewer, labels=(_labels() > 0).astype(np.uint32))
    record = layer.metadata[METADATA_KEY]
    layer.metadata = {METADATA_KEY: {**record, "post": {"output": "mask"}}}
    assert "A mask is one object" in open_tab(viewer).status.text()


def test_keys_are_there_while_the_tab_is_open(viewer, open_tab) -> None:
    layer = _add_ours(viewer)
    mine: list[Any] = []
    viewer.bind_key("N", mine.append)
    tab = open_tab(viewer)
    keys = {str(key): slot for key, slot in viewer.keymap.items()}
    keys["N"](viewer)
    assert (layer.selected_label, mine) == (1, [])
    tab.hide()  # another tab of the dock is in front: the review goes on
    {str(key): slot for key, slot in viewer.keymap.items()}["N"](viewer)
    assert layer.selected_label == 2
    assert "Shift-N" in tab.keys_part.note.text()
    tab.set_open(False)
    assert [str(key) for key in viewer.keymap] == ["N"]
    next(iter(viewer.keymap.values()))(viewer)
    assert mine == [viewer]


def test_two_viewers_share_nothing(open_tab) -> None:
    one, two = ViewerModel(), ViewerModel()
    first, second = _add_ours(one), _add_ours(two)
    left, right = open_tab(one), open_tab(two)
    left.set_scores(first, (0,), _scores(o1=0.2))
    left.next_object()
    assert second.selected_label == 1
    assert "doubt" not in second.features
    assert right.view.selected_rows() == []


def test_an_unexpected_error_is_shown_and_the_tab_goes_on(
    viewer, open_tab, wait, monkeypatch
) -> None:
    _add_ours(viewer)
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


def test_the_tab_fits_into_a_narrow_dock(viewer, open_tab) -> None:
    _add_ours(viewer, "a name that is far too long for any dock of a usual width")
    tab = open_tab(viewer)
    tab.link_part.expand(False)
    tab.keys_part.expand(False)
    assert tab.minimumSizeHint().width() <= 300
    tab.resize(300, 700)
    for button in (tab.next_button, tab.save_button, tab.link_part.button, tab.refresh_button):
        corner = button.mapTo(tab, QPoint(button.width(), 0))
        assert corner.x() <= 300


def _open_and_close(make_napari_viewer: Any, qtbot: Any, wait: Any) -> tuple[Any, Any]:
    viewer = make_napari_viewer()
    layer = _add_ours(viewer)
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
    make_napari_viewer, qtbot, wait
) -> None:
    viewer, left = _open_and_close(make_napari_viewer, qtbot, wait)
    assert not viewer.keymap
    qtbot.wait(50)
    gc.collect()
    assert left() is None, gc.get_referrers(left())

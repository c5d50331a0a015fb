"""The tab "Objects" on a viewer: rows and labels that follow each other, review, locks, links."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt


def test_a_row_moves_slider_camera_and_label(viewer, open_tab, qtbot, helpers) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    helpers.click(tab, qtbot, 6)
    assert layer.selected_label == 6
    assert viewer.dims.point[0] == 10 + 2 * 2.0
    y, x = viewer.scene.camera.center[-2:]
    assert 20 + 26 * 0.5 <= y <= 20 + 27 * 0.5
    assert 30 + 44 * 0.5 <= x <= 30 + 45 * 0.5
    zoom = viewer.scene.camera.zoom
    qtbot.keyClick(tab.view, Qt.Key.Key_Up)
    assert layer.selected_label == 5
    assert viewer.scene.camera.zoom == zoom


def test_a_label_that_is_picked_selects_its_row_and_moves_nothing(
    viewer, open_tab, helpers
) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    before = viewer.scene.camera.center, viewer.dims.point
    layer.selected_label = 6
    assert tab.view.selected_rows() == [tab.table.find(6)]
    assert (viewer.scene.camera.center, viewer.dims.point) == before
    layer.selected_label = 99  # a new one that nobody has drawn
    assert tab.view.selected_rows() == []


def test_objects_may_go_while_the_viewer_moves_to_one(viewer, open_tab, helpers) -> None:
    """What follows the slider may take the layer away: a live session does."""
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    viewer.dims.events.current_step.connect(lambda _event: viewer.layers.clear())
    tab.view.row_chosen.emit(tab.table.find(6))
    assert tab.table is None
    assert layer.selected_label == 6
    assert not tab.review_note.isVisibleTo(tab)


def test_layers_in_other_units_are_found_as_well(viewer, open_tab, helpers) -> None:
    """The world is in the unit of one layer; the others stand in it with theirs."""
    viewer.add_image(np.zeros((3, 40, 60)), scale=(2000, 500, 500), units=("nanometer",) * 3)
    layer = viewer.add_labels(helpers.labels(), scale=helpers.SCALE, units=("micrometer",) * 3)
    tab = open_tab(viewer)
    tab.view.row_chosen.emit(tab.table.find(5))
    assert layer.selected_label == 5
    assert viewer.dims.current_step[0] == 2
    tab.view.clearSelection()
    layer.selected_label = 3
    assert tab.view.selected_rows() == [tab.table.find(3)]


def test_a_time_series_selects_the_row_of_the_time_that_is_shown(viewer, open_tab, helpers) -> None:
    labels = helpers.labels()
    labels[labels > 0] = 1
    layer = viewer.add_labels(labels, axis_labels=("t", "y", "x"))
    tab = open_tab(viewer)
    assert [tab.table.key(row) for row in range(3)] == [(0, 1), (1, 1), (2, 1)]
    layer.selected_label = 7
    viewer.dims.set_current_step(0, 2)
    layer.selected_label = 1
    assert tab.view.selected_rows() == [2]


def test_a_review_goes_from_doubt_to_doubt(viewer, open_tab, helpers) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    assert "In the order of the table: 0 of 6" in tab.review_note.text()
    tab.set_scores(layer, (0,), helpers.scores(o1=0.2, o2=0.7))
    tab.set_scores(layer, (2,), helpers.scores(o5=0.9, o6=0.1))
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


def test_without_scores_the_review_follows_the_table(viewer, open_tab, helpers) -> None:
    layer = helpers.add_ours(viewer)
    tab = open_tab(viewer)
    tab.view.sortByColumn(tab.model.position("volume_um3"), Qt.SortOrder.DescendingOrder)
    seen = []
    for _ in range(3):
        tab.next_object()
        seen.append(int(layer.selected_label))
    assert seen == [6, 4, 1]


def test_objects_are_locked_where_a_session_can(viewer, open_tab, qtbot, helpers) -> None:
    layer = helpers.add_ours(viewer)
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
    box = tab.model.index(helpers.row_of(tab, 2), tab.model.position("locked"))
    tab.model.setData(box, Qt.CheckState.Checked.value, Qt.ItemDataRole.CheckStateRole)
    assert asked.pop() == (layer, {(0,): (2,)}, True)
    resets: list[None] = []
    tab.model.modelReset.connect(lambda: resets.append(None))
    tab.set_locked(layer, {4, 1})
    assert not resets, "the table was made anew though nothing had changed"
    tab.set_locked(layer, None)
    assert tab.model.position("locked") == -1


def test_linking_shows_the_new_layer(viewer, open_tab, wait, qtbot, helpers) -> None:
    layer = helpers.add_ours(viewer)
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


def test_a_plane_has_nothing_to_link(viewer, open_tab, helpers) -> None:
    viewer.add_labels(helpers.labels()[0])
    tab = open_tab(viewer)
    assert not tab.link_part.isVisibleTo(tab)
    assert "solidity" in tab.table.measured


def test_keys_are_there_while_the_tab_is_open(viewer, open_tab, helpers) -> None:
    layer = helpers.add_ours(viewer)
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

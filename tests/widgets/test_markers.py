"""Points and boxes set the cells under them once, and go when the cells are something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import QObject

from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED
from napari_espmedsam.studio.events import PromptView
from napari_espmedsam.widgets.layers import describe, plan_result
from napari_espmedsam.widgets.markers import TOOLS, Markers
from napari_espmedsam.widgets.undo_keys import REDO, UNDO

CELL = 8
LENGTHS = {"T": 2, "Z": 3, "C": 2, "Y": 48, "X": 64}


def view_of(state: np.ndarray) -> PromptView:
    """Return a view of cells of 8 x 8 px."""
    middle = (CELL - 1) / 2
    return PromptView(np.zeros(state.shape, np.float32), state, (CELL, CELL), (middle, middle))


class Cells:
    """Cells as a session would keep them, by plane."""

    def __init__(self, markers: Markers) -> None:
        self.state: dict[Any, np.ndarray] = {}
        self.said: list[str] = []
        self.values: list[int] = []
        markers.marked.connect(self.take)

    def take(self, index: Any, box: Any, value: int, what: str) -> None:
        self.plane(index)[box] = {ON: 2, OFF: 3, UNTOUCHED: 0}[value]
        self.said.append(what)
        self.values.append(value)

    def plane(self, index: Any = ()) -> np.ndarray:
        return self.state.setdefault(index, np.zeros((6, 8), np.uint8))


Opened = tuple[Any, Markers, Cells]


@pytest.fixture
def opened(parent: QObject) -> Iterator[Callable[..., Opened]]:
    """Return a function that makes markers on an image."""
    kept = []

    def open_(axes: str = "YX", viewer: Any = None, **place: Any) -> Opened:
        viewer = ViewerModel() if viewer is None else viewer
        shape = [LENGTHS[letter] for letter in axes]
        image = viewer.add_image(np.zeros(shape, np.uint8), name="cells", rgb=False, **place)
        plan = plan_result(describe(image), axes, 1 if "C" in axes else None)
        markers = Markers(viewer, plan, "cells", parent)
        kept.append(markers)
        cells = Cells(markers)
        leading = tuple(0 for letter in axes if letter in "TZ")
        markers.show(leading, view_of(np.zeros((6, 8), np.uint8)))
        return viewer, markers, cells

    yield open_
    for markers in kept:
        markers.remove()


def box_at(y: float, x: float, height: float = 10, width: float = 3) -> np.ndarray:
    """Return the corners of a rectangle."""
    return np.array([[y, x], [y, x + width], [y + height, x + width], [y + height, x]])


@pytest.mark.parametrize(("tool", "value", "state"), [("+ point", ON, 2), ("- point", OFF, 3)])
def test_a_point_sets_its_cell(opened, tool: Any, value: int, state: int) -> None:
    viewer, markers, cells = opened()
    markers.use(tool)
    (layer,) = markers.layers
    assert viewer.layers.selection.active is layer
    assert (layer.mode, layer.name) == ("add", "Prompt points of cells")
    layer.add((17.0, 30.0))
    assert cells.values == [value]
    expected = np.zeros((6, 8), np.uint8)
    expected[2, 3] = state
    np.testing.assert_array_equal(cells.plane(), expected)


@pytest.mark.parametrize(("tool", "value"), [("+ box", ON), ("- box", OFF)])
def test_a_box_sets_all_cells_that_it_touches(opened, tool: Any, value: int) -> None:
    _viewer, markers, cells = opened()
    markers.use(tool)
    (layer,) = markers.layers
    assert (layer.mode, layer.name) == ("add_rectangle", "Prompt boxes of cells")
    layer.add(box_at(6, 20), shape_type="rectangle")
    assert cells.values == [value]
    set_cells = np.argwhere(cells.plane()).tolist()
    assert set_cells == [[0, 2], [1, 2], [2, 2]]


def test_colours_and_signs_stay_with_each_marker(opened) -> None:
    _viewer, markers, cells = opened()
    for tool, place in (("+ point", (1, 1)), ("- point", (20, 20)), ("+ point", (40, 40))):
        markers.use(tool)
        markers.layers[0].add(place)
    layer = markers.layers[0]
    np.testing.assert_array_equal(layer.face_color[0], layer.face_color[2])
    assert (layer.face_color[0] != layer.face_color[1]).any()
    assert layer.features["prompt"].tolist() == ["on", "off", "on"]
    assert cells.said == ["Add point", "Exclude point", "Add point"]
    markers.use("- box")
    markers.layers[1].add(box_at(2, 2), shape_type="rectangle")
    markers.use("+ box")
    markers.layers[1].add(box_at(20, 20), shape_type="rectangle")
    shapes = markers.layers[1]
    assert (shapes.edge_color[0] != shapes.edge_color[1]).any()
    assert shapes.features["prompt"].tolist() == ["off", "on"]
    assert cells.said[3:] == ["Exclude box", "Add box"]


@pytest.mark.parametrize(
    ("axes", "point", "index"),
    [
        ("TZYX", (1, 2, 17, 30), (1, 2)),
        ("ZXY", (2, 30, 17), (2,)),
        ("ZCYX", (1, 0, 17, 30), (1,)),
        ("YXZ", (17, 30, 2), (2,)),
    ],
)
def test_markers_of_stacks_are_on_their_plane(opened, axes: str, point: Any, index: Any) -> None:
    _viewer, markers, cells = opened(axes)
    markers.use("+ point")
    markers.layers[0].add(point)
    assert list(cells.state) == [index]
    assert np.argwhere(cells.plane(index)).tolist() == [[2, 3]]


def test_markers_beside_the_image_set_nothing(opened) -> None:
    _viewer, markers, cells = opened("ZYX")
    markers.use("+ point")
    for point in ((0, -5, 5), (0, 5, 70), (5, 5, 5)):
        markers.layers[0].add(point)
    markers.use("+ box")
    markers.layers[1].add(np.insert(box_at(100, 100), 0, 1, axis=1), shape_type="rectangle")
    assert not cells.said


def test_undone_markers_go_and_those_of_other_planes_stay(opened) -> None:
    _viewer, markers, cells = opened("ZYX")
    markers.use("+ point")
    (layer,) = markers.layers
    for point in ((0, 1, 1), (0, 17, 30), (1, 1, 1)):
        layer.add(point)
    markers.show((0,), view_of(cells.plane((0,))))
    assert len(layer.data) == 3
    cells.plane((0,))[2, 3] = 1  # undone: on by the model alone
    markers.show((0,), view_of(cells.plane((0,))))
    np.testing.assert_array_equal(layer.data, [[0, 1, 1], [1, 1, 1]])
    assert len(cells.said) == 3, "a marker that goes by itself reported something"
    layer.add((0, 40, 40))
    assert len(cells.said) == 4


def test_a_box_stays_while_one_of_its_cells_is_its_own(opened) -> None:
    _viewer, markers, cells = opened()
    markers.use("- box")
    (layer,) = markers.layers
    layer.add(box_at(6, 20), shape_type="rectangle")
    cells.plane()[0, 2] = 2
    markers.show((), view_of(cells.plane()))
    assert len(layer.data) == 1
    cells.plane()[1:3, 2] = 0
    markers.show((), view_of(cells.plane()))
    assert len(layer.data) == 0


def test_a_marker_that_the_user_removes_gives_its_cells_back(opened) -> None:
    _viewer, markers, cells = opened()
    markers.use("+ point")
    markers.layers[0].add((1, 1))
    markers.layers[0].add((17, 30))
    markers.layers[0].selected_data = {0}
    markers.layers[0].remove_selected()
    assert np.argwhere(cells.plane()).tolist() == [[2, 3]]
    markers.use("+ box")
    markers.layers[1].add(box_at(30, 50), shape_type="rectangle")
    markers.layers[1].selected_data = {0}
    markers.layers[1].remove_selected()
    assert np.argwhere(cells.plane()).tolist() == [[2, 3]]
    assert cells.said[-2:] == ["Add box", "Remove box"]


def test_the_tool_in_hand_is_told(opened) -> None:
    viewer, markers, _cells = opened()
    said: list[str] = []
    markers.tool_changed.connect(said.append)
    for tool in TOOLS:
        markers.use(tool)
        assert markers.tool == tool
    markers.layers[1].mode = "select"
    markers.use("+ point")
    viewer.layers.selection.active = viewer.layers[0]
    markers.use("- box")
    markers.put_down()
    assert said == [*TOOLS, "", "+ point", "", "- box", ""]


def test_keys_on_marker_layers_ask_for_undo(opened) -> None:
    _viewer, markers, _cells = opened()
    asked: list[str] = []
    markers.undo_wanted.connect(lambda: asked.append("undo"))
    markers.redo_wanted.connect(lambda: asked.append("redo"))
    markers.use("+ point")
    markers.use("+ box")
    for layer in markers.layers:
        keys = KeymapHandler()
        keys.keymap_providers = [layer]
        keys.press_key(UNDO)
        keys.press_key(REDO)
    assert asked == ["undo", "redo"] * 2


def test_deleted_layers_come_back_with_their_tool(opened) -> None:
    viewer, markers, cells = opened()
    markers.use("+ point")
    (layer,) = markers.layers
    viewer.layers.remove(layer)
    assert markers.tool == ""
    layer.add((1, 1))
    assert not cells.said
    markers.use("- point")
    assert markers.layers[0] is not layer
    markers.layers[0].add((1, 1))
    assert cells.values == [OFF]


def test_removing_leaves_the_viewer_as_it_was(opened) -> None:
    viewer, markers, cells = opened()
    markers.use("+ point")
    markers.use("+ box")
    markers.remove()
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert not cells.said


def test_drawing_with_the_mouse(opened, make_napari_viewer, mouse) -> None:
    """Through Qt's mouse events: a click makes a point, a drag makes one box."""
    viewer, markers, cells = opened(
        viewer=make_napari_viewer(show=True), scale=(0.5, 0.5), translate=(7.0, -3.0)
    )
    image, pointer = viewer.layers[0], mouse(viewer)
    viewer.reset_view()

    def world(y: float, x: float) -> tuple[float, float]:
        return tuple(image.data_to_world((y, x)))

    markers.use("- point")
    pointer.click(world(19, 28))
    assert np.argwhere(cells.plane() == 3).tolist() == [[2, 3]]
    markers.use("+ box")
    pointer.drag(world(26, 34), world(30, 40), world(44, 50))
    assert cells.values == [OFF, ON]
    assert np.argwhere(cells.plane() == 2).tolist() == [
        [r, c] for r in (3, 4, 5) for c in (4, 5, 6)
    ]
    pointer.press(world(2, 2))
    pointer.move(world(4, 4))
    markers.show((), view_of(cells.plane()))  # a result that comes in the middle of a drag
    pointer.move(world(6, 6))
    pointer.release(world(6, 6))
    assert cells.values == [OFF, ON, ON]
    assert cells.plane()[0, 0] == 2
    assert len(markers.layers[1].data) == 2
    markers.show((), view_of(np.zeros((6, 8), np.uint8)))
    assert [len(layer.data) for layer in markers.layers] == [0, 0]


@pytest.mark.parametrize("how", ["a handler fails", "replaced"])
def test_layers_whose_removal_was_not_heard_of_are_let_go_of(opened, how: str) -> None:
    viewer, markers, cells = opened()
    markers.use("+ point")
    (layer,) = markers.layers

    def fail(event: Any) -> None:
        raise ZeroDivisionError

    if how == "replaced":
        viewer.layers[viewer.layers.index(layer)] = Points(name="other")
    else:
        viewer.layers.events.removed.connect(fail, position="first")
        with pytest.raises(ZeroDivisionError):
            viewer.layers.remove(layer)
        viewer.layers.events.removed.disconnect(fail)
    markers.show((), view_of(np.zeros((6, 8), np.uint8)))
    assert markers.layers == ()
    layer.add((1, 1))
    assert not cells.said
    markers.use("- point")
    (again,) = markers.layers
    assert again is not layer
    assert again in viewer.layers
    again.add((1, 1))
    assert cells.values == [OFF]

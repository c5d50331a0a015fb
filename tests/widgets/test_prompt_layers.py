"""What is done to the layer of prompt cells becomes edits, through every tool that napari has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from app_model.types import KeyCode, KeyMod
from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtCore import QObject

from napari_espmedsam.inference.prompts import OFF, ON
from napari_espmedsam.studio.events import PromptView
from napari_espmedsam.widgets.layers import describe
from napari_espmedsam.widgets.prompt_layers import PromptLayers

CELL = 8


def make_view(shape: tuple[int, int] = (6, 8), seed: int = 0) -> PromptView:
    """Return a view in which the model proposes the upper half."""
    heat = np.random.default_rng(seed).random(shape, dtype=np.float32)
    state = np.zeros(shape, np.uint8)
    state[: shape[0] // 2] = 1
    return PromptView(heat, state, (CELL, CELL), ((CELL - 1) / 2, (CELL - 1) / 2))


@dataclass
class Heard:
    """Edits as they came, put onto a canvas like a session does."""

    edits: np.ndarray
    strokes: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def take(self, box: Any, values: np.ndarray, stroke: int) -> None:
        before = self.edits[box].copy()
        self.edits[box] = values
        self.sizes.append(int((before != values).sum()))
        self.strokes.append(stroke)


@pytest.fixture
def shown(parent: QObject) -> Callable[..., tuple[Any, PromptLayers, Heard]]:
    """Return a function that shows prompts on an image in a viewer without a window."""
    kept = []

    def show(
        viewer: Any = None, view: PromptView | None = None, axes: str = "YX", **place: Any
    ) -> tuple[Any, PromptLayers, Heard]:
        viewer = ViewerModel() if viewer is None else viewer
        view = make_view() if view is None else view
        height, width = (n * CELL for n in view.state.shape)
        shape = {"Y": height, "X": width, "Z": 3}
        image = viewer.add_image(
            np.zeros([shape[letter] for letter in axes], np.uint8), name="cells", rgb=False, **place
        )
        layers = PromptLayers(viewer, describe(image), axes, parent)
        kept.append(layers)
        heard = Heard(np.full(view.state.shape, -1, np.int8))
        layers.edited.connect(heard.take)
        layers.show(view)
        return viewer, layers, heard

    yield show
    for layers in kept:
        layers.remove()


def only(shape: tuple[int, int], cells: dict[tuple[int, int], int]) -> np.ndarray:
    """Return edits that are untouched but for some cells."""
    edits = np.full(shape, -1, np.int8)
    for cell, value in cells.items():
        edits[cell] = value
    return edits


def test_two_layers_show_heat_and_cells(shown) -> None:
    viewer, layers, heard = shown()
    names = [layer.name for layer in viewer.layers]
    assert names == ["cells", "Prompt heat map of cells", "Prompts of cells"]
    np.testing.assert_array_equal(layers.cells.data, make_view().state)
    np.testing.assert_array_equal(layers.heat.data, make_view().heat)
    assert layers.cells.brush_size == 1
    assert layers.cells.selected_label == 2
    assert viewer.layers.selection.active is layers.cells
    assert not heard.strokes


def test_brush_turns_cells_on_and_eraser_off(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.paint((5, 2), 2)
    layers.cells.paint((5, 3), 7)  # any number that is not 0 or 3 means on
    layers.cells.paint((0, 4), 0)
    layers.cells.paint((0, 5), 3)
    qtbot.wait(1)
    expected = only((6, 8), {(5, 2): ON, (5, 3): ON, (0, 4): OFF, (0, 5): OFF})
    np.testing.assert_array_equal(heard.edits, expected)
    shown_now = [layers.cells.data[cell] for cell in ((5, 2), (5, 3), (0, 4), (0, 5))]
    qtbot.wait(1)
    assert shown_now == [2, 2, 3, 3]


def test_a_cell_that_the_model_has_on_can_be_pinned(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.paint((0, 0), 2)
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(0, 0): ON}))


def test_painting_what_is_there_already_is_no_edit(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.paint((0, 0), 0)
    layers.cells.paint((0, 0), 0)  # it is 3 by now, and means the same
    layers.cells.paint((5, 5), 0)  # off already
    qtbot.wait(1)
    assert len(heard.strokes) == 1
    assert layers.cells.data[0, 0] == 3


@pytest.mark.parametrize("contiguous", [True, False])
def test_fill_bucket(shown, qtbot, contiguous: bool) -> None:
    _viewer, layers, heard = shown()
    layers.cells.contiguous = contiguous
    layers.cells.fill((1, 1), 0)
    expected = np.full((6, 8), -1, np.int8)
    expected[:3] = OFF
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, expected)
    assert len(heard.strokes) == 1


def test_polygon(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.paint_polygon(np.array([[4, 1], [4, 4], [5, 4], [5, 1]]), 2)
    expected = np.full((6, 8), -1, np.int8)
    expected[4:6, 1:5] = ON
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, expected)


def test_undo_of_napari_is_an_edit_like_any_other(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.paint((5, 2), 2)
    qtbot.wait(1)
    layers.cells.undo()
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(5, 2): OFF}))
    layers.cells.redo()
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(5, 2): ON}))


def test_changes_by_scripts_are_found(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.data[4, 4] = 2
    layers.cells.refresh()
    qtbot.wait(1)
    layers.cells.data_setitem((np.array([3]), np.array([3])), 2)
    other = layers.cells.data.copy()
    other[5, 5] = 2
    layers.cells.data = other
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(4, 4): ON, (3, 3): ON, (5, 5): ON}))


def test_many_changes_in_one_go_are_one_edit(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    with layers.cells.block_history():  # as a drag does
        for column in range(8):
            layers.cells.paint((4, column), 2)
        qtbot.wait(1)
        assert heard.sizes == [8]
        layers.cells.paint((5, 0), 2)
    qtbot.wait(1)
    assert heard.sizes == [8, 1]
    assert heard.strokes == [0, 0], "one drag is one stroke"
    layers.cells.paint((5, 1), 2)
    qtbot.wait(1)
    assert heard.strokes == [0, 0, 1]


def test_edits_made_before_are_sent_along_in_the_box(shown, qtbot) -> None:
    """The box of a stroke may hold cells edited earlier; they must stay as they are."""
    view = make_view()
    view.state[4, 3], view.state[1, 3] = 2, 3
    _viewer, layers, heard = shown(view=view)
    heard.edits[4, 3], heard.edits[1, 3] = ON, OFF
    with layers.cells.block_history():
        layers.cells.paint((0, 2), 0)
        layers.cells.paint((5, 4), 2)
    expected = only((6, 8), {(4, 3): ON, (1, 3): OFF, (0, 2): OFF, (5, 4): ON})
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, expected)


def test_what_is_shown_never_comes_back(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    for seed in range(5):
        view = make_view(seed=seed)
        view.state[...] = np.random.default_rng(seed).integers(0, 4, view.state.shape)
        layers.show(view)
        qtbot.wait(1)
        np.testing.assert_array_equal(layers.cells.data, view.state)
        np.testing.assert_array_equal(layers.heat.data, view.heat)
    layers.show(make_view((3, 4)))
    layers.blank()
    qtbot.wait(1)
    assert not layers.cells.data.any()
    assert not heard.strokes


def test_painting_that_was_not_reported_yet_is_reported_before_a_new_view(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    with layers.cells.block_history():
        layers.cells.paint((5, 2), 2)
        layers.show(make_view(seed=3))
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(5, 2): ON}))


def test_a_view_of_other_cells_moves_the_layers(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    state = np.ones((48, 64), np.uint8)
    layers.show(PromptView(np.ones((48, 64), np.float32), state, (1.0, 1.0), (0.0, 0.0)))
    assert layers.cells.data.shape == layers.heat.data.shape == (48, 64)
    np.testing.assert_allclose(layers.cells.scale, (1, 1))
    np.testing.assert_allclose(layers.cells.extent.world, [[0, 0], [47, 63]])
    layers.cells.paint((40, 60), 0)
    qtbot.wait(1)
    assert heard.strokes == [0]


@pytest.mark.parametrize("axes", ["ZYX", "XY", "ZXY", "YXZ"])
def test_edits_are_rows_and_columns_whatever_the_axes(shown, qtbot, axes: str) -> None:
    _viewer, layers, heard = shown(axes=axes)
    letters = axes.replace("Z", "", 1) if axes.startswith("Z") else axes
    layers.cells.n_edit_dimensions = layers.cells.ndim
    layers.cells.paint([{"Y": 5, "X": 2}.get(letter, 0) for letter in letters], 2)
    qtbot.wait(1)
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(5, 2): ON}))


def test_keys_ask_for_the_sessions_undo(shown, qtbot) -> None:
    from napari.utils.key_bindings import KeymapHandler

    _viewer, layers, heard = shown()
    asked: list[str] = []
    layers.undo_wanted.connect(lambda: asked.append("undo"))
    layers.redo_wanted.connect(lambda: asked.append("redo"))
    layers.cells.paint((5, 2), 2)
    qtbot.wait(1)
    keys = KeymapHandler()
    keys.keymap_providers = [layers.cells]
    assert keys.press_key(KeyMod.CtrlCmd | KeyCode.KeyZ)
    assert keys.press_key(KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ)
    qtbot.wait(1)
    assert asked == ["undo", "redo"]
    assert layers.cells.data[5, 2] == 2, "napari's own undo ran as well"
    assert len(heard.strokes) == 1


def test_deleted_and_renamed_layers_are_harmless(shown, qtbot) -> None:
    viewer, layers, heard = shown()
    told: list[bool] = []
    layers.deleted.connect(lambda: told.append(True))
    layers.cells.name = "mine"
    layers.show(make_view(seed=1))
    viewer.layers.remove(layers.heat)
    layers.show(make_view(seed=2))
    layers.cells.paint((5, 2), 2)
    qtbot.wait(1)
    assert len(heard.strokes) == 1
    cells = layers.cells
    viewer.layers.remove(cells)
    assert told == [True]
    layers.show(make_view(seed=3))
    layers.blank()
    cells.paint((5, 3), 2)
    qtbot.wait(1)
    assert len(heard.strokes) == 1
    assert [layer.name for layer in viewer.layers] == ["cells"]
    layers.remove()
    layers.show(make_view())
    assert len(viewer.layers) == 3


def test_removing_leaves_the_viewer_as_it_was(shown) -> None:
    viewer, layers, _heard = shown()
    layers.remove()
    layers.remove()
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_a_replaced_array_of_another_shape_is_put_right_by_the_next_view(shown, qtbot) -> None:
    _viewer, layers, heard = shown()
    layers.cells.data = np.ones((3, 3), np.uint8)
    qtbot.wait(1)
    assert not heard.strokes
    layers.show(make_view())
    np.testing.assert_array_equal(layers.cells.data, make_view().state)


def test_following_an_image_that_moves(shown) -> None:
    viewer, layers, _heard = shown()
    image = viewer.layers[0]
    image.scale, image.translate = (0.5, 0.5), (10, 20)
    layers.place_on(describe(image))
    for layer in (layers.cells, layers.heat):
        np.testing.assert_allclose(layer.data_to_world((0, 0)), image.data_to_world((3.5, 3.5)))
        np.testing.assert_allclose(layer.scale, (4, 4))


@pytest.mark.parametrize("place", [{}, {"scale": (0.5, 0.5), "translate": (7.0, -3.0)}])
def test_a_click_toggles_and_a_drag_paints(
    shown, make_napari_viewer, mouse, place: dict[str, Any]
) -> None:
    """Through Qt's mouse events on the canvas of a window."""
    viewer, layers, heard = shown(viewer=make_napari_viewer(show=True), **place)
    image, pointer = viewer.layers[0], mouse(viewer)
    viewer.reset_view()

    def middle(row: int, column: int) -> tuple[float, float]:
        return tuple(image.data_to_world((row * CELL + 3.5, column * CELL + 3.5)))

    pointer.click(middle(1, 2))  # on by the model
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(1, 2): OFF}))
    pointer.click(middle(1, 2))
    np.testing.assert_array_equal(heard.edits, only((6, 8), {(1, 2): ON}))
    pointer.drag(middle(5, 1), middle(5, 4))  # moves the camera, and toggles nothing
    assert len(heard.strokes) == 2
    viewer.reset_view()
    layers.cells.mode = "paint"
    pointer.drag(middle(5, 1), middle(5, 2), middle(5, 4))
    cells = {(1, 2): ON} | {(5, column): ON for column in range(1, 5)}
    np.testing.assert_array_equal(heard.edits, only((6, 8), cells))
    assert len(set(heard.strokes[2:])) == 1, "one drag is one stroke"
    layers.cells.mode = "erase"
    pointer.drag(middle(5, 2), middle(5, 3))
    assert heard.edits[5].tolist() == [-1, ON, OFF, OFF, ON, -1, -1, -1]


def test_cells_are_let_go_of_where_another_handler_of_the_removal_fails(
    shown: Callable[..., Any],
) -> None:
    viewer, layers, _ = shown()
    told = []
    layers.deleted.connect(lambda: told.append(True))

    def fail(event: Any) -> None:
        raise ZeroDivisionError

    viewer.layers.events.removed.connect(fail, position="first")
    with pytest.raises(ZeroDivisionError):
        viewer.layers.remove(layers.cells)
    viewer.layers.events.removed.disconnect(fail)
    layers.show(make_view(seed=1))
    assert layers.cells is None
    assert told == [True]


def test_cells_that_were_replaced_in_the_list_are_let_go_of(shown: Callable[..., Any]) -> None:
    viewer, layers, _ = shown()
    viewer.layers[viewer.layers.index(layers.cells)] = Points(name="other")
    layers.show(make_view(seed=1))
    assert layers.cells is None

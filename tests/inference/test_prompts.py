"""The prompt canvas: one picture of the prompts of all tiles, and edits that know no tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import PlaneGeometry, plan_geometry
from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED, PromptCanvas, tile_prompt
from napari_espmedsam.inference.tiling import LogitBlender, TileSpec
from napari_espmedsam.model.header import InputSpec

Array = np.ndarray[Any, np.dtype[Any]]

shapes = st.tuples(st.integers(20, 300), st.integers(20, 300))
tiles = st.sampled_from([TileSpec(64, 0), TileSpec(64, 16), TileSpec(96, 16), TileSpec(160, 32)])
cells = st.sampled_from([1, 32])


def geometry_of(
    shape: tuple[int, int], tile: TileSpec | None = None, scale: float = 1.0
) -> PlaneGeometry:
    spec = InputSpec(geometry="whole" if tile is None else "tiled", size=128)
    if tile is None:
        return plan_geometry(shape, spec)
    return plan_geometry(shape, spec, tile=tile, scale=scale)


def per_tile(canvas: PromptCanvas, plane: Array) -> Array:
    """Cut a plane of all cells, padding included, into tiles."""
    return np.stack([plane[canvas.grid.slices(i, canvas.cell)] for i in range(len(canvas.grid))])


def padded(canvas: PromptCanvas, edits: Array) -> Array:
    full = [n // canvas.cell for n in canvas.grid.plane]
    return np.pad(
        edits, [(0, a - b) for a, b in zip(full, canvas.shape, strict=True)], mode="reflect"
    )


@settings(max_examples=60, deadline=None)
@given(shape=shapes, tile=tiles, cell=cells, seed=st.integers(0, 99))
def test_edits_reach_each_tile_and_come_back_as_one_picture(
    shape: tuple[int, int], tile: TileSpec, cell: int, seed: int
) -> None:
    canvas = PromptCanvas(geometry_of(shape, tile), cell)
    generator = np.random.default_rng(seed)
    proposal = generator.random((len(canvas.grid), *canvas.tile_shape)) < 0.5
    edits = generator.integers(-1, 2, canvas.shape).astype(np.int8)
    expected = per_tile(canvas, padded(canvas, edits))
    expected = np.where(expected == UNTOUCHED, proposal, expected == ON)
    applied = canvas.apply(proposal, edits)
    np.testing.assert_array_equal(applied, expected)
    picture = canvas.combine(applied)
    touched = edits != UNTOUCHED
    np.testing.assert_array_equal(picture[touched], edits[touched] == ON)
    np.testing.assert_array_equal(canvas.apply(proposal, canvas.empty()), proposal)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, tile=tiles, cell=cells, seed=st.integers(0, 99))
def test_a_box_names_the_tiles_that_its_edit_changes(
    shape: tuple[int, int], tile: TileSpec, cell: int, seed: int
) -> None:
    canvas = PromptCanvas(geometry_of(shape, tile), cell)
    generator = np.random.default_rng(seed)
    bounds = [np.sort(generator.integers(0, n + 1, 2)) for n in canvas.shape]
    box = slice(*bounds[0].tolist()), slice(*bounds[1].tolist())
    edits = canvas.empty()
    edits[box] = ON
    changed = canvas.apply(np.zeros((len(canvas.grid), *canvas.tile_shape), bool), edits)
    assert canvas.tiles_of(box) == tuple(np.flatnonzero(changed.any((1, 2))))


@pytest.mark.parametrize("cell", [1, 32])
def test_the_picture_shows_the_tile_that_decides(cell: int) -> None:
    """What the blending would take most of, seen through the blender itself."""
    canvas = PromptCanvas(geometry_of((200, 330), TileSpec(128, 32)), cell)
    n = len(canvas.grid)
    shown = canvas.combine(np.arange(n)[:, None, None] * np.ones((1, *canvas.tile_shape), int))
    weights = []
    for i in range(n):
        blender = LogitBlender(canvas.grid)
        for j in range(n):
            blender.add(j, np.full(canvas.tile_shape, float(i == j), np.float32))
        weights.append(blender.result())
    rows, columns = canvas.shape
    np.testing.assert_array_equal(shown, np.argmax(weights, axis=0)[:rows, :columns])


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    tile=st.none() | tiles,
    cell=cells,
    scale=st.sampled_from([0.8, 1.0, 1.7]),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_cells_lie_where_the_layer_shows_them(
    shape: tuple[int, int],
    tile: TileSpec | None,
    cell: int,
    scale: float,
    at: tuple[float, float],
) -> None:
    canvas = PromptCanvas(geometry_of(shape, tile, scale), cell)
    y, x = (share * n - 0.5 for share, n in zip(at, shape, strict=True))
    found = canvas.cell_at(y, x)
    steps, shifts = canvas.image_affine()
    for place, index, step, shift in zip((y, x), found, steps, shifts, strict=True):
        assert abs(step * index + shift - place) <= step / 2 + 1e-6


def test_cells_have_the_place_and_the_size_that_they_should() -> None:
    canvas = PromptCanvas(geometry_of((100, 200), TileSpec(64, 16)), 32)
    assert canvas.shape == (4, 7)
    assert canvas.image_affine() == ((32.0, 32.0), (15.5, 15.5))
    assert canvas.cell_at(31.4, 32.0) == (0, 1)
    assert canvas.cell_at(99.5, 199.5) == (3, 6)
    whole = PromptCanvas(geometry_of((64, 256)), 32)  # squeezed to 128 x 128
    assert whole.image_affine() == ((16.0, 64.0), (7.5, 31.5))
    assert whole.cell_at(17, 63) == (1, 0)
    mask = PromptCanvas(geometry_of((100, 200), TileSpec(64, 16), 2.0), 1)
    assert mask.shape == (200, 400)
    assert mask.image_affine() == ((0.5, 0.5), (-0.25, -0.25))


def test_a_rectangle_takes_the_cells_that_it_touches() -> None:
    canvas = PromptCanvas(geometry_of((100, 200), TileSpec(64, 16)), 32)
    assert canvas.cells_of(40, 70, 10, 40) == (slice(0, 2), slice(1, 3))
    assert canvas.cells_of(-0.5, -0.5, 31.5, 63.5) == (slice(0, 1), slice(0, 2))
    assert canvas.cells_of(-90, 150, 5, 1e9) == (slice(0, 1), slice(4, 7))
    assert canvas.cells_of(99.5, 199.5, 99.5, 199.5) == (slice(3, 4), slice(6, 7))
    with pytest.raises(InputError, match=r"does not meet the image of 100 x 200 px"):
        canvas.cells_of(-9, 0, -1, 5)


@pytest.mark.parametrize("point", [(-0.6, 0), (99.6, 0), (0, 200), (float("nan"), 0)])
def test_points_beside_the_image_are_refused(point: tuple[float, float]) -> None:
    canvas = PromptCanvas(geometry_of((100, 200), TileSpec(64, 16)), 32)
    with pytest.raises(InputError, match=r"lies outside the image of 100 x 200 px"):
        canvas.cell_at(*point)


@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 5), slice(0, 1)),
        (slice(-1, 2), slice(0, 1)),
        (slice(None), slice(0, 1)),
        (slice(2, 1), slice(0, 1)),
        (slice(0, 4, 2), slice(0, 1)),
        (slice(0.0, 1.0), slice(0, 1)),
    ],
)
def test_boxes_beyond_the_canvas_are_refused(box: Any) -> None:
    canvas = PromptCanvas(geometry_of((100, 200), TileSpec(64, 16)), 32)
    with pytest.raises(InputError, match=r"does not lie on the prompt canvas of 4 x 7 cells"):
        canvas.tiles_of(box)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (np.zeros((7, 4)), r"shape \(7, 4\).*canvas of this plane is \(4, 7\)"),
        (np.full((4, 7), 2), r"beyond -1, 0 and 1"),
        (np.full((4, 7), 0.5), r"beyond -1, 0 and 1"),
        (np.full((4, 7), np.nan), r"beyond -1, 0 and 1"),
        (np.full((4, 7), "on"), r"type <U2"),
    ],
)
def test_edits_that_do_not_fit_are_refused(edits: Any, message: str) -> None:
    canvas = PromptCanvas(geometry_of((100, 200), TileSpec(64, 16)), 32)
    with pytest.raises(InputError, match=message):
        canvas.check(edits)
    assert canvas.check(canvas.empty().tolist()).dtype == np.int8


def test_cells_that_cross_the_borders_of_tiles_are_refused() -> None:
    geometry = geometry_of((100, 200), TileSpec(96, 16))
    with pytest.raises(InputError, match=r"64 px wide.*multiples of 64 px"):
        PromptCanvas(geometry, 64)
    assert PromptCanvas(geometry, 16).shape == (7, 13)


def test_a_prompt_that_is_the_models_own_is_none() -> None:
    values = np.array([[0.2, 0.6]], np.float32)
    own = values >= 0.5
    assert tile_prompt(own, values) is None
    assert tile_prompt(own, values, threshold=0.4) is None
    np.testing.assert_array_equal(tile_prompt(own, values, threshold=0.1), [[True, True]])
    edits = np.array([[OFF, ON]], np.int8)
    assert tile_prompt(own, values, edits) is None
    np.testing.assert_array_equal(tile_prompt(own, values, edits[:, ::-1]), [[True, False]])
    np.testing.assert_array_equal(
        tile_prompt(own, values, np.array([[ON, UNTOUCHED]], np.int8), 0.9), [[True, False]]
    )

"""Tiles cover a plane, and their weights add up to one everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.tiling import GRID, LogitBlender, TileSpec, make_grid

sides = st.integers(1, 24).map(lambda n: n * GRID)
specs = st.integers(2, 8).flatmap(
    lambda n: st.integers(0, n // 2).map(lambda halo: TileSpec(n * GRID, halo * GRID // 2))
)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, spec=specs)
def test_constant_logits_stay_constant(height: int, width: int, spec: TileSpec) -> None:
    grid = make_grid((height, width), spec)
    blender = LogitBlender(grid)
    for i in range(len(grid)):
        blender.add(i, np.full((grid.tile[0] // 4, grid.tile[1] // 4), -3.0, np.float32))
    np.testing.assert_allclose(blender.result(), -3.0, atol=1e-5)
    assert blender.result().shape == (height // 4, width // 4)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, spec=specs)
def test_tiles_cover_the_plane_on_the_grid_of_prompt_cells(
    height: int, width: int, spec: TileSpec
) -> None:
    grid = make_grid((height, width), spec)
    covered = np.zeros((height // GRID, width // GRID), int)
    for i in range(len(grid)):
        rows, columns = grid.slices(i)
        assert rows.start % GRID == columns.start % GRID == 0
        assert (rows.stop - rows.start, columns.stop - columns.start) == grid.tile
        covered[grid.slices(i, GRID)] += 1
    assert covered.min() >= 1


def test_neighbours_overlap_by_twice_the_halo() -> None:
    grid = make_grid((64, 256), TileSpec(64, 16))
    assert grid.rows == (0,)
    assert grid.columns == (0, 32, 64, 96, 128, 160, 192)


def test_a_tile_says_nothing_at_its_own_inner_edge() -> None:
    """Where a tile sees least of the surroundings, its neighbour decides."""
    grid = make_grid((64, 224), TileSpec(128, 16))
    assert grid.columns == (0, 96)
    blender = LogitBlender(grid)
    blender.add(0, np.ones((16, 32), np.float32))
    blender.add(1, np.zeros((16, 32), np.float32))
    weight = blender.result()[0]  # of the first tile
    assert (np.diff(weight) <= 1e-6).all()
    np.testing.assert_allclose(weight[:24], 1.0)  # 96 px: the second tile has not begun
    np.testing.assert_allclose(weight[32:], 0.0)
    assert weight[31] < 0.06
    assert weight[24] > 0.94


@pytest.mark.parametrize("size", [0, 32, 63, 100, 4096])
def test_tile_sizes_are_checked(size: int) -> None:
    with pytest.raises(
        InputError, match=rf"tile size is {size} px.*multiple of 32 from 64 to 2048"
    ):
        TileSpec(size, 0)


@pytest.mark.parametrize("halo", [-16, 8, 80])
def test_halos_are_checked(halo: int) -> None:
    with pytest.raises(InputError, match=rf"tile halo is {halo} px.*multiple of 16 from 0 to 64"):
        TileSpec(256, halo)


@pytest.mark.parametrize(
    ("size", "halo"), [(64, 16), (96, 16), (128, 16), (256, 32), (512, 64), (1024, 128)]
)
def test_default_halo_is_an_eighth_and_never_nothing(size: int, halo: int) -> None:
    assert TileSpec.of_size(size) == TileSpec(size, halo)

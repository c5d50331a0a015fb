"""Scale from diameter or pixel size, and the way to model pixels and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import plan_geometry, resize
from napari_espmedsam.inference.scale import SCALE_OPTIONS, resolve_scale, unused_options
from napari_espmedsam.inference.tiling import TileSpec

MakeSpec = Callable[..., Any]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 2.0),
        ({"scale": 0.7}, 0.7),
        ({"diameter": 60.0}, 0.5),  # objects of 60 px become 30 px, as trained
        ({"diameter": 10.0}, 3.0),
        ({"pixel_size": 0.5}, 2.0),  # 0.5 um per image px, 0.25 um per model px
        ({"pixel_size": 0.1}, 0.4),
    ],
)
def test_scale_follows_from_diameter_or_pixel_size(
    options: dict[str, float], expected: float, make_spec: MakeSpec
) -> None:
    spec = make_spec(scale=2.0, diameter=30.0, pixel_size=0.25)
    assert resolve_scale(spec, **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1.0, "diameter": 30.0}, r"scale=1 and diameter=30"),
        ({"scale": 1.0, "diameter": 30.0, "pixel_size": 2.0}, r"diameter=30 and pixel_size=2"),
        ({"scale": 0.01}, r"scale is 0.01, outside 0.05 to 20"),
        ({"diameter": 1}, r"diameter=1 gives a scale of 30, outside 0.05 to 20"),
        ({"scale": 0.0}, r"scale is 0, outside 0.05 to 20"),
        ({"scale": "2"}, r"scale is '2'. Give a number"),
        ({"diameter": float("nan")}, r"diameter is nan"),
        ({"pixel_size": -1.0}, r"pixel_size is -1"),
        ({"pixel_size": 0.5}, r"pixel_size is given.*not say which pixel size.*Set the scale"),
    ],
)
def test_impossible_scales_are_refused(
    options: dict[str, Any], message: str, make_spec: MakeSpec
) -> None:
    with pytest.raises(InputError, match=message):
        resolve_scale(make_spec(diameter=30.0), **options)


@pytest.mark.parametrize(
    ("image_shape", "scale", "model_shape", "padded", "n_tiles"),
    [
        ((64, 64), 1.0, (64, 64), (64, 64), 1),
        ((20, 50), 1.0, (20, 50), (32, 64), 1),  # no more than to the next multiple of 32
        ((100, 90), 2.0, (200, 180), (224, 192), 20),
        ((200, 400), 0.25, (50, 100), (64, 128), 3),
    ],
)
def test_planes_are_scaled_padded_and_tiled(
    image_shape: tuple[int, int],
    scale: float,
    model_shape: tuple[int, int],
    padded: tuple[int, int],
    n_tiles: int,
    make_spec: MakeSpec,
) -> None:
    geometry = plan_geometry(
        image_shape, make_spec(), scale=scale, tile=TileSpec(64, 16 if n_tiles == 3 else 0)
    )
    assert geometry.model_shape == model_shape
    assert geometry.grid.plane == padded
    assert geometry.to_model(np.zeros(image_shape, np.float32)).shape == padded
    rows, columns = (-(-p // 64) for p in padded)
    assert len(geometry.grid) == (n_tiles if n_tiles in (1, 3) else rows * columns)


def test_padding_reflects_the_image(make_spec: MakeSpec, rng: np.random.Generator) -> None:
    plane = rng.random((20, 17)).astype(np.float32)
    padded = plan_geometry((20, 17), make_spec()).to_model(plane)
    assert padded.shape == (32, 32)
    np.testing.assert_array_equal(padded[:20, :17], plane)
    np.testing.assert_array_equal(padded[20:, :17], plane[18:6:-1])


@pytest.mark.parametrize("geometry", ["whole", "tiled"])
@pytest.mark.parametrize("shape", [(64, 64), (50, 90), (90, 50), (31, 130)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.3])
def test_a_smooth_picture_comes_back_where_it_was(
    geometry: str, shape: tuple[int, int], scale: float, make_spec: MakeSpec
) -> None:
    """Half a pixel of shift would show as an error of the slope, 0.05."""
    rows, columns = np.indices(shape)
    plane = (0.1 * rows + 0.1 * columns).astype(np.float32)
    spec = make_spec(geometry=geometry, size=128)
    plan = plan_geometry(shape, spec, scale=None if geometry == "whole" else scale)
    padded = plan.to_model(plane)
    quarter = padded.reshape(padded.shape[0] // 4, 4, -1, 4).mean((1, 3))  # a model's stride of 4
    back = plan.to_image(quarter)
    assert back.shape == shape
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(back[inner], plane[inner], atol=0.02)


def test_shrinking_averages_so_that_nothing_thin_is_lost() -> None:
    plane = np.zeros((64, 64), np.float32)
    plane[::4] = 1.0
    np.testing.assert_allclose(resize(plane, (16, 16)), 0.25, atol=1e-6)


def test_enlarging_is_linear_about_pixel_centres(rng: np.random.Generator) -> None:
    plane = rng.random((9, 7)).astype(np.float32)
    grid = np.mgrid[:18, :14] / 2 - 0.25
    expected = ndimage.map_coordinates(plane, grid, order=1, mode="nearest")
    np.testing.assert_allclose(resize(plane, (18, 14)), expected, atol=1e-6)


def test_whole_planes_are_squeezed_into_a_square(make_spec: MakeSpec) -> None:
    geometry = plan_geometry((50, 200), make_spec(geometry="whole", size=96))
    assert geometry.to_model(np.zeros((50, 200, 3), np.float32)).shape == (96, 96, 3)
    assert len(geometry.grid) == 1
    assert geometry.scale is None


@pytest.mark.parametrize(
    "options", [{"scale": 1.0}, {"diameter": 5.0}, {"pixel_size": 1.0}, {"tile": TileSpec(64, 0)}]
)
def test_a_scale_means_nothing_for_whole_planes(
    options: dict[str, Any], make_spec: MakeSpec
) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(options))} is given.*64 x 64 px.*Leave"):
        plan_geometry((50, 50), make_spec(geometry="whole"), **options)


def test_what_a_modality_has_no_use_for_is_told(make_spec: MakeSpec) -> None:
    whole = unused_options(make_spec(geometry="whole", size=96))
    assert tuple(whole) == SCALE_OPTIONS
    assert "as a whole, resized to 96 x 96 px" in whole["diameter"]
    assert unused_options(make_spec(diameter=30.0, pixel_size=0.5)) == {}
    vessels = unused_options(make_spec())
    assert set(vessels) == {"diameter", "pixel_size"}
    assert "which pixel size" in vessels["pixel_size"]


def test_planes_that_get_too_small_or_too_large_are_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(InputError, match=r"100 x 100 px becomes 5 x 5 px at scale 0.05.*16 px"):
        plan_geometry((100, 100), make_spec(), scale=0.05)
    with pytest.raises(InputError, match=r"400000 x 400000 px.*million.*smaller scale"):
        plan_geometry((20_000, 20_000), make_spec(), scale=20.0)

"""One intensity range per image, robust and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.intensity import IntensityRange, measure_intensity

MakeSpec = Callable[..., Any]


def measure(image: Any, spec: Any, **options: Any) -> IntensityRange:
    return measure_intensity(PlaneStack.from_array(image, **options), spec)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float16, np.float64, ">u2"])
def test_percentiles_are_those_of_all_pixels(
    dtype: Any, make_spec: MakeSpec, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 200, (5, 40, 50)).astype(dtype)
    found = measure(image, make_spec(percentiles=(1.0, 99.0)))
    assert (found.low, found.high) == pytest.approx(np.percentile(image, (1, 99)))


def test_scaling_maps_the_range_to_zero_and_one_and_clips() -> None:
    plane = np.array([[0, 100], [150, 300]], np.uint16)
    rescaled = IntensityRange(100.0, 200.0).rescale(plane)
    assert rescaled.dtype == np.float32
    np.testing.assert_allclose(rescaled, [[0.0, 0.0], [0.5, 1.0]])


def test_small_contrast_on_a_large_offset_survives(make_spec: MakeSpec) -> None:
    """float32 alone would round 2**31 + (0..255) to multiples of 256."""
    plane = (2**31 + np.arange(1024).reshape(32, 32) // 4).astype(np.uint32)
    rescaled = measure(plane, make_spec()).rescale(plane)
    np.testing.assert_allclose(rescaled.ravel(), np.arange(1024) // 4 / 255, atol=1e-6)


def test_colours_share_one_range(make_spec: MakeSpec, rng: np.random.Generator) -> None:
    picture = rng.integers(50, 100, (30, 30, 3)).astype(np.uint8)
    picture[..., 2] += 100
    found = measure(picture, make_spec())
    assert (found.low, found.high) == (picture.min(), picture.max())


def test_one_speck_does_not_stretch_the_range(make_spec: MakeSpec) -> None:
    plane = np.tile(np.arange(100, dtype=np.uint16), (100, 1))
    spec = make_spec(percentiles=(0.5, 99.5))
    before = measure(plane, spec)
    plane[50, 50] = 65535
    after = measure(plane, spec)
    assert after.high == pytest.approx(before.high, abs=1.0)


def test_a_long_stack_is_sampled_evenly_and_always_alike(make_spec: MakeSpec) -> None:
    stack = np.zeros((100, 20, 20), np.uint16)
    stack += np.arange(100, dtype=np.uint16)[:, None, None]
    read: list[int] = []

    class Spy:
        shape, dtype = stack.shape, stack.dtype

        def __getitem__(self, key: tuple[Any, ...]) -> Any:
            read.append(key[0])
            return stack[key]

    found = measure(Spy(), make_spec())
    lazy = da.from_array(stack, chunks=(7, 20, 20))  # type: ignore[no-untyped-call]
    assert len(read) == 16
    assert (found.low, found.high) == (0, 99)
    assert measure(lazy, make_spec()) == found


def test_a_large_plane_is_sampled_on_a_grid(make_spec: MakeSpec) -> None:
    plane = np.tile(np.arange(3000, dtype=np.float32), (3000, 1))
    found = measure(plane, make_spec(percentiles=(10.0, 90.0)))
    assert (found.low, found.high) == pytest.approx((300, 2700), abs=5)


def test_equal_percentiles_fall_back_to_the_full_range(make_spec: MakeSpec) -> None:
    image = np.full((2, 50, 50), 7, np.uint8)
    image[1, 20, 20] = 90
    found = measure(image, make_spec(percentiles=(0.5, 99.5)))
    assert (found.low, found.high) == (7, 90)


@pytest.mark.parametrize("rescale", ["percentile", "dtype"])
@pytest.mark.parametrize(
    ("image", "value"),
    [
        (np.full((20, 20), 7, np.uint8), "7"),
        (np.full((3, 20, 20), 0.25), "0.25"),
        (np.full((20, 20, 3), (200, 100, 50), np.uint8), r"\[200, 100, 50\]"),
    ],
)
def test_images_without_contrast_are_refused(
    image: Any, value: str, rescale: str, make_spec: MakeSpec
) -> None:
    with pytest.raises(InputError, match=rf"All pixels of the image are {value}: .*no contrast"):
        measure(image, make_spec(rescale=rescale))


def test_a_pixel_that_the_sample_misses_is_contrast(make_spec: MakeSpec) -> None:
    image = np.zeros((40, 20, 20), np.uint8)
    image[1, 3, 3] = 9  # plane 1 of 40 is not among the sixteen that are sampled
    found = measure(image, make_spec())
    assert (found.low, found.high) == (0, 9)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.arange(40, 440, dtype=np.uint16).reshape(20, 20).astype(np.uint8), (0, 255)),
        (np.linspace(0.2, 0.7, 400).reshape(20, 20), (0, 1)),
        (np.linspace(0.2, 1.7, 400).reshape(20, 20), (0.2, 1.7)),
        (np.arange(400, dtype=np.uint16).reshape(20, 20), (0, 399)),
    ],
)
def test_the_range_of_the_type_is_used_where_there_is_an_agreed_one(
    image: Any, expected: tuple[float, float], make_spec: MakeSpec
) -> None:
    found = measure(image, make_spec(rescale="dtype"))
    assert (found.low, found.high) == pytest.approx(expected)


def test_the_byte_order_of_a_file_changes_nothing(rng: np.random.Generator) -> None:
    plane, limits = rng.normal(100, 30, (32, 32)).astype(np.float32), IntensityRange(3.3, 97.7)
    np.testing.assert_array_equal(limits.rescale(plane.astype(">f4")), limits.rescale(plane))

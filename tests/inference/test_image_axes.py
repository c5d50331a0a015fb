"""Axes, channels and colours: every order gives the plane that it should."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import PlaneStack, guess_axes

LENGTHS = {"T": 2, "Z": 3, "C": 2, "Y": 17, "X": 19}


@pytest.mark.parametrize(
    ("shape", "rgb", "expected"),
    [
        ((64, 70), False, "YX"),
        ((5, 64, 70), False, "ZYX"),
        ((4, 5, 64, 70), False, "TZYX"),
        ((4, 5, 2, 64, 70), False, "TZCYX"),
        ((64, 70, 3), True, "YXC"),
        ((64, 70, 2), False, "YXC"),
        ((5, 64, 70, 4), True, "ZYXC"),
        ((4, 5, 64, 70, 3), True, "TZYXC"),
        ((64, 70, 64), False, "ZYX"),
        ((3, 8, 8), False, "ZYX"),
    ],
)
def test_axes_are_guessed_from_the_shape(shape: tuple[int, ...], rgb: bool, expected: str) -> None:
    assert guess_axes(shape, rgb=rgb) == expected


@pytest.mark.parametrize("letters", ["YX", "ZYX", "CYX", "TZYX", "ZCYX", "TZCYX"])
def test_every_order_of_axes_reads_the_same_planes(letters: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 65535, [LENGTHS[letter] for letter in letters]).astype(np.uint16)
    for order in permutations(letters):
        moved = image.transpose([letters.index(letter) for letter in order])
        stack = PlaneStack.from_array(moved, "".join(order), channel=1 if "C" in order else None)
        assert stack.plane_shape == (17, 19)
        assert len(stack) == int(np.prod([LENGTHS[a] for a in stack.leading_axes]))
        for i in range(len(stack)):
            where: dict[str, Any] = dict(zip(stack.leading_axes, stack.index(i), strict=True))
            where["C"] = 1
            expected = image[tuple(where.get(letter, slice(None)) for letter in letters)]
            np.testing.assert_array_equal(stack.plane(i), expected)


def test_leading_axes_keep_the_order_of_the_image() -> None:
    stack = PlaneStack.from_array(np.zeros((3, 2, 20, 20)), "ZTYX")
    assert stack.leading_axes == "ZT"
    assert stack.index(3) == (1, 1)


@pytest.mark.parametrize("axes", ["YXS", "SYX", "YSX"])
def test_samples_are_colours_and_alpha_is_dropped(axes: str, rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (20, 24, 4)).astype(np.uint8)
    moved = picture.transpose(["YXS".index(letter) for letter in axes])
    stack = PlaneStack.from_array(moved, axes)
    assert stack.rgb
    np.testing.assert_array_equal(stack.plane(0), picture[..., :3])


def test_eight_bit_colours_are_recognised_and_sixteen_bit_ones_asked_about() -> None:
    assert PlaneStack.from_array(np.zeros((20, 20, 3), np.uint8)).rgb
    with pytest.raises(InputError, match=r"3 channels.*channel=0 to 2.*rgb=True"):
        PlaneStack.from_array(np.zeros((20, 20, 3), np.uint16))
    assert PlaneStack.from_array(np.zeros((20, 20, 3), np.uint16), rgb=True).rgb


def test_one_channel_of_a_colour_image_can_be_chosen(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
    stack = PlaneStack.from_array(picture, channel=1)
    assert not stack.rgb
    np.testing.assert_array_equal(stack.plane(0), picture[..., 1])


def test_three_fluorescence_channels_in_front_are_no_colours() -> None:
    with pytest.raises(InputError, match="3 channels"):
        PlaneStack.from_array(np.zeros((3, 20, 20), np.uint8), "CYX")


def test_a_single_channel_needs_no_choice() -> None:
    assert PlaneStack.from_array(np.zeros((2, 1, 20, 20)), "ZCYX").plane(1).shape == (20, 20)


def test_lazy_arrays_are_read_one_plane_at_a_time(rng: np.random.Generator) -> None:
    image = rng.random((4, 20, 24)).astype(np.float32)
    read: list[int] = []

    def load(block: Any, block_info: Any = None) -> Any:
        read.append(block_info[None]["chunk-location"][0])
        return block

    lazy = da.from_array(image, chunks=(1, 20, 24)).map_blocks(  # type: ignore[no-untyped-call]
        load, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    stack = PlaneStack.from_array(lazy)
    assert read == []
    np.testing.assert_array_equal(stack.plane(2), image[2])
    assert read == [2]


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros(()), {}, r"0 axes.*2 to 5 axes"),
        (np.zeros(8), {}, r"1 axes.*2 to 5 axes"),
        (np.zeros((1, 1, 1, 1, 20, 20)), {}, r"6 axes.*2 to 5 axes"),
        (np.zeros((0, 0)), {}, r"empty \(shape 0 x 0\).*16 or more"),
        (np.zeros((0, 20, 20)), {}, r"empty \(shape 0 x 20 x 20\)"),
        (np.zeros((1, 1)), {}, r"1 x 1 px.*16 px"),
        (np.zeros((20, 15)), {}, r"20 x 15 px.*16 px"),
        (np.zeros((20, 20), bool), {}, r"type bool.*astype\('uint8'\)"),
        (np.zeros((20, 20), complex), {}, r"type complex128.*numpy\.abs"),
        (np.full((20, 20), "a"), {}, r"type <U1.*integers and floats"),
        (np.full((20, 20), None), {}, r"type object"),
        ("image.tif", {}, r"type <U9"),
        (None, {}, r"None.*2 to 5 axes"),
        ([[1, 2], [3]], {}, r"list is no image"),
        (np.zeros((2, 20, 20)), {"axes": "CYX"}, r"2 channels.*channel=0 to 1"),
        (np.zeros((5, 20, 20)), {"axes": "CYX"}, r"5 channels.*channel=0 to 4"),
        (np.zeros((20, 20, 5), np.uint8), {}, r"5 channels.*channel=0 to 4"),
        (np.zeros((2, 20, 20)), {"axes": "CYX", "channel": 2}, r"channel is 2.*channel=0 to 1"),
        (np.zeros((2, 20, 20)), {"axes": "CYX", "channel": -1}, r"channel is -1"),
        (np.zeros((20, 20)), {"channel": 1}, r"channel is 1.*1 channel"),
        (np.zeros((2, 20, 20)), {"axes": "CYX", "rgb": True}, r"2 channel\(s\); RGB has 3"),
        (np.zeros((20, 20)), {"rgb": True}, r"1 channel\(s\); RGB has 3"),
        (np.zeros((20, 20, 3)), {"rgb": True, "channel": 0}, r"rgb is True and channel is 0"),
        (np.zeros((20, 20)), {"axes": "ZYX"}, r"'ZYX', 3 letters.*2 axes"),
        (np.zeros((20, 20)), {"axes": "ZY"}, r"axes is 'ZY'.*with Y and X"),
        (np.zeros((20, 20, 20)), {"axes": "YYX"}, r"axes is 'YYX'.*each once"),
        (np.zeros((20, 20, 20)), {"axes": "QYX"}, r"axes is 'QYX'.*T, Z, C"),
        (np.zeros((3, 20, 20, 3)), {"axes": "CYXS"}, r"axes is 'CYXS'"),
    ],
)
def test_unusable_images_are_refused_with_a_remedy(
    image: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PlaneStack.from_array(image, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    image = np.zeros((2, 20, 20), np.float32)
    image[1, 3, 4:7] = value
    stack = PlaneStack.from_array(image)
    stack.plane(0)
    with pytest.raises(InputError, match=r"Plane 1 holds 3 NaN or infinite values among 400"):
        stack.plane(1)

"""Threshold, clean-up and splitting, on shapes whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.postprocess import PostProcess, to_labels

Array = np.ndarray[Any, np.dtype[Any]]


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> Array:
    rows, columns = np.indices(shape)
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def labels_of(mask: Array, **settings: Any) -> Array:
    plain = {"min_size": 0, "max_hole": 0}
    return to_labels(mask.astype(np.float32), PostProcess(**(plain | settings)))


def test_threshold_is_inclusive() -> None:
    probability = np.array([[0.29, 0.3, 0.31, 0.9]], np.float32)
    post = PostProcess(output="mask", threshold=float(np.float32(0.3)), min_size=0, max_hole=0)
    np.testing.assert_array_equal(to_labels(probability, post), [[0, 1, 1, 1]])


def test_labels_are_uint32_and_numbered_by_first_pixel() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:5, 10:13] = mask[4:8, 2:5] = mask[15, 15] = True
    for output in ("objects", "split"):
        labels = labels_of(mask, output=output)
        assert labels.dtype == np.uint32
        assert (labels[2, 10], labels[4, 2], labels[15, 15], labels.max()) == (1, 2, 3, 3)
    assert set(np.unique(labels_of(mask, output="mask"))) == {0, 1}


def test_objects_that_touch_by_a_corner_are_one() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[6:10, 6:10] = True
    assert labels_of(mask).max() == 1


def test_small_objects_go_and_those_of_the_limit_stay() -> None:
    mask = np.zeros((20, 20), bool)
    mask[1, 1:6] = mask[5, 1:5] = True  # 5 and 4 px
    for output in ("mask", "objects", "split"):
        labels = labels_of(mask, output=output, min_size=5)
        assert (labels > 0).sum() == 5
        assert labels[1, 1] == 1


def test_small_holes_are_filled_and_large_or_open_ones_are_not() -> None:
    mask = np.ones((20, 30), bool)
    mask[5:7, 5:7] = False  # 4 px
    mask[10:13, 10:13] = False  # 9 px
    mask[0, 20:22] = False  # open to the border
    filled = labels_of(mask, output="mask", max_hole=4)
    assert filled[5:7, 5:7].all()
    assert not filled[10:13, 10:13].any()
    assert not filled[0, 20:22].any()


def test_a_hole_that_leaks_through_a_corner_is_still_a_hole() -> None:
    """Background is 4-connected, as objects are 8-connected."""
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    mask[3:6, 3:6] = False
    mask[2, 2] = False
    assert labels_of(mask, output="mask", max_hole=9)[4, 4] == 1


@pytest.mark.parametrize("radius", [4, 8, 20, 60])
def test_touching_discs_are_cut_apart_at_any_size(radius: int) -> None:
    shape = (2 * radius + 8, 4 * radius + 8)
    row = radius + 4
    first = disc(shape, (row, radius + 4), radius)
    second = disc(shape, (row, 4 + radius + 1.7 * radius), radius)
    assert labels_of(first | second, output="objects").max() == 1
    labels = labels_of(first | second, output="split")
    assert labels.max() == 2
    for k, part in ((1, first & ~second), (2, second & ~first)):
        assert (labels[part] == k).mean() > 0.97
    assert ((labels > 0) == (first | second)).all()


@pytest.mark.parametrize("radius", [3, 6, 15, 40])
def test_one_round_object_stays_one(radius: int) -> None:
    side = 2 * radius + 7
    centre = (radius + 3.3, radius + 2.8)
    assert labels_of(disc((side, side), centre, radius), output="split").max() == 1


@pytest.mark.parametrize("angle", [0, 20, 45, 70])
@pytest.mark.parametrize(("long", "short"), [(12, 5), (30, 10), (40, 30)])
def test_one_ellipse_stays_one(long: float, short: float, angle: float) -> None:
    rows, columns = np.indices((100, 100)) - 50
    turn = np.deg2rad(angle)
    along = rows * np.sin(turn) + columns * np.cos(turn)
    across = rows * np.cos(turn) - columns * np.sin(turn)
    assert labels_of((along / long) ** 2 + (across / short) ** 2 <= 1, output="split").max() == 1


def test_higher_split_neck_cuts_more() -> None:
    first, second = disc((60, 80), (30, 25), 20), disc((60, 80), (30, 45), 20)
    shallow = first | second  # neck of sqrt(300) = 17.3 against 20: 0.87
    assert labels_of(shallow, output="split", split_neck=0.7).max() == 1
    assert labels_of(shallow, output="split", split_neck=0.97).max() == 2


def test_splitting_keeps_every_pixel_and_every_object() -> None:
    """Specks below the smallest part keep a label of their own."""
    generator = np.random.default_rng(3)
    mask = generator.random((120, 120)) > 0.55
    objects = labels_of(mask, output="objects")
    split = labels_of(mask, output="split", min_size=0)
    np.testing.assert_array_equal(split > 0, mask)
    for k in range(1, objects.max() + 1):
        inside = set(np.unique(split[objects == k]))
        outside = set(np.unique(split[objects != k]))
        assert not inside & outside


def test_parts_are_not_smaller_than_the_smallest_object() -> None:
    mask = disc((60, 60), (30, 30), 20) | disc((60, 60), (7, 30), 4)
    assert labels_of(mask, output="split", min_size=0).max() == 2
    assert labels_of(mask, output="split", min_size=100).max() == 1


@pytest.mark.parametrize("output", ["objects", "split"])
def test_seventy_thousand_objects_keep_their_own_numbers(output: str) -> None:
    mask = np.zeros((1059, 1059), bool)
    mask[::4, ::4] = True
    labels = labels_of(mask, output=output)
    assert mask.sum() == 265 * 265 == 70_225
    np.testing.assert_array_equal(np.sort(labels[mask]), np.arange(1, 70_226))


@pytest.mark.parametrize("output", ["mask", "objects", "split"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_planes(output: str, value: float) -> None:
    labels = to_labels(np.full((20, 20), value, np.float32), PostProcess(output=output))
    assert (labels == value).all()


@pytest.mark.parametrize("output", ["mask", "objects", "split"])
def test_memory_layout_does_not_matter(output: str) -> None:
    generator = np.random.default_rng(1)
    probability = generator.random((40, 50)).astype(np.float32)
    post = PostProcess(output=output, min_size=2)
    expected = to_labels(probability, post)
    np.testing.assert_array_equal(to_labels(np.asfortranarray(probability), post), expected)
    wide = np.zeros((80, 100), np.float32)
    wide[::2, ::2] = probability
    np.testing.assert_array_equal(to_labels(wide[::2, ::2], post), expected)


def test_smoothing_removes_specks_and_keeps_what_is_large() -> None:
    probability = np.full((60, 80), 0.1, np.float32)
    probability[20:40, 20:50] = 0.9
    probability[5, 5] = probability[50, 70:72] = 1.0  # specks
    probability[30, 30] = 0.0
    post = PostProcess(output="mask", threshold=0.5, min_size=0, max_hole=0)
    plain, smooth = to_labels(probability, post), to_labels(probability, replace(post, smoothing=2))
    assert plain[5, 5]
    assert not plain[30, 30]
    assert not smooth[:15].any()
    assert not smooth[45:].any()
    assert smooth[30, 30]
    assert smooth[30, 20:50].all()  # a straight edge at the threshold stays in its place
    assert not smooth[20, 20]  # a corner is rounded
    assert not smooth[30, 18]


@pytest.mark.parametrize("shape", [(16, 16), (1, 40), (33, 20)])
def test_smoothing_beyond_the_size_of_the_plane_works(shape: tuple[int, int]) -> None:
    post = PostProcess(output="mask", threshold=0.5, min_size=0, max_hole=0, smoothing=20)
    assert to_labels(np.full(shape, 0.51, np.float32), post).all()
    assert not to_labels(np.full(shape, 0.49, np.float32), post).any()


def test_a_stack_is_refused() -> None:
    with pytest.raises(InputError, match=r"3 axes.*one plane"):
        to_labels(np.zeros((2, 20, 20), np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "instances"}, r"output is 'instances'.*mask, objects, split"),
        ({"threshold": 0.0}, r"threshold is 0, outside 0.01 to 0.99"),
        ({"threshold": float("nan")}, r"threshold is nan"),
        ({"min_size": -1}, r"min_size is -1 px, outside 0"),
        ({"min_size": 2.5}, r"min_size is 2.5. Give a whole number"),
        ({"max_hole": True}, r"max_hole is True. Give a whole number"),
        ({"smoothing": 21.0}, r"smoothing is 21 px, outside 0 to 20 px"),
        ({"split_neck": 1.0}, r"split_neck is 1, outside 0.1 to 0.99"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PostProcess(**settings)

"""Linking: planted objects that move through Z and T are found again under one id."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.linking import iter_linked, link_planes, link_stack, tracks_table
from napari_espmedsam.samples import nuclei_stack

Array = np.ndarray[Any, np.dtype[Any]]


def _moving_discs(rng: np.random.Generator, n_planes: int = 6) -> tuple[Array, Array]:
    """Plant 20 discs that wander, each over planes of its own; return labels and centres."""
    rows, columns = np.indices((120, 140))
    centres = np.array([(y, x) for y in range(20, 110, 25) for x in range(20, 130, 24)], float)
    steps = rng.uniform(-2, 2, (n_planes, *centres.shape))
    paths = centres + np.cumsum(steps, axis=0)
    labels = np.zeros((n_planes, 120, 140), np.uint32)
    for t in range(n_planes):
        for i, (y, x) in enumerate(paths[t]):
            if i % 5 <= t or i < 10:  # some begin later
                labels[t][np.hypot(rows - y, columns - x) <= 7] = i + 1
    return labels, paths


def _renumbered(labels: Array, rng: np.random.Generator) -> Array:
    """Number each plane afresh, as decoding does."""
    shuffled = [np.append(0, rng.permutation(np.arange(1, 200))) for _ in labels]
    return np.stack([table[plane] for table, plane in zip(shuffled, labels, strict=True)])


def _same_objects(found: Array, planted: Array) -> bool:
    pairs = np.unique(np.stack([found.ravel(), planted.ravel()]), axis=1)
    return bool(pairs.shape[1] == len(set(pairs[0])) == len(set(pairs[1])))


def _row(*blocks: tuple[int, int, int]) -> Array:
    plane = np.zeros((4, 40), np.uint32)
    for label, start, end in blocks:
        plane[1:3, start:end] = label
    return plane


def test_moving_discs_are_one_object_each(rng: np.random.Generator) -> None:
    planted, _ = _moving_discs(rng)
    given = _renumbered(planted, rng)
    linked = link_planes(given)
    assert linked.dtype == np.uint32
    assert _same_objects(linked, planted)
    assert not _same_objects(given, planted)
    assert sorted(np.unique(linked)) == list(range(len(np.unique(planted))))
    np.testing.assert_array_equal(link_planes(given), linked)


def test_nuclei_are_found_again_through_z(rng: np.random.Generator) -> None:
    planted = nuclei_stack(shape=(8, 128, 128), return_labels=True)[1]
    linked = link_planes(_renumbered(planted, rng))
    assert _same_objects(linked, planted)


def test_planes_may_come_one_by_one(rng: np.random.Generator) -> None:
    given = _renumbered(_moving_discs(rng)[0], rng)
    expected = link_planes(given)
    np.testing.assert_array_equal(link_planes(plane for plane in given), expected)
    first = next(iter_linked(iter(given)))
    np.testing.assert_array_equal(first, expected[0])
    assert link_planes([]).shape == (0, 0, 0)
    assert link_planes(np.zeros((0, 5, 6), int)).shape == (0, 5, 6)


def test_of_two_parts_the_better_one_goes_on() -> None:
    linked = link_planes(np.stack([_row((9, 0, 20)), _row((1, 0, 6), (2, 7, 20))]))
    np.testing.assert_array_equal(linked[1], _row((2, 0, 6), (1, 7, 20)))
    linked = link_planes(np.stack([_row((1, 0, 6), (2, 7, 20)), _row((9, 0, 20))]))
    np.testing.assert_array_equal(linked[1], _row((2, 0, 20)))


def test_all_objects_together_decide() -> None:
    """The best pair alone would leave its neighbours without partners."""
    before = _row((1, 0, 10), (2, 10, 20))
    after = _row((7, 4, 17), (8, 17, 27))
    linked = link_planes(np.stack([before, after]), min_overlap=0.3)
    np.testing.assert_array_equal(linked[1], _row((1, 4, 17), (2, 17, 27)))


def test_matching_has_the_largest_sum_of_overlaps(rng: np.random.Generator) -> None:
    """Against every possible matching, on planes where everything touches everything."""
    for _ in range(25):
        before, after = rng.integers(1, 5, (2, 4, 5)).astype(np.uint32)
        table = np.array(
            [[_iou(before == a, after == b) for b in range(1, 5)] for a in range(1, 5)]
        )
        best = max(sum(table[i, p[i]] for i in range(4)) for p in permutations(range(4)))
        linked = link_planes(np.stack([before, after]), min_overlap=0.0)
        ids = np.unique(linked)
        both = [i for i in ids if i in linked[0] and i in linked[1]]
        assert sum(_iou(linked[0] == i, linked[1] == i) for i in both) == pytest.approx(best)


def _iou(a: Array, b: Array) -> float:
    union = np.sum(a | b)
    return float(np.sum(a & b) / union) if union else 0.0


def test_min_overlap_is_a_limit_that_counts() -> None:
    stack = np.stack([_row((1, 0, 10)), _row((1, 6, 26))])  # 4 of 10 columns
    assert link_planes(stack, min_overlap=0.4)[1].max() == 1
    assert link_planes(stack, min_overlap=0.41)[1].max() == 2
    apart = np.stack([_row((1, 0, 5)), _row((1, 5, 10))])
    assert link_planes(apart, min_overlap=0)[1].max() == 2


def test_the_small_last_plane_of_an_object_belongs_to_it() -> None:
    linked = link_planes(np.stack([_row((1, 0, 40)), _row((1, 18, 22)), _row((1, 17, 24))]))
    assert linked.max() == 1


def test_a_gap_ends_an_object_and_ids_are_not_used_twice() -> None:
    stack = np.stack([_row((5, 0, 9)), _row(), _row((5, 0, 9))])
    linked = link_planes(stack)
    assert [int(plane.max()) for plane in linked] == [1, 0, 2]


def test_ids_near_the_limit_of_uint32() -> None:
    stack = np.stack([_row((2**32 - 1, 0, 9)), _row((2**32 - 2, 0, 9), (3, 20, 30))])
    linked = link_planes(stack)
    np.testing.assert_array_equal(linked[1], _row((1, 0, 9), (2, 20, 30)))


# --- stacks with axes -------------------------------------------------------------------------


def test_each_time_point_is_linked_in_z_on_its_own(rng: np.random.Generator) -> None:
    planted = _moving_discs(rng)[0]
    both = np.stack([planted, np.where(planted > 0, planted + 100, 0)])  # T Z Y X
    given = np.stack([_renumbered(part, rng) for part in both])
    linked = link_stack(given, "TZYX", "Z")
    assert _same_objects(linked, both)
    turned = link_stack(np.moveaxis(given, 0, 1), "ZTYX", "Z")
    np.testing.assert_array_equal(np.moveaxis(turned, 1, 0), linked)


def test_volumes_are_linked_in_t(rng: np.random.Generator) -> None:
    centres = np.moveaxis(_moving_discs(rng)[0], 0, 0)
    volumes = np.stack([centres, centres, np.where(centres == 3, 0, centres)], axis=1)  # T Z Y X
    linked = link_stack(_renumbered(volumes, rng), "TZYX", "T")
    assert _same_objects(linked, volumes)
    linked = link_stack(np.moveaxis(_renumbered(volumes, rng), 0, 1), "ZTYX", "T")
    assert _same_objects(np.moveaxis(linked, 1, 0), volumes)


def test_a_plain_stack_is_linked_along_its_axis(rng: np.random.Generator) -> None:
    given = _renumbered(_moving_discs(rng)[0], rng)
    for letter in "ZT":
        np.testing.assert_array_equal(link_stack(given, f"{letter}YX", letter), link_planes(given))


@pytest.mark.parametrize(
    ("axes", "axis", "message"),
    [
        ("YX", "Z", r"'YX' do not fit labels of shape \(2, 4, 40\)"),
        ("CYX", "Z", "'CYX' do not fit"),
        ("ZYX", "T", "along 'T' in ZYX"),
        ("ZYX", "Y", "along 'Y' in ZYX"),
    ],
)
def test_axes_are_checked(axes: str, axis: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        link_stack(np.zeros((2, 4, 40), np.uint32), axes, axis)


def test_planes_and_limits_are_checked() -> None:
    with pytest.raises(InputError, match=r"min_overlap is 1.5, outside 0 to 1"):
        link_planes(np.zeros((2, 4, 4), np.uint32), min_overlap=1.5)
    with pytest.raises(InputError, match=r"plane \(3, 4\), previous \(4, 4\)"):
        link_planes([np.zeros((4, 4), int), np.zeros((3, 4), int)])


# --- tracks -----------------------------------------------------------------------------------


def test_tracks_follow_the_planted_paths(rng: np.random.Generator) -> None:
    planted, paths = _moving_discs(rng)
    table = tracks_table(planted)
    assert table.shape == (len({(t, i) for t, p in enumerate(planted) for i in p[p > 0]}), 4)
    for label, t, y, x in table:
        np.testing.assert_allclose((y, x), paths[int(t), int(label) - 1], atol=0.5)
    order = list(map(tuple, table[:, :2]))
    assert order == sorted(order)


def test_tracks_of_volumes() -> None:
    labels = np.zeros((2, 4, 10, 12), np.uint32)
    labels[0, 1:3, 2:5, 4:8] = 7
    labels[1, 2:4, 3:6, 11] = 7
    labels[1, 0, 0, 0] = 2
    expected = [[2, 1, 0, 0, 0], [7, 0, 1.5, 3, 5.5], [7, 1, 2.5, 4, 11]]
    np.testing.assert_allclose(tracks_table(labels), expected)


def test_tracks_of_nothing() -> None:
    assert tracks_table(np.zeros((3, 5, 6), int)).shape == (0, 4)
    assert tracks_table(np.zeros((3, 2, 5, 6), int)).shape == (0, 5)
    with pytest.raises(InputError, match="2 axes"):
        tracks_table(np.zeros((5, 6), int))

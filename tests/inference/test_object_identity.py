"""Ids that stay: planted discs that move, split, merge and are locked keep what is theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.anchors import anchors_of, apply_anchors, first_pixels
from napari_espmedsam.inference.identity import keep_ids, put_locked, settle_labels
from napari_espmedsam.inference.overlap import (
    MAX_ID,
    compact,
    count_pixels,
    count_shared,
    find_runs,
)
from napari_espmedsam.inference.postprocess import PostProcess, to_labels

Array = np.ndarray[Any, np.dtype[Any]]
EMPTY = np.zeros((8, 40), np.uint32)


def _row(*blocks: tuple[int, int, int], shape: tuple[int, int] = (8, 40)) -> Array:
    """Draw blocks (id, first column, end column) over rows 2 to 5."""
    plane = np.zeros(shape, np.uint32)
    for label, start, end in blocks:
        plane[2:6, start:end] = label
    return plane


def _discs(centres: Array, ids: Array, radius: float = 6.0) -> Array:
    rows, columns = np.indices((160, 200))
    plane = np.zeros((160, 200), np.uint32)
    for (y, x), label in zip(centres, ids, strict=True):
        plane[np.hypot(rows - y, columns - x) <= radius] = label
    return plane


def _patches(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 2.5)
    return (0.5 + noise / noise.std() / 6).clip(0, 1).astype(np.float32)


def _grid_of_centres() -> Array:
    return np.array([(y, x) for y in range(12, 150, 20) for x in range(12, 190, 20)], float)


# --- counting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, MAX_ID - 9])
def test_counts_are_those_of_a_plain_loop(rng: np.random.Generator, offset: int) -> None:
    first, second = rng.integers(0, 6, (2, 30, 20)).astype(np.uint32)
    first[first > 0] += np.uint32(offset)
    runs = find_runs(first, second)
    shared = count_shared(*runs.values, runs.length)
    found = dict(zip(zip(shared.first, shared.second, strict=True), shared.pixels, strict=True))
    assert found == {
        (a, b): n
        for a in np.unique(first[first > 0])
        for b in range(1, 6)
        if (n := np.sum((first == a) & (second == b)))
    }
    ids, pixels = count_pixels(runs.values[0], runs.length)
    assert dict(zip(ids, pixels, strict=True)) == {a: np.sum(first == a) for a in ids}
    assert ids.tolist() == np.unique(first[first > 0]).tolist()


@pytest.mark.parametrize("ids", [[], [0, 0], [3, 0, 7, 3], [MAX_ID, 0, MAX_ID - 1]])
def test_compact_ids_are_the_same_with_and_without_a_table(ids: list[int]) -> None:
    given = np.array(ids, np.uint32)
    values, index = compact(given)
    assert values.tolist() == sorted(set(ids))
    np.testing.assert_array_equal(values[index], given)


def test_runs_paint_what_they_were_made_of(rng: np.random.Generator) -> None:
    plane = rng.integers(0, 3, (7, 9, 11)).astype(np.uint32)
    for view in (plane, plane[:, ::2, ::-1], np.asfortranarray(plane)):
        runs = find_runs(view)
        np.testing.assert_array_equal(runs.paint(runs.values[0]), view)


# --- ids from update to update ----------------------------------------------------------------


def test_moving_discs_keep_their_ids(rng: np.random.Generator) -> None:
    centres = _grid_of_centres()
    ids = rng.choice(np.arange(1, 500), len(centres), replace=False).astype(np.uint32)
    shown = _discs(centres, ids)
    for _ in range(6):
        centres = centres + rng.uniform(-2, 2, centres.shape)
        shuffled = rng.permutation(len(ids)) + 1
        shown = keep_ids(_discs(centres, shuffled), shown, first_free=1000)
        np.testing.assert_array_equal(shown, _discs(centres, ids))


def test_new_objects_get_fresh_ids_in_order() -> None:
    new = _row((1, 0, 5), (2, 10, 15), (3, 20, 25))
    kept = keep_ids(new, _row((7, 11, 16)), first_free=30)
    np.testing.assert_array_equal(kept, _row((30, 0, 5), (7, 10, 15), (31, 20, 25)))


def test_the_largest_part_of_a_split_object_keeps_its_id() -> None:
    kept = keep_ids(_row((1, 0, 8), (2, 9, 20)), _row((5, 0, 20)), first_free=6)
    np.testing.assert_array_equal(kept, _row((6, 0, 8), (5, 9, 20)))


def test_merged_objects_go_on_as_the_larger() -> None:
    kept = keep_ids(_row((1, 0, 20)), _row((5, 0, 8), (6, 9, 20)), first_free=7)
    np.testing.assert_array_equal(kept, _row((6, 0, 20)))


def test_equal_overlaps_are_decided_by_the_lowest_id() -> None:
    kept = keep_ids(_row((1, 0, 5), (2, 5, 10)), _row((4, 0, 10)), first_free=9)
    np.testing.assert_array_equal(kept, _row((4, 0, 5), (9, 5, 10)))
    kept = keep_ids(_row((1, 0, 10)), _row((8, 0, 5), (4, 5, 10)), first_free=9)
    np.testing.assert_array_equal(kept, _row((4, 0, 10)))


def test_a_vanished_id_is_not_given_to_another_object() -> None:
    kept = keep_ids(_row((1, 30, 35)), _row((1, 0, 5), (2, 10, 15)), first_free=1)
    np.testing.assert_array_equal(kept, _row((3, 30, 35)))


def test_empty_planes() -> None:
    np.testing.assert_array_equal(keep_ids(EMPTY, EMPTY, first_free=1), EMPTY)
    np.testing.assert_array_equal(keep_ids(EMPTY, _row((3, 0, 5)), first_free=4), EMPTY)
    first = keep_ids(_row((1, 0, 5), (2, 7, 9)), EMPTY, first_free=1)
    np.testing.assert_array_equal(first, _row((1, 0, 5), (2, 7, 9)))
    full = np.full((4, 4), 9, np.uint32)
    np.testing.assert_array_equal(keep_ids(full // 9, full, first_free=10), full)


def test_ids_up_to_the_last_of_uint32() -> None:
    new = _row((1, 0, 5), (2, 10, 15), (3, 20, 25))
    kept = keep_ids(new, _row((MAX_ID, 0, 5), (1, 30, 35)), first_free=MAX_ID)
    # MAX_ID is in use and nothing lies above it, so the lowest unused ids follow.
    np.testing.assert_array_equal(kept, _row((MAX_ID, 0, 5), (2, 10, 15), (3, 20, 25)))
    assert keep_ids(new, EMPTY, first_free=MAX_ID + 1).max() == 3


def test_a_mask_stays_as_it_is() -> None:
    mask = _row((1, 0, 5), (1, 10, 15))
    np.testing.assert_array_equal(keep_ids(mask, EMPTY, first_free=7, output="mask"), mask)
    shown = settle_labels(mask, EMPTY, locked=_row((4, 3, 12)), first_free=7, output="mask")
    np.testing.assert_array_equal(shown, _row((1, 0, 3), (4, 3, 12), (1, 12, 15)))


def test_inputs_are_left_alone_and_results_are_new(rng: np.random.Generator) -> None:
    new, old = rng.integers(0, 4, (2, 10, 10)).astype(np.uint32)
    before = new.copy(), old.copy()
    for output in ("objects", "mask"):
        for result in (
            keep_ids(new, old, first_free=9, output=output),
            put_locked(new, old, output=output),
            put_locked(new, np.zeros_like(old), output=output),
            settle_labels(new, old, locked=old, first_free=9, output=output),
        ):
            assert result.dtype == np.uint32
            assert not np.shares_memory(result, new)
            assert not np.shares_memory(result, old)
    np.testing.assert_array_equal(new, before[0])
    np.testing.assert_array_equal(old, before[1])


def test_keep_ids_only_renames(rng: np.random.Generator) -> None:
    """Whatever the overlap, objects are mapped one to one onto ids."""
    for _ in range(20):
        new, old = rng.integers(0, 9, (2, 12, 12)).astype(np.uint32)
        kept = keep_ids(new, old, first_free=10)
        pairs = np.unique(np.stack([new.ravel(), kept.ravel()]), axis=1)
        assert pairs.shape[1] == len(set(pairs[0])) == len(set(pairs[1]))
        np.testing.assert_array_equal(kept == 0, new == 0)


# --- locked objects ---------------------------------------------------------------------------


def test_locked_pixels_and_ids_win() -> None:
    result = put_locked(_row((1, 0, 10), (2, 20, 30)), _row((9, 8, 12)))
    np.testing.assert_array_equal(result, _row((1, 0, 8), (9, 8, 12), (2, 20, 30)))


@pytest.mark.parametrize(("covered", "left"), [(5, True), (6, False), (10, False)])
def test_an_object_mostly_under_a_locked_one_disappears(covered: int, left: bool) -> None:
    result = put_locked(_row((1, 10, 20)), _row((5, 10 - 3, 10 + covered)))
    assert (1 in result) is left
    np.testing.assert_array_equal(result == 5, _row((5, 7, 10 + covered)) == 5)


def test_two_locked_objects_together_can_cover_one() -> None:
    result = put_locked(_row((1, 10, 20)), _row((5, 8, 13), (6, 17, 22)))
    np.testing.assert_array_equal(result, _row((5, 8, 13), (6, 17, 22)))


def test_free_ids_never_collide_with_locked_ones() -> None:
    labels, locked = _row((1, 0, 5), (2, 10, 20)), _row((1, 18, 24))
    np.testing.assert_array_equal(
        put_locked(labels, locked), _row((3, 0, 5), (2, 10, 18), (1, 18, 24))
    )
    np.testing.assert_array_equal(
        put_locked(labels, locked, first_free=40), _row((40, 0, 5), (2, 10, 18), (1, 18, 24))
    )
    highest = put_locked(_row((MAX_ID, 0, 5)), _row((MAX_ID, 10, 20)))
    np.testing.assert_array_equal(highest, _row((1, 0, 5), (MAX_ID, 10, 20)))


def test_the_rest_of_a_partly_covered_object_keeps_its_id() -> None:
    """Also where most of what is decoded there lies under the locked object and a neighbour."""
    locked = _row((3, 0, 9))
    decoded = _row((1, 0, 20))
    shown = settle_labels(decoded, locked, locked=locked, first_free=8)
    np.testing.assert_array_equal(shown, _row((3, 0, 9), (8, 9, 20)))
    for _ in range(3):
        shown = settle_labels(decoded, shown, locked=locked, first_free=9)
        np.testing.assert_array_equal(shown, _row((3, 0, 9), (8, 9, 20)))


def test_an_unlocked_object_keeps_its_id() -> None:
    locked = _row((3, 0, 10))
    decoded = _row((1, 1, 11), (2, 20, 25))
    shown = settle_labels(decoded, _row((3, 0, 10), (5, 20, 25)), locked=locked, first_free=6)
    np.testing.assert_array_equal(shown, _row((3, 0, 10), (5, 20, 25)))
    shown = settle_labels(decoded, shown, locked=EMPTY, first_free=6)
    np.testing.assert_array_equal(shown, _row((3, 1, 11), (5, 20, 25)))


def test_without_locks_settling_is_keeping_ids(rng: np.random.Generator) -> None:
    new, old = rng.integers(0, 9, (2, 12, 12)).astype(np.uint32)
    expected = keep_ids(new, old, first_free=20)
    for locked in (None, np.zeros_like(new)):
        result = settle_labels(new, old, locked=locked, first_free=20)
        np.testing.assert_array_equal(result, expected)


# --- anchors ----------------------------------------------------------------------------------


def test_first_pixels_are_in_the_order_of_the_pixels() -> None:
    labels = np.array([[0, 7, 7], [2, 2, 7], [MAX_ID, 0, 2]], np.uint32)
    assert first_pixels(labels).tolist() == [[7, 0, 1], [2, 1, 0], [MAX_ID, 2, 0]]
    assert first_pixels(np.zeros((4, 4), np.uint32)).shape == (0, 3)


def test_plain_ids_need_no_anchors(rng: np.random.Generator) -> None:
    labels = to_labels(rng.random((40, 50)).astype(np.float32), PostProcess(min_size=2))
    assert anchors_of(labels) is None
    assert anchors_of(labels, np.zeros_like(labels)) is None
    assert anchors_of(np.zeros_like(labels)) is None
    assert anchors_of(labels * np.uint32(2)) is not None


@pytest.mark.parametrize("output", ["objects", "split", "mask"])
def test_a_session_is_replayed_from_anchors(rng: np.random.Generator, output: str) -> None:
    """Strokes, locks and an unlocking later, anchors and locks bring back the same array."""
    post = PostProcess(output=output, min_size=3)
    shape = (60, 80)
    shown, locked = np.zeros((2, *shape), np.uint32)
    first_free, stored = 1, 0
    probability = _patches(rng, shape)
    for step in range(12):
        column = rng.integers(60)
        probability[:, column : column + 20] = _patches(rng, shape)[:, :20]
        decoded = to_labels(probability, post)
        shown = settle_labels(decoded, shown, locked=locked, first_free=first_free, output=output)
        first_free = max(first_free, int(shown.max()) + 1)
        anchors = anchors_of(shown, locked)
        stored += anchors is not None
        again = decoded if anchors is None else apply_anchors(decoded, anchors)
        np.testing.assert_array_equal(put_locked(again, locked, output=output), shown)
        if step % 3 == 1:
            row = rng.integers(50)
            locked[row : row + 8, 10:30] = first_free
            first_free += 1
        if step == 8:
            locked[:] = 0
    assert stored > 3


def test_anchors_of_another_decoding_are_taken_as_far_as_they_go() -> None:
    labels = _row((1, 0, 5), (2, 10, 15), (3, 20, 25))
    anchors = np.array([[50, 2, 10], [7, 0, 0], [60, 3, 12], [2, 2, 0]])
    # 7 lies on background, 60 in the object that 50 names already; 3 has no anchor.
    np.testing.assert_array_equal(
        apply_anchors(labels, anchors), _row((2, 0, 5), (50, 10, 15), (61, 20, 25))
    )
    np.testing.assert_array_equal(apply_anchors(labels, np.zeros((0, 3), int)), labels)


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        ([[0, 1, 1]], r"\(0, 1, 1\) lies outside \(1, 0, 0\) to \(4294967295, 7, 39\)"),
        ([[1, 8, 1]], r"\(1, 8, 1\)"),
        ([[1, -1, 1]], r"\(1, -1, 1\)"),
        ([[2**32, 1, 1]], r"4294967296"),
        ([[4, 1, 1], [4, 2, 2]], r"id 4 has several"),
        ([[1.0, 1.0, 1.0]], r"float64"),
        ([1, 2, 3], r"shape \(3,\)"),
    ],
)
def test_foreign_anchors_are_refused(anchors: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_anchors(_row((1, 0, 5)), np.array(anchors))


# --- what does not fit ------------------------------------------------------------------------


def test_shapes_and_values_are_checked() -> None:
    small = np.zeros((4, 4), np.uint32)
    with pytest.raises(InputError, match=r"new \(8, 40\), old \(4, 4\)"):
        keep_ids(EMPTY, small, first_free=1)
    with pytest.raises(InputError, match=r"locked \(4, 4\)"):
        put_locked(EMPTY, small)
    with pytest.raises(InputError, match=r"locked \(4, 4\)"):
        settle_labels(EMPTY, EMPTY, locked=small, first_free=1)
    with pytest.raises(InputError, match=r"first_free is 0"):
        keep_ids(EMPTY, EMPTY, first_free=0)
    with pytest.raises(InputError, match=r"ids from -1 to 0"):
        keep_ids(EMPTY.astype(np.int64) - (np.arange(40) == 3), EMPTY, first_free=1)
    with pytest.raises(InputError, match=r"type float32"):
        put_locked(EMPTY, EMPTY.astype(np.float32))
    with pytest.raises(InputError, match=r"3 axes"):
        first_pixels(np.zeros((2, 3, 4), np.uint32))

"""The small parts of a session on their own: regions, locks, ids, and what is looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.studio import naming
from napari_espmedsam.studio.locks import (
    add_locks,
    clear_erased,
    locked_ids,
    remove_locks,
    take_painted,
)
from napari_espmedsam.studio.naming import Names, renumber
from napari_espmedsam.studio.patches import apply_patch, find_patch
from napari_espmedsam.studio.plane_record import ERASED
from napari_espmedsam.studio.region import Region, crop_stack
from napari_espmedsam.studio.view import View

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((40, 50), "YX"), ((3, 40, 50), "ZYX"), ((40, 50, 3), "YXC"), ((2, 50, 3, 40), "TXZY")],
)
def test_a_region_of_a_region_is_where_it_should_be(
    shape: tuple[int, ...], axes: str, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 255, shape).astype(np.uint8)
    stack = PlaneStack.from_array(image, axes)
    outer = crop_stack(stack, Region(4, 6, 40, 46))
    inner = crop_stack(outer, Region(2, 3, 20, 30))
    assert inner.leading_shape == stack.leading_shape
    for i in range(len(stack)):
        whole = stack.plane(i)
        np.testing.assert_array_equal(outer.plane(i), whole[4:40, 6:46])
        np.testing.assert_array_equal(inner.plane(i), whole[6:24, 9:36])
    assert crop_stack(stack, None) is stack


@pytest.mark.parametrize("corners", [(-1, 0, 30, 30), (0, 0, 41, 30), (0, 0, 15, 30), (9, 9, 5, 5)])
def test_regions_that_do_not_fit_are_refused(corners: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="40 x 50 px"):
        Region(*corners).check((40, 50))


def test_a_patch_is_the_rectangle_that_changed(rng: np.random.Generator) -> None:
    before = rng.integers(0, 3, (20, 30))
    after = before.copy()
    after[3:5, 7:9] += 5
    after[10, 20] += 1
    patches = find_patch(("edits", 0), before, after)
    assert patches is not None
    forward, backward = patches
    assert forward.values.shape == (8, 14)
    np.testing.assert_array_equal(apply_patch(before, forward), after)
    np.testing.assert_array_equal(apply_patch(after, backward), before)
    assert find_patch(("edits", 0), before, before.copy()) is None


def row(*values: int) -> Array:
    return np.array([values], np.uint32)


def test_locks_are_added_and_taken_away() -> None:
    labels = row(0, 1, 1, 2, 3)
    locked = add_locks(labels, None, [1, 7])
    np.testing.assert_array_equal(locked, row(0, 1, 1, 0, 0))
    locked = add_locks(labels, locked, range(1, 12))
    np.testing.assert_array_equal(locked, row(0, 1, 1, 2, 3))
    np.testing.assert_array_equal(remove_locks(locked, [1, 3]), row(0, 0, 0, 2, 0))
    assert not remove_locks(locked).any()
    for wrong in (0, -1, 2**32):
        with pytest.raises(InputError, match="no object"):
            add_locks(labels, None, [wrong])


def test_painting_locks_the_objects_that_it_touches() -> None:
    before = row(1, 1, 2, 2, 3, 3, 0, 0)
    after = row(1, 1, 1, 2, 3, 3, 9, 0)  # 1 grows over 2; 9 is new
    np.testing.assert_array_equal(
        take_painted(before, after, None, "objects"), row(1, 1, 1, 2, 0, 0, 9, 0)
    )
    erased = row(1, 1, 2, 2, 3, 0, 0, 0)
    np.testing.assert_array_equal(
        take_painted(before, erased, row(0, 0, 0, 0, 3, 3, 0, 0), "objects"),
        row(0, 0, 0, 0, 3, ERASED, 0, 0),
    )
    np.testing.assert_array_equal(
        take_painted(row(1, 1, 0, 0), row(1, 0, 1, 0), None, "mask"), row(0, ERASED, 1, 0)
    )


def test_painting_far_from_the_rest_of_an_object_locks_all_of_it(rng: np.random.Generator) -> None:
    before = rng.integers(0, 4, (30, 40)).astype(np.uint32)
    after = before.copy()
    after[3:5, 6:9] = 2
    locked = take_painted(before, after, None, "objects")
    touched = set(np.unique([before[3:5, 6:9], after[3:5, 6:9]])) - {0}
    np.testing.assert_array_equal(locked, np.where(np.isin(after, list(touched)), after, 0))
    np.testing.assert_array_equal(take_painted(after, after, locked, "objects"), locked)


def test_ids_of_locked_objects(rng: np.random.Generator) -> None:
    locked = rng.choice(np.array([0, 3, 9, 2**31, ERASED], np.uint32), (20, 30))
    assert locked_ids(locked) == set(np.unique(locked).tolist()) - {0, ERASED}
    assert locked_ids(row(0, 0, 5)) == {5}
    assert locked_ids(row(4)) == {4}
    assert locked_ids(row(ERASED, 0)) == set()


def test_what_was_erased_stays_background_until_it_is_painted_over() -> None:
    locked = take_painted(row(1, 1, 2, 2), row(0, 0, 2, 2), None, "objects")
    np.testing.assert_array_equal(locked, row(ERASED, ERASED, 0, 0))
    locked = take_painted(row(0, 0, 2, 2), row(0, 5, 2, 2), locked, "objects")
    np.testing.assert_array_equal(locked, row(ERASED, 5, 0, 0))
    laid = row(ERASED, 5, 2, 2)
    np.testing.assert_array_equal(clear_erased(laid, locked), row(0, 5, 2, 2))
    assert clear_erased(laid, None) is laid
    assert clear_erased(laid, row(0, 5, 0, 0)) is laid
    assert not remove_locks(locked).any()


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make targets that differ by a number."""
    monkeypatch.setattr(naming, "state_key", lambda plan: plan.state)

    def make(state: int, locked: Array | None = None, output: str = "objects") -> Any:
        plan = SimpleNamespace(state=state, post=PostProcess(output=output))
        return SimpleNamespace(plan=plan, edits=None, locked=locked)

    return make


def test_ids_pass_on_and_new_ones_are_used_nowhere_else(target: Any) -> None:
    names = Names()
    first = names.settle(0, target(0), row(0, 1, 1, 0, 2, 2))
    np.testing.assert_array_equal(first, row(0, 1, 1, 0, 2, 2))
    np.testing.assert_array_equal(
        names.settle(1, target(0), row(1, 0, 2, 0, 0, 0))[0, :3], [3, 0, 4]
    )
    gone = names.settle(0, target(1), row(0, 0, 0, 0, 1, 1))
    np.testing.assert_array_equal(gone, row(0, 0, 0, 0, 2, 2))
    back = names.settle(0, target(2), row(0, 1, 1, 0, 2, 2))  # another way back: a ghost returns
    np.testing.assert_array_equal(back, row(0, 1, 1, 0, 2, 2))
    more = names.settle(0, target(3), row(1, 0, 2, 0, 3, 3))
    np.testing.assert_array_equal(more, row(5, 0, 1, 0, 2, 2))
    assert not more.flags.writeable


def test_a_state_that_was_seen_has_the_ids_that_it_had(target: Any) -> None:
    names = Names()
    apart = names.settle(0, target(0), row(1, 1, 0, 2, 2))
    joined = names.settle(0, target(1), row(1, 1, 1, 1, 1))
    np.testing.assert_array_equal(joined, row(1, 1, 1, 1, 1))
    np.testing.assert_array_equal(
        names.settle(0, target(2), row(1, 1, 0, 2, 2)), row(1, 1, 0, 3, 3)
    )
    np.testing.assert_array_equal(names.settle(0, target(0), row(1, 1, 0, 2, 2)), apart)


def test_memory_for_states_is_bounded(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "_MAX_STATE_BYTES", 200)
    names = Names()
    for state in range(50):
        names.settle(0, target(state), row(1, 1, 0, 2, 2))
    names.tidy()
    assert len(names._states) == 200 // 48
    assert names._state_bytes == sum(each.nbytes for each in names._states.values())


def test_locked_and_stored_ids_are_not_given_away(target: Any) -> None:
    names = Names()
    locked = row(0, 0, 0, 40, 0)
    found = names.settle(0, target(0, locked), row(1, 0, 0, 2, 2))
    np.testing.assert_array_equal(found, row(41, 0, 0, 40, 42))
    names.restore(1, np.array([[90, 0, 0]]))
    found = names.settle(1, target(0), row(1, 1, 0, 2, 0))
    np.testing.assert_array_equal(found, row(90, 90, 0, 91, 0))
    names.restore(2, None)
    np.testing.assert_array_equal(names.settle(2, target(0), row(1, 0, 2)), row(1, 0, 2))


def test_a_mask_has_no_ids(target: Any) -> None:
    names = Names()
    objects = names.settle(0, target(0), row(1, 0, 2))
    mask = names.settle(0, target(1, row(0, 1, 0), "mask"), row(1, 0, 0))
    np.testing.assert_array_equal(mask, row(1, 1, 0))
    np.testing.assert_array_equal(names.settle(0, target(2), row(1, 0, 2)), objects)


def test_renumbering_leaves_others_alone() -> None:
    labels = row(0, 3, 5, 4_000_000_000)
    np.testing.assert_array_equal(renumber({3: 9, 4_000_000_000: 1})(labels), row(0, 9, 5, 1))
    np.testing.assert_array_equal(renumber({})(labels), labels)


def test_planes_are_ordered_outwards_along_both_axes() -> None:
    stack = PlaneStack.from_array(np.zeros((3, 4, 16, 16), np.uint8), "TZYX")
    view = View(stack)
    assert view.visible is None
    view.show(5)
    assert view.outwards(range(12))[:5] == [5, 9, 6, 4, 1]
    view.want([7, 8])
    assert view.wanted() == {5, 7, 8}
    view.show(6)  # 5 was only passed by
    view.keep([7])
    assert view.wanted() == {6, 7}
    for wrong in (-1, 12):
        with pytest.raises(InputError, match="from 0 to 11"):
            view.show(wrong)

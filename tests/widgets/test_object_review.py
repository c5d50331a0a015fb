"""The order of a review, and keys that are borrowed from a viewer."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from napari.components import ViewerModel

from napari_espmedsam.widgets.keys import KEYS, KeyAction, ViewerKeys, describe_keys
from napari_espmedsam.widgets.review import ReviewList


@pytest.fixture
def review() -> ReviewList[int]:
    """Return a review of four objects."""
    review: ReviewList[int] = ReviewList()
    review.set_order([7, 3, 5, 1])
    return review


def test_all_objects_come_up_once_in_order_then_it_begins_again(review) -> None:
    assert (review.current, review.seen, review.total) == (None, 0, 4)
    assert [review.next() for _ in range(5)] == [7, 3, 5, 1, None]
    assert review.next() == 7
    assert review.seen == 1


def test_previous_goes_back_the_way_it_came(review) -> None:
    assert review.previous() is None
    for _ in range(3):
        review.next()
    assert [review.previous(), review.previous(), review.previous()] == [3, 7, None]
    assert review.current == 7
    assert [review.next(), review.next(), review.next()] == [3, 5, 1]


def test_a_new_order_brings_nothing_up_twice_and_leaves_nothing_out(review) -> None:
    assert review.next() == 7
    assert review.next() == 3
    review.set_order([1, 9, 3, 7, 5])
    assert review.current == 3
    assert [review.next() for _ in range(4)] == [1, 9, 5, None]


def test_finished_objects_are_passed_over(review) -> None:
    review.set_order([7, 3, 5, 1], finished={3, 5})
    assert review.total == 2
    assert [review.next() for _ in range(3)] == [7, 1, None]


def test_an_object_that_is_gone_leaves_its_place(review) -> None:
    for _ in range(3):
        review.next()
    review.set_order([7, 3, 1])
    assert review.current is None
    assert review.seen == 2
    assert review.previous() == 3
    assert review.next() == 1
    review.set_order([])
    assert (review.current, review.total, review.next(), review.previous()) == (None, 0, None, None)


def test_an_object_that_the_user_chose_counts_as_seen(review) -> None:
    review.visit(5)
    review.visit(99)  # not one of ours
    assert review.current == 5
    assert [review.next() for _ in range(4)] == [7, 3, 1, None]


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1


def _press(viewer: ViewerModel, key: str) -> None:
    """Call what a key is bound to, as napari does."""
    from napari.utils.key_bindings import coerce_keybinding

    viewer.keymap[coerce_keybinding(key)](viewer)


def test_keys_are_given_back() -> None:
    viewer, counter, keys = ViewerModel(), _Counter(), None
    before = []
    viewer.bind_key("N", before.append)
    keys = ViewerKeys(viewer)
    for _ in range(2):  # binding twice must not lose what was there first
        keys.bind([KeyAction("N", counter.add), KeyAction("Shift-N", counter.add)])
    assert keys.bound == ("N", "Shift-N")
    _press(viewer, "N")
    _press(viewer, "Shift-N")
    assert (counter.count, before) == (2, [])
    keys.release()
    keys.release()
    _press(viewer, "N")
    assert (counter.count, before, keys.bound) == (2, [viewer], ())
    assert [str(key) for key in viewer.keymap] == ["N"]


def test_a_key_that_somebody_else_took_stays_theirs() -> None:
    viewer, counter = ViewerModel(), _Counter()
    keys = ViewerKeys(viewer)
    keys.bind([KeyAction("N", counter.add)])
    theirs = []
    viewer.bind_key("N", theirs.append, overwrite=True)
    keys.release()
    _press(viewer, "N")
    assert (counter.count, theirs) == (0, [viewer])


def test_a_viewer_keeps_nothing_alive_by_its_keys() -> None:
    viewer, counter = ViewerModel(), _Counter()
    ViewerKeys(viewer).bind([KeyAction("N", counter.add)])
    left = weakref.ref(counter)
    del counter
    gc.collect()
    assert left() is None
    _press(viewer, "N")  # and does nothing


def test_the_list_of_keys_says_what_each_does() -> None:
    text = describe_keys("linux")
    assert text.count("<tr>") == len(KEYS)
    for each in KEYS:
        assert f"<b>{each.key}</b>" in text
        assert each.text in text
        assert each.where in text
    assert "<b>Cmd-Z</b>" in describe_keys("darwin")


def test_no_key_and_no_action_is_given_twice() -> None:
    assert len({each.key for each in KEYS}) == len({each.name for each in KEYS}) == len(KEYS)


def test_the_documentation_lists_the_same_keys() -> None:
    text = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    table = text.split("| key |", 1)[1].split("\n\n")[0].splitlines()[2:]
    rows = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table]
    assert rows == [(each.key, each.text, each.where) for each in KEYS]

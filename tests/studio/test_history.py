"""Undo and redo: a model of what a user expects, merging, and a bound on memory."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.studio.history import Change, History, count_bytes


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def history(clock: Clock) -> History:
    """Return a history that merges within a second of that clock."""
    return History(merge_seconds=1.0, clock=clock)


def _set(name: str, old: Any, new: Any, key: str | None = None) -> Change:
    return Change(f"Set {name}", ((name, new),), ((name, old),), key)


def test_nothing_to_undo_at_first(history: History) -> None:
    assert history.undo() is None
    assert history.redo() is None
    assert (history.undo_text, history.redo_text, len(history)) == ("", "", 0)


def test_undo_and_redo_in_order(history: History) -> None:
    first, second = _set("a", 0, 1), _set("b", 0, 2)
    history.push(first)
    history.push(second)
    assert history.undo_text == "Set b"
    assert history.undo() is second
    assert (history.undo_text, history.redo_text) == ("Set a", "Set b")
    assert history.undo() is first
    assert history.undo() is None
    assert history.redo() is first
    assert history.redo() is second
    assert history.redo() is None


def test_a_new_change_ends_redo(history: History) -> None:
    history.push(_set("a", 0, 1))
    history.undo()
    history.push(_set("b", 0, 1))
    assert history.redo() is None
    assert history.undo_text == "Set b"


def test_one_drag_is_one_step(history: History, clock: Clock) -> None:
    for old, new in ((0, 1), (1, 5), (5, 9)):
        history.push(_set("threshold", old, new, key="threshold"))
        clock.now += 0.9
    assert len(history) == 1
    change = history.undo()
    assert change is not None
    assert change.backward == (("threshold", 0),)
    assert change.forward == (("threshold", 9),)


def test_a_stroke_keeps_all_its_parts(history: History) -> None:
    for cell in (1, 2, 3):
        change = Change("Paint", (f"on {cell}",), (f"off {cell}",), "stroke", chained=True)
        history.push(change)
    change = history.undo()  # type: ignore[assignment]
    assert change.forward == ("on 1", "on 2", "on 3")
    assert change.backward == ("off 3", "off 2", "off 1")


@pytest.mark.parametrize("between", ["a second", "release", "undo and redo", "another", "no key"])
def test_what_ends_a_step(history: History, clock: Clock, between: str) -> None:
    history.push(_set("threshold", 0, 1, key="threshold"))
    if between == "a second":
        clock.now += 1.1
    elif between == "release":
        history.seal()
    elif between == "undo and redo":
        history.undo()
        history.redo()
    elif between == "another":
        history.push(_set("size", 0, 1, key="size"))
    elif between == "no key":
        history.push(_set("size", 0, 1))
    before = len(history)
    history.push(_set("threshold", 1, 2, key="threshold"))
    assert len(history) == before + 1


def test_a_merged_change_ends_redo_too(history: History) -> None:
    history.push(_set("a", 0, 1, key="a"))
    history.push(_set("b", 0, 1))
    history.undo()
    history.push(_set("a", 1, 2, key="a"))
    assert len(history) == 2
    assert history.redo() is None


def test_memory_is_bounded_and_the_newest_change_stays() -> None:
    history = History(max_bytes=10_000)
    for i in range(50):
        canvas = np.full(1000, i, np.int8)
        history.push(Change(str(i), (canvas,), (canvas.copy(),)))
        assert history.nbytes <= 10_000
    assert 2 <= len(history) <= 5
    assert history.undo_text == "49"
    history.push(Change("huge", (np.zeros(50_000, np.int8),), ()))
    assert len(history) == 1
    assert history.undo_text == "huge"


def test_bytes_are_counted_also_of_what_was_undone_and_given_back() -> None:
    history = History()
    history.push(Change("a", (np.zeros(1000),), ()))
    full = history.nbytes
    assert 8000 <= full < 9000
    history.undo()
    assert history.nbytes == full
    history.push(Change("b", (), ()))
    assert history.nbytes < 500
    history.clear()
    assert (history.nbytes, len(history)) == (0, 0)


def test_views_count_as_what_they_show() -> None:
    base = np.zeros((1000, 1000))
    assert 800 <= count_bytes(base[0, :100]) < 1200
    assert count_bytes({"a": [b"x" * 5000], "b": "text"}) > 5000


def test_random_walks_agree_with_a_list_of_states() -> None:
    """Apply changes to a state and compare with the states that were, 20 walks of 300 steps."""
    for seed in range(20):
        rng = random.Random(seed)
        history = History()
        state = dict.fromkeys("abc", 0)
        states, position = [dict(state)], 0
        for step in range(300):
            action = rng.choice(["push", "push", "undo", "redo"])
            if action == "push":
                name = rng.choice("abc")
                history.push(_set(name, state[name], step))
                state[name] = step
                states = [*states[: position + 1], dict(state)]
                position += 1
            else:
                change = history.undo() if action == "undo" else history.redo()
                if change is not None:
                    position += 1 if action == "redo" else -1
                    state.update(change.forward if action == "redo" else change.backward)
            assert state == states[position]
            assert len(history) == position

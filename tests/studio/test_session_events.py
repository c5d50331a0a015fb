"""What a session says and when: order, threads, questions, errors, and the end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.events import (
    ComparisonReady,
    ConfidenceReady,
    Failed,
    Idle,
    ModalitySuggested,
    PlaneReady,
    Progress,
    ScoresReady,
)
from napari_espmedsam.studio.session import Session

Array = np.ndarray[Any, np.dtype[Any]]
TIMEOUT = 120.0
SHAPE = (64, 96)
"""Two tiles of 64 px; the canvas has 2 x 3 cells of 32 px."""


@pytest.fixture
def stack(discs: Callable[..., Array]) -> Array:
    """Five planes; disc i moves to the right."""
    return np.stack([discs(SHAPE, [(14, 14 + 4 * i), (48, 80)]) for i in range(5)])


def finish(session: Session) -> None:
    assert session.wait(TIMEOUT)


def _wait_for(event: threading.Event) -> None:
    assert event.wait(TIMEOUT)


class Lazy:
    """An array that remembers which threads have read it."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.threads: set[str] = set()

    def __getitem__(self, key: Any) -> Array:
        self.threads.add(threading.current_thread().name)
        return self.array[key]


def test_the_visible_plane_comes_first_then_outwards(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack, advise=False)
    gate_model.open.clear()
    session.show(2)
    session.run()
    gate_model.open.set()
    finish(session)
    assert [event.plane for event in log.of(PlaneReady)] == [2, 3, 1, 4, 0]
    assert isinstance(log.events[-1], Idle)
    assert [event.prompts is None for event in log.of(PlaneReady)] == [False] + 4 * [True]
    progress = log.of(Progress)
    assert {(event.task, event.plane) for event in progress} == {
        ("visible", 2),
        *(("others", plane) for plane in (3, 1, 4, 0)),
    }
    assert (progress[0].tile, progress[0].n_tiles, progress[0].n_done) == (0, 2, 0)
    assert (progress[-1].n_done, progress[-1].n_planes) == (4, 5)


def test_neighbours_are_encoded_before_anybody_asks(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack, advise=False)
    session.show(1)
    finish(session)
    assert [event.plane for event in log.of(PlaneReady)] == [1]
    assert gate_model.n_encoded == 5 * 2
    assert session.labels(2) is None
    session.show(2)
    finish(session)
    assert gate_model.n_encoded == 5 * 2
    assert [event.plane for event in log.of(PlaneReady)] == [1, 2]


def test_a_plane_that_is_shown_again_is_announced_again(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(), stack, advise=False)
    for plane in (0, 1, 0):
        session.show(plane)
        finish(session)
    assert [event.plane for event in log.of(PlaneReady)] == [0, 1, 0]
    session.edit(1, np.s_[0:1, 0:1], 1)  # another plane: the visible one has no news
    finish(session)
    assert [event.plane for event in log.of(PlaneReady)][3:] == [1]


def test_a_plane_is_announced_again_though_another_request_follows_at_once(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(), stack, advise=False)
    session.show(0)
    finish(session)
    free = threading.Event()
    session._workshop.engine.submit("other work", partial(_wait_for, free), priority=-1)
    session.show(0)
    session.run([0])
    free.set()
    finish(session)
    assert [event.plane for event in log.of(PlaneReady) if event.prompts is not None] == [0, 0]


def test_showing_another_plane_does_not_wait_for_the_background(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    """It waits for one tile; and what was encoded so far is not lost."""
    session = make_session(make_segmenter(gate_model), stack, advise=False)
    session.show(0)
    finish(session)
    gate_model.begun.clear()
    gate_model.open.clear()
    session.set("scale", 2.0)  # 4 x 2 tiles a plane: everything is encoded anew
    assert gate_model.begun.wait(TIMEOUT)
    session.show(4)
    log.events.clear()
    gate_model.open.set()
    finish(session)
    first = next(event for event in log.events if isinstance(event, PlaneReady))
    assert first.plane == 4
    tiles = [event.tile for event in log.of(Progress) if event.plane == 0]
    assert sorted(tiles) == list(range(len(tiles))) == list(range(max(tiles) + 1))


def test_planes_that_are_only_passed_by_get_no_labels(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack, advise=False)
    gate_model.open.clear()
    for plane in range(4):
        session.show(plane)
    gate_model.open.set()
    finish(session)
    assert {event.plane for event in log.of(PlaneReady)} <= {0, 3}  # 0 may have been under way
    assert session.labels(3) is not None


def test_nothing_is_computed_or_read_in_the_thread_of_the_caller(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    lazy = Lazy(stack)
    session = make_session(make_segmenter(gate_model), lazy)
    session.show(1)
    session.run()
    session.edit(1, np.s_[0:1, 0:1], 0)
    session.set("modality", "far")
    session.undo()
    session.confidence(1)
    session.score(2)
    session.compare(0, "far")
    session.advise(0)
    session.link("Z")
    session.record()
    finish(session)
    assert not log.of(Failed)
    here = threading.current_thread().name
    for threads in (lazy.threads, gate_model.threads, log.threads):
        assert len(threads) == 1
        assert here not in threads


def test_confidence_and_scores_are_of_the_labels_on_the_screen(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack)
    session.show(0)
    session.edit(0, np.s_[1:2, 2:3], 0)
    session.confidence(0)
    session.score(0, np.ones(SHAPE, bool))
    finish(session)
    (confidence,) = log.of(ConfidenceReady)
    assert confidence.confidence.shape == SHAPE
    assert confidence.confidence.dtype == np.float32
    assert confidence.confidence[14, 14] > 0.9
    (scores,) = log.of(ScoresReady)
    labels = session.labels(0)
    assert labels is not None
    np.testing.assert_array_equal(scores.scores["label"], [labels[14, 14]])
    np.testing.assert_array_equal(scores.scores["prompt_agreement"], [1.0])
    np.testing.assert_array_equal(scores.scores["agreement_with_other"], [1.0])


def test_a_comparison_does_not_switch(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    segmenter = make_segmenter(gate_model)
    session = make_session(segmenter, stack)
    session.show(0)
    session.edit(0, np.s_[0:1, 0:1], 0)
    finish(session)
    before = session.labels(0)
    assert before is not None
    log.events.clear()
    session.compare(0, "far")
    finish(session)
    (found,) = log.of(ComparisonReady)
    assert (found.plane, found.index, found.modality) == (0, (0,), "far")
    expected = segmenter.segment(stack, "far", edits={0: session.edits(0)}).labels[0]
    np.testing.assert_array_equal(found.labels > 0, expected > 0)
    assert found.labels[48, 80] == before[48, 80] > 0
    assert not log.of(PlaneReady)
    assert session.settings.modality == "near"
    with pytest.raises(InputError, match="x-ray"):
        session.compare(0, "x-ray")


def test_a_clearly_more_confident_modality_is_suggested_once_for_each_choice(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack, modality="far")
    session.show(0)
    session.show(1)
    finish(session)
    (hint,) = log.of(ModalitySuggested)
    assert (hint.plane, hint.modality) == (1, "near")
    session.set("modality", "near")
    session.show(0)
    finish(session)
    session.set("modality", "far")
    finish(session)
    assert [each.modality for each in log.of(ModalitySuggested)] == ["near", None]
    session.advise(3)
    finish(session)
    assert (log.events[-2].plane, log.events[-2].modality) == (3, "near")


def test_switching_to_a_less_confident_modality_brings_the_suggestion(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack, modality="near")
    session.show(0)
    finish(session)
    assert not log.of(ModalitySuggested)
    session.set("modality", "far")
    finish(session)
    (hint,) = log.of(ModalitySuggested)
    assert hint.modality == "near"


def test_objects_are_linked_and_keep_their_ids_under_edits(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack)
    session.show(0)
    session.run()
    finish(session)
    session.lock(4, [session.labels(4)[48, 80]])
    session.link("Z")
    finish(session)
    labels = log.labels(stack.shape)
    ids = labels[0, 48, 80]
    assert ids > 0
    np.testing.assert_array_equal(labels[:, 48, 80], ids)
    assert len(np.unique([labels[i, 14, 14 + 4 * i] for i in range(5)])) == 1
    assert session.locked(4)[48, 80] == ids
    session.edit(2, np.s_[0:1, 0:3], 0)
    finish(session)
    assert session.labels(2)[48, 80] == ids
    assert log.labels(stack.shape)[2, 14, 22] == 0
    with pytest.raises(InputError, match="axis is 'T'"):
        session.link("T")


def test_undo_after_linking_keeps_the_ids_that_linking_gave(
    make_segmenter: Any, make_session: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack[:2])
    session.show(0)
    session.run()
    finish(session)
    right, wide = session.labels(1)[48, 80], session.labels(1)[14, 18]
    session.lock(1, [right])
    session.lock(1, [right, wide])  # the step's box holds both
    session.link("Z")
    finish(session)
    linked, locked = session.labels(1), session.locked(1)
    session.undo()
    finish(session)
    np.testing.assert_array_equal(session.labels(1), linked)
    assert set(np.unique(session.locked(1))) == {0, session.labels(0)[48, 80]}
    session.redo()
    finish(session)
    np.testing.assert_array_equal(session.labels(1), linked)
    np.testing.assert_array_equal(session.locked(1), locked)


def test_a_plane_that_cannot_be_read_is_told_and_the_others_go_on(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    image = stack.astype(np.float32)
    segmenter = make_segmenter()
    session = make_session(segmenter, image, advise=False)
    session.show(0)
    finish(session)
    image[3] = np.nan
    session.set("scale", 2.0)  # what is encoded already does not count
    session.run()
    finish(session)
    failed = [event for event in log.of(Failed) if event.plane == 3]
    assert [event.task for event in failed] == ["others"]
    assert "NaN" in str(failed[0].error)
    assert [session.labels(i) is None for i in range(5)] == [False, False, False, True, False]
    session.show(3)
    finish(session)
    assert log.of(Failed)[-1].task == "visible"
    n = len(log.of(Failed))
    session.run([0])  # nothing has changed: it is not tried and told again
    finish(session)
    assert len(log.of(Failed)) == n


def test_a_plane_that_nobody_asked_for_fails_in_silence(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    broken: set[int] = set()

    class Disk(Lazy):
        def __getitem__(self, key: Any) -> Array:
            if broken & {key[0]}:
                raise OSError("the disk is gone")
            return super().__getitem__(key)

    session = make_session(make_segmenter(), Disk(stack), advise=False)
    session.show(4)
    finish(session)
    broken.add(3)  # the neighbour
    session.set("scale", 2.0)  # what is encoded already does not count
    finish(session)
    assert session.is_current(4)
    assert log.of(Failed) == []
    session.show(3)
    finish(session)
    assert [event.plane for event in log.of(Failed)] == [3]


def test_what_would_fail_for_every_plane_is_told_once(
    make_segmenter: Any, make_session: Any, log: Any
) -> None:
    session = make_session(make_segmenter(), np.full((9, 64, 64), 7, np.uint8), advise=False)
    session.show(0)
    finish(session)  # nothing is under way that could see the planes before the run begins
    session.run()
    finish(session)
    assert [event.task for event in log.of(Failed)] == ["visible", "others", "others"]
    assert "no contrast" in str(log.of(Failed)[0].error)
    session.record()
    finish(session)
    assert log.of(Failed)[-1].task == "record"


def test_an_update_that_comes_with_a_failure_does_not_repeat_it(
    make_segmenter: Any, make_session: Any
) -> None:
    failed = []

    def run_at_once(event: Any) -> None:
        if isinstance(event, Failed):
            failed.append(event.task)
            session.run([0])

    flat = np.full((3, 64, 64), 7, np.uint8)
    session = make_session(make_segmenter(), flat, on_event=run_at_once, advise=False)
    session.show(0)
    finish(session)
    assert failed == ["visible"]


def test_stop_keeps_what_is_done(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack, advise=False)
    session.show(0)
    finish(session)
    gate_model.begun.clear()
    gate_model.open.clear()
    session.set("scale", 1.5)
    session.run()
    assert gate_model.begun.wait(TIMEOUT)
    session.stop()
    gate_model.open.set()
    finish(session)
    assert {event.plane for event in log.of(PlaneReady)} == {0}


@pytest.mark.parametrize("wait", [True, False])
def test_closing_in_the_middle_of_work_ends_and_frees_everything(
    wait: bool, make_segmenter: Any, log: Any, gate_model: Any, stack: Array, make_session: Any
) -> None:
    segmenter = make_segmenter(gate_model)
    session = make_session(segmenter, stack)
    session.show(0)
    finish(session)
    live = weakref.ref(next(iter(session._workshop.renderer.cache._live.values())))
    model = weakref.ref(segmenter)
    gate_model.begun.clear()
    gate_model.open.clear()
    session.set("scale", 2.0)
    session.run()
    assert gate_model.begun.wait(TIMEOUT)
    log.events.clear()
    if wait:
        threading.Timer(0.05, gate_model.open.set).start()
    start = time.monotonic()
    session.close(wait=wait)
    assert wait or time.monotonic() - start < 1.0
    gate_model.open.set()
    thread = session._workshop.engine._thread
    assert thread is not None
    thread.join(TIMEOUT)
    assert log.events == []
    del segmenter
    gc.collect()
    assert live() is None
    assert model() is None
    session.show(1)
    session.edit(0, np.s_[0:1, 0:1], 1)
    session.set("threshold", 0.3)
    session.undo()
    session.confidence(0)
    session.close()
    assert log.events == []


def test_two_sessions_share_a_model_and_nothing_else(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, stack: Array
) -> None:
    segmenter = make_segmenter(gate_model)
    other_events: list[Any] = []
    one = make_session(segmenter, stack)
    other = make_session(segmenter, stack, on_event=other_events.append)
    one.show(0)
    other.show(3)
    one.edit(0, np.s_[0:2, 0:3], 0)
    other.set("threshold", 0.3)
    finish(one)
    one.close(wait=True)
    other.edit(3, np.s_[0:1, 0:1], 0)
    finish(other)
    assert {event.plane for event in log.of(PlaneReady)} == {0}
    found = [event for event in other_events if isinstance(event, PlaneReady)]
    assert {event.plane for event in found} == {3}
    assert found[-1].labels[48, 80] > 0
    assert one.settings.threshold is None
    assert other.undo() == "Edit prompt"

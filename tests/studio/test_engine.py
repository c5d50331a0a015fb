"""The worker thread: what comes first, what is dropped, and how it ends."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import pytest

from napari_espmedsam.studio.engine import Done, Engine, Event, Failed, Step

TIMEOUT = 20.0


class Recorder:
    """Keep events, and the thread that they came from."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, event: Event) -> None:
        self.threads.add(threading.current_thread())
        self.events.append(event)

    @property
    def keys(self) -> list[Any]:
        return [event.key for event in self.events]

    @property
    def results(self) -> list[Any]:
        return [event.result for event in self.events if isinstance(event, Done)]


class Gate:
    """Work that says when it has begun, and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.open.wait(TIMEOUT)
        return "gate"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(recorder: Recorder) -> Iterator[Engine]:
    before = threading.active_count()
    built = Engine(recorder)
    yield built
    built.close()
    assert threading.active_count() == before


@pytest.fixture
def gate(engine: Engine) -> Iterator[Gate]:
    """Hold the engine, so that what a test submits has to wait."""
    held = Gate()
    engine.submit("gate", held)
    assert held.begun.wait(TIMEOUT)
    yield held
    held.open.set()


def finish(engine: Engine, gate: Gate | None = None) -> None:
    if gate is not None:
        gate.open.set()
    assert engine.wait(TIMEOUT)


def test_work_is_done_in_one_other_thread(engine: Engine, recorder: Recorder) -> None:
    where: list[threading.Thread] = []
    for i in range(3):
        engine.submit(i, lambda: where.append(threading.current_thread()))
    finish(engine)
    assert len(set(where)) == 1
    assert set(where) == recorder.threads
    assert threading.current_thread() not in recorder.threads
    assert recorder.keys == [0, 1, 2]


def test_no_thread_starts_before_there_is_work() -> None:
    before = threading.active_count()
    idle = Engine(lambda event: None)
    assert idle.idle
    assert threading.active_count() == before
    idle.close()
    assert idle.closed


def test_small_numbers_come_first_and_equals_in_turn(
    engine: Engine, gate: Gate, recorder: Recorder
) -> None:
    for key, priority in (("c", 5), ("a", 1), ("d", 5), ("z", 9), ("b", 1)):
        engine.submit(key, lambda: None, priority=priority)
    finish(engine, gate)
    assert recorder.keys == ["gate", "a", "b", "c", "d", "z"]


def test_the_latest_of_a_key_wins_and_keeps_its_place(
    engine: Engine, gate: Gate, recorder: Recorder
) -> None:
    done: list[int] = []

    def keep(i: int) -> int:
        done.append(i)
        return i

    for i in range(5):
        engine.submit("slider", partial(keep, i))
        if i == 0:
            engine.submit("other", lambda: "other")
    finish(engine, gate)
    assert done == [4]
    assert recorder.results == ["gate", 4, "other"]


def test_a_replacement_takes_its_own_priority(
    engine: Engine, gate: Gate, recorder: Recorder
) -> None:
    engine.submit("plane", lambda: None, priority=9)
    engine.submit("other", lambda: None, priority=5)
    engine.submit("plane", lambda: None, priority=0)
    finish(engine, gate)
    assert recorder.keys == ["gate", "plane", "other"]


def test_running_work_ends_and_is_reported_though_a_newer_one_waits(
    engine: Engine, gate: Gate, recorder: Recorder
) -> None:
    engine.submit("gate", lambda: "newer")
    finish(engine, gate)
    assert recorder.results == ["gate", "newer"]


def test_cancel_drops_what_waits_and_what_runs(
    engine: Engine, gate: Gate, recorder: Recorder
) -> None:
    engine.submit("waits", lambda: None)
    engine.submit("stays", lambda: None)
    assert engine.cancel("waits")
    assert engine.cancel("gate")
    assert not engine.cancel("gate")
    assert not engine.cancel("unknown")
    finish(engine, gate)
    assert recorder.keys == ["stays"]


def test_clear_drops_everything_and_the_engine_goes_on(
    engine: Engine, gate: Gate, recorder: Recorder
) -> None:
    for i in range(5):
        engine.submit(i, lambda: None)
    engine.clear()
    finish(engine, gate)
    assert recorder.keys == []
    engine.submit("after", lambda: 1)
    finish(engine)
    assert recorder.keys == ["after"]


@pytest.mark.parametrize(
    "error", [ValueError("no"), RuntimeError("memory"), SystemExit(3), StopIteration("odd")]
)
def test_errors_are_reported_and_end_nothing(
    error: BaseException, engine: Engine, recorder: Recorder
) -> None:
    def fail() -> None:
        raise error

    engine.submit("bad", fail)
    engine.submit("good", lambda: 1)
    finish(engine)
    bad, good = recorder.events
    assert isinstance(bad, Failed)
    assert (bad.key, bad.error) == ("bad", error)
    assert isinstance(good, Done)


def test_a_handler_that_fails_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def handler(event: Event) -> None:
        seen.append(event.key)
        raise KeyError(event.key)

    engine = Engine(handler)
    with caplog.at_level(logging.ERROR):
        engine.submit("one", lambda: None)
        engine.submit("two", lambda: None)
        finish(engine)
    engine.close()
    assert seen == ["one", "two"]
    assert caplog.text.count("the handler of 'Done' failed") == 2


def steps_of(log: list[Any], name: str, n: int) -> Callable[[], Generator[None, None, str]]:
    def work() -> Generator[None, None, str]:
        try:
            for i in range(n):
                log.append((name, i))
                yield
        finally:
            log.append((name, "end", threading.current_thread()))
        return name

    return work


def test_urgent_work_gets_in_between_the_steps_of_long_work(
    engine: Engine, recorder: Recorder
) -> None:
    log: list[Any] = []
    middle = Gate()

    def long() -> Generator[None, None, str]:
        log.append("first")
        middle()
        yield
        log.append("second")
        return "long"

    engine.submit("long", long, priority=5)
    assert middle.begun.wait(TIMEOUT)
    engine.submit("urgent", lambda: log.append("urgent"), priority=0)
    engine.submit("later", lambda: log.append("later"), priority=9)
    middle.open.set()
    finish(engine)
    assert log == ["first", "urgent", "second", "later"]
    assert recorder.keys == ["urgent", "long", "later"]
    assert "long" in recorder.results


def test_half_done_work_ends_in_the_worker_when_replaced_or_cancelled(
    engine: Engine, recorder: Recorder
) -> None:
    for stop in (
        lambda: engine.submit("long", lambda: "new", priority=5),
        lambda: engine.cancel("long"),
        engine.clear,
    ):
        log: list[Any] = []
        held = Gate()
        engine.submit("long", steps_of(log, "long", 10**9), priority=5)
        while not log:
            time.sleep(0.001)
        engine.submit("hold", held, priority=0)
        assert held.begun.wait(TIMEOUT)
        stop()
        held.open.set()
        finish(engine)
        assert log[-1][:2] == ("long", "end")
        assert log[-1][2] is not threading.current_thread()
    assert "long" not in recorder.results
    assert recorder.results.count("new") == 1


def test_what_a_generator_yields_is_reported(engine: Engine, recorder: Recorder) -> None:
    def work() -> Generator[int | None, None, str]:
        yield 1
        yield None
        yield 2
        return "end"

    engine.submit("steps", work)
    finish(engine)
    assert [(type(e), getattr(e, "value", None)) for e in recorder.events] == [
        (Step, 1),
        (Step, 2),
        (Done, None),
    ]
    assert recorder.results == ["end"]


def test_a_step_that_raises_is_reported(engine: Engine, recorder: Recorder) -> None:
    def work() -> Generator[None, None, None]:
        yield
        raise ValueError("in the second step")

    engine.submit("bad", work)
    finish(engine)
    (event,) = recorder.events
    assert isinstance(event, Failed)
    assert str(event.error) == "in the second step"


@pytest.mark.parametrize("wait", [True, False])
def test_after_close_nothing_is_called_back(wait: bool, recorder: Recorder) -> None:
    exits: list[threading.Thread] = []
    engine = Engine(recorder, at_exit=lambda: exits.append(threading.current_thread()))
    held = Gate()
    engine.submit("gate", held)
    engine.submit("waits", lambda: None)
    assert held.begun.wait(TIMEOUT)
    threading.Timer(0.05, held.open.set).start()
    engine.close(wait=wait)
    engine.submit("late", lambda: None)
    if not wait:
        assert not exits  # it still works: the caller did not wait
    thread = engine._thread
    assert thread is not None
    thread.join(TIMEOUT)
    engine.close()
    assert recorder.events == []
    assert exits == [thread]
    assert engine.idle
    assert engine.wait(0)


def test_close_waits_for_an_event_that_is_being_handled() -> None:
    handling, go_on, through = threading.Event(), threading.Event(), threading.Event()

    def handler(event: Event) -> None:
        handling.set()
        go_on.wait(TIMEOUT)
        through.set()

    engine = Engine(handler)
    engine.submit("one", lambda: None)
    assert handling.wait(TIMEOUT)
    threading.Timer(0.05, go_on.set).start()
    engine.close(wait=False)
    assert through.is_set()
    engine.close()


def test_a_handler_may_close_and_submit() -> None:
    seen: list[Any] = []

    def handler(event: Event) -> None:
        seen.append(event.key)
        if event.key == 0:
            own.submit(1, lambda: None)
        else:
            own.submit(2, lambda: None)
            own.close()

    own = Engine(handler)
    own.submit(0, lambda: None)
    assert own._thread is not None
    own._thread.join(TIMEOUT)
    assert not own._thread.is_alive()
    assert seen == [0, 1]


def test_closing_ends_half_done_work() -> None:
    log: list[Any] = []
    engine = Engine(lambda event: None)
    engine.submit("long", steps_of(log, "long", 10**9))
    while not log:
        time.sleep(0.001)
    engine.close()
    assert log[-1][:2] == ("long", "end")


def test_an_unused_engine_cleans_up_once() -> None:
    exits: list[int] = []
    engine = Engine(lambda event: None, at_exit=lambda: exits.append(1))
    engine.close()
    engine.close()
    assert exits == [1]


def test_cleaning_up_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("gone")

    engine = Engine(lambda event: None, at_exit=fail)
    engine.submit(1, lambda: None)
    engine.close()
    assert "cleaning up failed" in caplog.text


def test_two_engines_do_not_wait_for_each_other(engine: Engine, gate: Gate) -> None:
    other_recorder = Recorder()
    other = Engine(other_recorder)
    other.submit("quick", lambda: 1)
    finish(other)
    other.close()
    assert other_recorder.results == [1]
    assert not engine.idle
    assert not engine.closed


def test_an_idle_engine_holds_no_work_and_no_result() -> None:
    class Plane:
        pass

    engine = Engine(lambda event: None)
    plane = Plane()
    gone = weakref.ref(plane)
    engine.submit("plane", partial(tuple, [plane]))
    finish(engine)
    del plane
    gc.collect()
    assert gone() is None
    engine.close()


def test_many_threads_may_submit_at_once(engine: Engine, recorder: Recorder) -> None:
    def send(n: int) -> None:
        for i in range(200):
            engine.submit((n, i % 10), partial(int, i), priority=i % 3)
            if i % 17 == 0:
                engine.cancel((n, (i + 5) % 10))

    senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    finish(engine)
    last = {key: event.result for key, event in ((e.key, e) for e in recorder.events)}  # type: ignore[union-attr]
    assert last[0, 9] == 199
    assert all(isinstance(event, Done) for event in recorder.events)


def test_a_forgotten_engine_ends_with_the_process() -> None:
    """It is waited for: no step is cut off inside a kernel."""
    program = (
        "import time\n"
        "from napari_espmedsam.studio.engine import Engine\n"
        "def steps():\n"
        "    try:\n"
        "        while True:\n"
        "            time.sleep(0.05)\n"
        "            yield\n"
        "    finally:\n"
        "        print('ended', flush=True)\n"
        "engine = Engine(print)\n"
        "engine.submit('long', steps)\n"
        "time.sleep(0.2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_process_waits_for_the_step_of_a_closed_engine() -> None:
    """A window closes its engine without waiting, and napari ends right after."""
    program = (
        "import sys, threading, time\n"
        "from napari_espmedsam.studio.engine import Engine\n"
        "begun = threading.Event()\n"
        "def work():\n"
        "    begun.set()\n"
        "    time.sleep(0.5)\n"
        "    print('ended')\n"
        "engine = Engine(lambda event: None)\n"
        "engine.submit('a', work)\n"
        "begun.wait()\n"
        "engine.close(wait=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")

"""Events cross into the GUI thread, and nothing arrives or is left behind once a bridge closes."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.bridge import SessionBridge


class FakeSession:
    """Says what it is told to, in threads of its own."""

    def __init__(self, on_event: Any) -> None:
        self.on_event = on_event
        self.closed = threading.Event()

    def say(self, *events: Any) -> threading.Thread:
        thread = threading.Thread(target=lambda: [self.on_event(event) for event in events])
        thread.start()
        return thread

    def close(self, wait: bool = False) -> None:
        self.closed.set()


def open_bridge(qtbot: Any, parent: QObject) -> tuple[SessionBridge, FakeSession]:
    bridge = SessionBridge(FakeSession, parent)  # type: ignore[arg-type]
    with qtbot.waitSignal(bridge.opened):
        pass
    return bridge, bridge.session  # type: ignore[return-value]


def test_a_session_is_opened_in_a_thread_and_heard_in_the_gui_thread(qtbot, parent) -> None:
    threads: list[str] = []
    may_open = threading.Event()

    def make(on_event: Any) -> Any:
        may_open.wait(30)
        threads.append(threading.current_thread().name)
        on_event("early")
        return FakeSession(on_event)

    heard: list[tuple[Any, str]] = []
    bridge = SessionBridge(make, parent)
    bridge.event.connect(lambda event: heard.append((event, threading.current_thread().name)))
    assert bridge.session is None
    with qtbot.waitSignal(bridge.opened):
        may_open.set()
    bridge.session.say(*range(100))
    qtbot.waitUntil(lambda: len(heard) == 101)
    assert [event for event, _ in heard] == ["early", *range(100)]
    assert {name for _, name in heard} == {"MainThread"}
    assert threads == ["espmedsam-open"]
    bridge.close()


def test_an_error_on_opening_is_told(qtbot, parent) -> None:
    def make(_on_event: Any) -> Any:
        raise CheckpointError("no such file")

    bridge = SessionBridge(make, parent)
    with qtbot.waitSignal(bridge.failed) as caught:
        pass
    assert isinstance(caught.args[0], CheckpointError)
    assert bridge.session is None
    bridge.close()


def test_what_was_said_before_closing_does_not_arrive_after_it(qtbot, parent) -> None:
    bridge, session = open_bridge(qtbot, parent)
    heard: list[Any] = []
    bridge.event.connect(heard.append)
    session.say("late").join()  # it is in the queue now
    bridge.close()
    bridge.close()
    assert bridge.session is None
    assert session.closed.is_set()
    session.say("later").join()
    qtbot.wait(10)
    assert not heard


def test_closing_while_opening_closes_what_comes(qtbot, parent) -> None:
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make(on_event: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        made.append(FakeSession(on_event))
        return made[0]

    bridge = SessionBridge(make, parent)
    heard: list[Any] = []
    bridge.opened.connect(lambda: heard.append("opened"))
    assert begun.wait(10)
    bridge.close()
    go_on.set()
    qtbot.waitUntil(lambda: bool(made) and made[0].closed.is_set())
    qtbot.wait(10)
    assert not heard
    assert bridge.session is None


def test_the_session_closes_with_the_parent_while_it_is_talking(qtbot) -> None:
    for _ in range(20):
        parent = QObject()
        bridge, session = open_bridge(qtbot, parent)
        bridge.event.connect(lambda event: None)
        talking = session.say(*range(2000))
        parent.deleteLater()
        qtbot.waitUntil(session.closed.is_set)
        talking.join()
        session.on_event("afterwards")
    qtbot.wait(10)


def test_nothing_holds_a_closed_bridge(qtbot, parent) -> None:
    bridge, session = open_bridge(qtbot, parent)
    bridge.close()
    left = weakref.ref(session)
    bridge.deleteLater()
    del bridge, session
    qtbot.wait(20)
    gc.collect()
    assert left() is None
    names = [thread.name for thread in threading.enumerate()]
    assert "espmedsam-open" not in names


def test_an_event_that_arrives_while_another_is_handled_waits_for_it(qtbot, parent) -> None:
    bridge, session = open_bridge(qtbot, parent)
    heard: list[Any] = []

    def handle(event: Any) -> None:
        heard.append(("begin", event))
        QApplication.processEvents()  # as plugins that hear of a new layer may do
        heard.append(("end", event))

    bridge.event.connect(handle)
    session.say(1, 2).join()
    qtbot.waitUntil(lambda: len(heard) == 4)
    assert heard == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]
    bridge.close()


def test_jobs_wait_for_the_thread_that_was_closed_before(qtbot, parent) -> None:
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go_on.wait(10)
        done.append("first")

    background = Background(parent, at_exit=lambda: done.append("freed"))
    background.submit("a", first)
    assert begun.wait(10)
    background.close()
    background.submit("b", lambda: done.append("second"))
    qtbot.wait(20)
    go_on.set()
    qtbot.waitUntil(lambda: len(done) == 3)
    assert done == ["first", "freed", "second"]
    background.close()
    qtbot.waitUntil(lambda: len(done) == 4)

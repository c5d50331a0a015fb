"""Small jobs beside the GUI thread: the latest of a kind wins, and none outlives its owner."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.studio.engine import Done, Engine, Failed, Step
from napari_espmedsam.widgets.farewell import Farewell


class Background(QObject):
    """A worker thread whose results arrive in the GUI thread.

    Parameters
    ----------
    parent
        Qt parent; the thread ends with it.
    at_exit
        Frees what the jobs were using, in the thread, when it ends.

    Attributes
    ----------
    done : Signal(object, object)
        Key and result of a job.
    failed : Signal(object, object)
        Key and exception of a job.
    step : Signal(object, object)
        Key of a job that is a generator, and what it has yielded on its way.
    """

    done = Signal(object, object)
    failed = Signal(object, object)
    step = Signal(object, object)

    def __init__(self, parent: QObject, at_exit: Callable[[], None] | None = None) -> None:
        super().__init__(parent)
        self._at_exit = at_exit
        self._engine: Engine | None = None
        self._before: Engine | None = None  # closed; its thread may still be at work
        self._mail: _Mail | None = None
        self._farewell: Farewell | None = None
        self._heard = 0

    @property
    def is_busy(self) -> bool:
        """Whether a job is waiting or being done, or its result has not been heard of."""
        if self._engine is None or self._mail is None:
            return False
        idle = self._engine.idle  # first: a result is posted before the engine is idle
        return not idle or self._mail.posted > self._heard

    def submit(self, key: Hashable, work: Callable[[], Any]) -> None:
        """Do a job; one of the same key that waits is dropped.

        The job must not touch any Qt object or layer. After :meth:`close` it waits, in its thread,
        until the thread before has ended: the jobs may use the same things.
        """
        if self._engine is None:
            # The thread holds the mail and not this object, which may go at any time.
            self._mail = _Mail()
            self._mail.arrived.connect(self._on_mail)
            self._heard = 0
            self._engine = Engine(self._mail.post, at_exit=self._at_exit, name="espmedsam-objects")
            self._farewell = Farewell(self, partial(self._engine.close, wait=False))
        if self._before is not None:
            work = partial(_after, self._before, work)
        self._engine.submit(key, work)

    def cancel(self, key: Hashable) -> None:
        """Drop a job, waiting or running; nothing is heard of it any more."""
        if self._engine is not None:
            self._engine.cancel(key)

    def close(self) -> None:
        """Drop all jobs and end the thread; the next job starts another."""
        if self._engine is None:
            return
        engine, self._engine = self._engine, None
        self._before = engine
        if self._farewell is not None:
            self._farewell.cancel()
        if self._mail is not None:
            self._mail.arrived.disconnect(self._on_mail)  # what is under way arrives nowhere
        engine.close(wait=False)

    def _on_mail(self, event: object) -> None:
        self._heard += 1
        if isinstance(event, Done):
            self.done.emit(event.key, event.result)
        elif isinstance(event, Step):
            self.step.emit(event.key, event.value)
        elif isinstance(event, Failed):
            self.failed.emit(event.key, event.error)


def _after(before: Engine, work: Callable[[], Any]) -> Any:
    """Do a job once the thread of an engine has ended; called in another thread."""
    before.close(wait=True)
    return work()


class _Mail(QObject):
    """Carries events from the worker thread to the thread that it was made in."""

    arrived = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.posted = 0

    def post(self, event: object) -> None:
        """Send an event; called in the worker thread."""
        self.posted += 1
        self.arrived.emit(event)

"""One worker thread that does the most urgent task first. No Qt: results come by a callback.

Long work is written as a generator: wherever it yields, a more urgent task may get in between,
and a cancelled one ends. So a stroke never waits for a whole plane of the background.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from napari_espmedsam.studio.task import Task, Work

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Done:
    """A task has ended well.

    Attributes
    ----------
    key : hashable
        As submitted.
    result : object
        What the work returned.
    """

    key: Hashable
    result: Any


@dataclass(frozen=True, eq=False)
class Step:
    """A task has something to say, and goes on.

    Attributes
    ----------
    key : hashable
        As submitted.
    value : object
        What its generator has yielded; not None.
    """

    key: Hashable
    value: Any


@dataclass(frozen=True, eq=False)
class Failed:
    """A task has raised.

    Attributes
    ----------
    key : hashable
        As submitted.
    error : BaseException
        What it raised.
    """

    key: Hashable
    error: BaseException


Event = Done | Step | Failed


class Engine:
    """A worker thread with priorities, where the latest submission of a key wins.

    Every method returns at once, may be called from any thread, and does nothing once the engine
    is closed. The thread starts with the first submission.

    Parameters
    ----------
    on_event : callable
        Gets a :class:`Done` or a :class:`Failed` for each task that was neither replaced nor
        cancelled, and a :class:`Step` for what its generator yields, if it is not None. It is
        called in the worker thread and must not wait for another thread. What it raises is logged.
    at_exit : callable, optional
        Called once when the engine has closed and no work is left, in the worker thread (or in
        that of the caller of :meth:`close` if nothing was ever submitted). It frees what the
        work was using.
    name : str
        Name of the thread.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        *,
        at_exit: Callable[[], None] | None = None,
        name: str = "espmedsam-engine",
    ) -> None:
        self._on_event = on_event
        self._at_exit = at_exit
        self._name = name
        self._change = threading.Condition()  # guards all that follows
        self._waiting: dict[Hashable, Task] = {}
        self._discarded: list[Task] = []  # half done; their generators end in the worker thread
        self._running: Task | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._order = 0
        self._delivery = threading.RLock()  # held while on_event runs; never taken inside _change

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or being worked on."""
        with self._change:
            return self._is_idle()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        with self._change:
            return self._closed

    def submit(self, key: Hashable, work: Work, *, priority: int = 0) -> None:
        """Ask for some work.

        Parameters
        ----------
        key : hashable
            A waiting task of the same key is replaced, a half-done generator among them, and the
            new one takes its place in the queue. A step that is running is not interrupted; if
            it was the last one, its result is still reported.
        work : callable
            Called without arguments in the worker thread. If it returns a generator, that is run
            step by step, and its return value is the result.
        priority : int
            Smaller is sooner; equals are served in the order of submission.
        """
        with self._change:
            if self._closed:
                return
            replaced = self._waiting.pop(key, None)
            if replaced is not None:
                self._discarded.append(replaced)
            self._order += 1
            order = self._order if replaced is None else replaced.urgency[1]
            self._waiting[key] = Task(key, work, (priority, order))
            self._start()
            self._change.notify_all()

    def cancel(self, key: Hashable) -> bool:
        """Drop the task of a key, running or waiting.

        Returns
        -------
        bool
            Whether there was one. Unless its event was under way already, none will come.
        """
        with self._change:
            found = self._drop(lambda task: task.key == key)
            self._change.notify_all()
            return found

    def clear(self) -> None:
        """Drop all tasks, running and waiting."""
        with self._change:
            self._drop(lambda task: True)
            self._change.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do, for scripts and tests: a GUI must not.

        Parameters
        ----------
        timeout : float, optional
            Seconds; for ever when None.

        Returns
        -------
        bool
            Whether the engine is idle or closed.
        """
        with self._change:
            return self._change.wait_for(lambda: self._closed or self._is_idle(), timeout)

    def close(self, wait: bool = True) -> None:
        """Drop all tasks and end the thread. When this returns, no event comes any more.

        Parameters
        ----------
        wait : bool
            Whether to wait until the step that is running has ended and ``at_exit`` is done. A
            GUI says False: the thread ends by itself.
        """
        with self._change:
            first, self._closed = not self._closed, True
            self._drop(lambda task: True)
            self._change.notify_all()
            thread = self._thread
        with self._delivery:  # an event that is being handled is through now
            pass
        if thread is None and first:
            self._run_at_exit()
        elif thread is not None and wait and thread is not threading.current_thread():
            thread.join()

    def _is_idle(self) -> bool:
        return not self._waiting and not self._discarded and self._running is None

    def _drop(self, wanted: Callable[[Task], bool]) -> bool:
        """Drop tasks; for holders of the lock."""
        keys = [key for key, task in self._waiting.items() if wanted(task)]
        self._discarded += [self._waiting.pop(key) for key in keys]
        running = self._running
        hit = running is not None and not running.dropped and wanted(running)
        if running is not None and hit:
            running.dropped = True
        return hit or bool(keys)

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, so that a forgotten engine keeps no process alive, but one that is waited
            # for at the end: torch must not be inside a kernel while the interpreter goes down.
            self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            atexit.register(self.close)
            self._thread.start()

    def _loop(self) -> None:
        while (task := self._take()) is not None:
            self._step(task)
            del task  # an idle thread holds no plane and no result
        self._run_at_exit()
        atexit.unregister(self.close)  # only now: somebody has to wait for a step that goes on

    def _take(self) -> Task | None:
        """Wait for the most urgent task; None when the engine is closed."""
        while True:
            with self._change:
                self._running = None
                self._change.notify_all()
                self._change.wait_for(
                    lambda: self._closed or bool(self._waiting) or bool(self._discarded)
                )
                if not self._discarded:
                    return None if self._closed else self._pick()
            self._end_discarded()

    def _pick(self) -> Task:
        """Take the most urgent task; for holders of the lock."""
        task = min(self._waiting.values(), key=lambda each: each.urgency)
        self._running = self._waiting.pop(task.key)
        return task

    def _end_discarded(self) -> None:
        with self._change:
            discarded = list(self._discarded)
        for each in discarded:
            each.end()
        with self._change:  # only now: until its last line has run, the engine is not idle
            del self._discarded[: len(discarded)]

    def _step(self, task: Task) -> None:
        """Run a task up to its next yield, or to its end."""
        try:
            ended, result = task.advance()
        except BaseException as error:  # SystemExit as well: it must not end the thread
            self._deliver(task, Failed(task.key, error))
            return
        if ended:
            self._deliver(task, Done(task.key, result))
            return
        if result is not None:
            self._deliver(task, Step(task.key, result))
        self._put_back(task)

    def _put_back(self, task: Task) -> None:
        with self._change:
            if task.dropped or self._closed or task.key in self._waiting:
                self._discarded.append(task)
            else:
                self._waiting[task.key] = task

    def _deliver(self, task: Task, event: Event) -> None:
        with self._delivery:
            with self._change:
                if task.dropped or self._closed:
                    return
            try:
                self._on_event(event)
            except Exception:
                _log.exception("the handler of %r failed", type(event).__name__)

    def _run_at_exit(self) -> None:
        if self._at_exit is None:
            return
        try:
            self._at_exit()
        except Exception:
            _log.exception("cleaning up failed")

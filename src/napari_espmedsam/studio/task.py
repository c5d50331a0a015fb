"""One submission to the engine: work that is waiting, half done, or being done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable
from typing import Any

_log = logging.getLogger(__name__)

Work = Callable[[], Any]


class Task:
    """Work with a key and an urgency.

    Parameters
    ----------
    key : hashable
        What it is about.
    work : callable
        Called without arguments; it may return a generator, which is then run step by step.
    urgency : tuple of int
        Priority and order of submission; the smallest comes first.

    Attributes
    ----------
    dropped : bool
        Whether nobody wants the outcome any more.
    """

    def __init__(self, key: Hashable, work: Work, urgency: tuple[int, int]) -> None:
        self.key, self.urgency = key, urgency
        self.dropped = False
        self._work = work
        self._steps: Generator[Any, None, Any] | None = None

    def advance(self) -> tuple[bool, Any]:
        """Run up to the next yield or to the end: whether it has ended, and what came of it."""
        if self._steps is None:
            result = self._work()
            if not isinstance(result, Generator):
                return True, result
            self._steps = result
        try:
            return False, next(self._steps)
        except StopIteration as stop:
            return True, stop.value

    def end(self) -> None:
        """Close a generator that is half done, so that its ``finally`` blocks run."""
        if self._steps is None:
            return
        try:
            self._steps.close()
        except Exception:
            _log.exception("a dropped task failed to end")

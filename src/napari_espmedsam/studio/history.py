"""Undo and redo of changes that are plain data. Nothing here knows what a change means."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

MAX_BYTES = 2**26  # 64 MB: thousands of strokes, or some hundred whole canvases
MERGE_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Change:
    """One step that a user can take back.

    Attributes
    ----------
    what : str
        What was done, for a menu: "Erase patch", "Threshold".
    forward, backward : tuple
        Plain data, in the order in which it has to be applied: what does the step again, and what
        takes it back. The owner of the history defines and applies it.
    key : hashable, optional
        Changes of equal key that follow each other quickly become one, e.g. those of one slider
        drag or of one brush stroke. None: never merged.
    chained : bool
        How a merged change is made. False: the newest forward and the oldest backward, for
        changes that each set the same thing as a whole. True: all of them, for changes that each
        touch another part.
    """

    what: str
    forward: tuple[Any, ...]
    backward: tuple[Any, ...]
    key: Hashable | None = None
    chained: bool = False

    @property
    def nbytes(self) -> int:
        """Memory that the data takes, in bytes."""
        return count_bytes((self.forward, self.backward))

    def merged(self, later: Change) -> Change:
        """Return this change and a later one as one."""
        if self.chained:
            forward = self.forward + later.forward
            return replace(later, forward=forward, backward=later.backward + self.backward)
        return replace(later, backward=self.backward)


class History:
    """The changes of one session. Not thread-safe: it belongs to the thread of the user.

    Parameters
    ----------
    max_bytes : int
        The oldest changes are forgotten beyond this. The newest one is always kept.
    merge_seconds : float
        A change that comes later than this after one of the same key is a step of its own.
    clock : callable
        Gives seconds that never go back; another one for tests.
    """

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        merge_seconds: float = MERGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._merge_seconds = merge_seconds
        self._clock = clock
        self._done: deque[Change] = deque()
        self._undone: list[Change] = []
        self._nbytes = 0
        self._merge_until = -np.inf

    def __len__(self) -> int:
        """Count the changes that can be undone."""
        return len(self._done)

    @property
    def nbytes(self) -> int:
        """Memory that all changes take, undone ones included, in bytes."""
        return self._nbytes

    @property
    def undo_text(self) -> str:
        """What :meth:`undo` would take back; "" for nothing."""
        return self._done[-1].what if self._done else ""

    @property
    def redo_text(self) -> str:
        """What :meth:`redo` would do again; "" for nothing."""
        return self._undone[-1].what if self._undone else ""

    def push(self, change: Change) -> None:
        """Remember a change that has been made. What was undone before cannot be redone."""
        for undone in self._undone:
            self._nbytes -= undone.nbytes
        self._undone.clear()
        now = self._clock()
        if change.key is not None and now <= self._merge_until and self._done[-1].key == change.key:
            earlier = self._done.pop()
            self._nbytes -= earlier.nbytes
            change = earlier.merged(change)
        self._done.append(change)
        self._nbytes += change.nbytes
        self._merge_until = now + self._merge_seconds
        while self._nbytes > self._max_bytes and len(self._done) > 1:
            self._nbytes -= self._done.popleft().nbytes

    def seal(self) -> None:
        """End the step: the next change is one of its own (the mouse button was released)."""
        self._merge_until = -np.inf

    def undo(self) -> Change | None:
        """Return the last change, whose ``backward`` is to be applied now; None for nothing."""
        self.seal()
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def redo(self) -> Change | None:
        """Return the change undone last, whose ``forward`` is to be applied now, or None."""
        self.seal()
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return self._done[-1]

    def rewrite(self, change: Callable[[Any], Any]) -> None:
        """Replace each piece of data, forward and backward, by what a function makes of it.

        It has to take as much memory as before.
        """

        def rewritten(each: Change) -> Change:
            forward, backward = (tuple(map(change, part)) for part in (each.forward, each.backward))
            return replace(each, forward=forward, backward=backward)

        self._done = deque(map(rewritten, self._done))
        self._undone = list(map(rewritten, self._undone))

    def clear(self) -> None:
        """Forget everything."""
        self.seal()
        self._done.clear()
        self._undone.clear()
        self._nbytes = 0


def count_bytes(data: Any) -> int:
    """Estimate the memory of plain data: arrays, text, numbers, and containers of them."""
    if isinstance(data, np.ndarray):
        return sys.getsizeof(data) + (0 if data.base is None else data.nbytes)
    size = sys.getsizeof(data)
    if isinstance(data, Mapping):
        return size + sum(count_bytes(each) for pair in data.items() for each in pair)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | bytearray):
        return size + sum(map(count_bytes, data))
    return size

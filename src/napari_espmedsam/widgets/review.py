"""Going through objects one by one, in an order that may change under way. No Qt."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class ReviewList(Generic[Key]):
    """Steps through objects; each comes up once, whatever happens to the order meanwhile.

    A correction changes the scores, hence the order. So the next object is the first one of the
    order that has not been seen, and the previous one is the one that was shown before.
    """

    def __init__(self) -> None:
        self._order: tuple[Key, ...] = ()
        self._known: frozenset[Key] = frozenset()
        self._finished: frozenset[Key] = frozenset()
        self._path: list[Key] = []  # in the order of their visits
        self._at = -1
        self._between = False  # the object at which we were is gone; `_at` is the one before it
        self._seen: set[Key] = set()

    @property
    def current(self) -> Key | None:
        """The object that is looked at; None before the first step, or when it is gone."""
        return self._path[self._at] if self._at >= 0 and not self._between else None

    @property
    def total(self) -> int:
        """Number of objects that are not finished."""
        return len(self._known - self._finished)

    @property
    def seen(self) -> int:
        """Number of those that have been looked at."""
        return len((self._known - self._finished) & self._seen)

    def set_order(self, order: Iterable[Key], finished: Collection[Key] = ()) -> None:
        """Set the objects that there are.

        Parameters
        ----------
        order : iterable
            All objects, the one to look at first at the start.
        finished : collection
            Those among them that need no look, such as locked ones.
        """
        self._order = tuple(order)
        self._known = frozenset(self._order)
        self._finished = frozenset(finished)
        self._seen &= self._known
        gone = self.current is not None and self.current not in self._known
        before = [key for key in self._path[: self._at + 1] if key in self._known]
        after = [key for key in self._path[self._at + 1 :] if key in self._known]
        self._path, self._at = before + after, len(before) - 1
        self._between = gone or self._between

    def next(self) -> Key | None:
        """Go on to the next object: the one that was left by :meth:`previous`, or an unseen one.

        Returns
        -------
        object or None
            None once when all have been seen; the call after that begins again.
        """
        if self._at + 1 < len(self._path):
            self._at += 1
            self._between = False
            return self.current
        key = next((k for k in self._order if k not in self._seen and not self._skip(k)), None)
        if key is None:
            self.restart()
            return None
        self.visit(key)
        return key

    def previous(self) -> Key | None:
        """Go back to the object before; None where there is none."""
        step = 0 if self._between else 1
        if self._at < step:
            return None
        self._at -= step
        self._between = False
        return self.current

    def visit(self, key: Key) -> None:
        """Note that an object is looked at, because the user has chosen it."""
        if key not in self._known or key == self.current:
            return
        del self._path[self._at + 1 :]
        self._path.append(key)
        self._at = len(self._path) - 1
        self._between = False
        self._seen.add(key)

    def restart(self) -> None:
        """Forget what has been seen."""
        self._path, self._at, self._between = [], -1, False
        self._seen.clear()

    def _skip(self, key: Key) -> bool:
        return key in self._finished

"""Settings that are being dragged: one change on its way at a time, and then the latest. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Send = Callable[[Mapping[str, Any]], int | None]


class LiveSettings:
    """Hands changes on as fast as results come, and no faster.

    So what is on the screen follows a slider that is being dragged, where a newer change would
    otherwise overtake each result before it is shown.

    Parameters
    ----------
    send
        Makes changes, and returns the revision whose result shows them; None if there will be
        none.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: dict[str, Any] = {}
        self._under_way: int | None = None

    @property
    def waiting(self) -> Mapping[str, Any]:
        """Changes that have not been handed on."""
        return self._waiting

    @property
    def is_busy(self) -> bool:
        """Whether a change is on its way."""
        return self._under_way is not None

    def change(self, name: str, value: Any) -> None:
        """Change a setting, now or after the change that is on its way."""
        self._waiting[name] = value
        if self._under_way is None:
            self._flush()

    def note_result(self, revision: int) -> None:
        """Say that a result of a revision is on the screen."""
        if self._under_way is not None and revision >= self._under_way:
            self._flush()

    def note_end(self) -> None:
        """Say that no result will come any more: all is done, or something failed."""
        if self._under_way is not None:
            self._flush()

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._under_way = None

    def _flush(self) -> None:
        changes, self._waiting = self._waiting, {}
        self._under_way = self._send(changes) if changes else None

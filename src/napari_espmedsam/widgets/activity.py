"""A bar in napari's activity dock that nothing has to wait for.

Each update of a napari bar processes all of Qt's events before it returns, which may take long
and may run our own slots inside. So a run only notes how far it is, and a timer shows that.
"""

from __future__ import annotations

from collections.abc import Callable

from napari.utils.progress import cancelable_progress
from qtpy.QtCore import QObject, QTimer

_PAUSE = 250  # ms between two updates
_STEPS = 100


class ActivityBar(QObject):
    """Shows the share of a run that is done; the bar appears with the first update.

    Parameters
    ----------
    title
        What the run does.
    cancel
        Called by the bar's cancel button.
    parent
        Qt parent.
    """

    def __init__(self, title: str, cancel: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._title, self._cancel = title, cancel
        self._fraction, self._text = 0.0, ""
        self._bar: _Bar | None = None
        self._closed = self._busy = False
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._show)
        self._timer.start(_PAUSE)

    def set_progress(self, fraction: float, text: str) -> None:
        """Note the share that is done, 0 to 1, and what it means in words."""
        self._fraction, self._text = fraction, text

    def close(self) -> None:
        """Remove the bar."""
        self._closed = True
        self._timer.stop()
        if self._bar is not None:
            self._bar.close()
        if not self._busy:
            self.deleteLater()

    def _show(self) -> None:
        """Update the bar; the events that this processes may close it or call here again."""
        if self._busy:
            return
        self._busy = True
        try:
            self._update()
        finally:
            self._busy = False
            if self._closed:
                self.deleteLater()

    def _update(self) -> None:
        if self._bar is None:
            bar = _Bar(total=_STEPS, desc=self._title, cancel_callback=self._cancel)
            if self._closed:
                bar.close()
                return
            self._bar = bar
        step = int(self._fraction * _STEPS) - self._bar.n
        if step > 0:
            self._bar.set_description(f"{self._title}, {self._text}")
        if step > 0 and not self._closed:
            self._bar.update(step)


class _Bar(cancelable_progress):
    """A bar whose cancel button acts at once; napari's own waits for an iteration."""

    def cancel(self) -> None:
        super().cancel()
        self.cancel_callback()

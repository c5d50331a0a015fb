"""A bar in napari's activity dock that nothing has to wait for.

Each update of a napari bar processes all of Qt's events before it returns, which may take long
and may run our own slots inside. So a run only notes how far it is, and a timer shows that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from weakref import WeakMethod

from napari.utils.progress import cancelable_progress
from qtpy.QtCore import QObject, QTimer

from napari_espmedsam.widgets.farewell import Farewell

_PAUSE = 250  # ms between two updates
_STEPS = 100


class ActivityBar(QObject):
    """Shows the share of a run that is done; the bar appears with the first update.

    Parameters
    ----------
    title
        What the run does.
    cancel
        A method, called by the bar's cancel button. Its object is not kept alive.
    parent
        Qt parent. The bar goes with it.
    """

    def __init__(self, title: str, cancel: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._title, self._cancel = title, partial(_call, WeakMethod(cancel))
        self._fraction, self._text = 0.0, ""
        self._busy = False
        self._shown = _Shown()
        # napari keeps bars that nobody closes. Not at once: closing one processes events.
        self._farewell = Farewell(self, partial(_close_soon, self._shown))
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._show)
        self._timer.start(_PAUSE)

    def set_progress(self, fraction: float, text: str) -> None:
        """Note the share that is done, 0 to 1, and what it means in words."""
        self._fraction, self._text = fraction, text

    def close(self) -> None:
        """Remove the bar."""
        self._timer.stop()
        self._shown.close()
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
            if self._shown.closed:
                with suppress(RuntimeError):  # Qt may have deleted this object with its parent
                    self.deleteLater()

    def _update(self) -> None:
        if self._shown.bar is None:
            self._shown.open(_Bar(total=_STEPS, desc=self._title, cancel_callback=self._cancel))
        bar = self._shown.bar
        step = 0 if bar is None else int(self._fraction * _STEPS) - bar.n
        if bar is not None and step > 0:
            bar.set_description(f"{self._title}, {self._text}")
        if bar is not None and step > 0 and not self._shown.closed:
            bar.update(step)


class _Shown:
    """The bar, for what outlives the object that updates it."""

    def __init__(self) -> None:
        self.bar: _Bar | None = None
        self.closed = False

    def open(self, bar: _Bar) -> None:
        if self.closed:  # while the bar was made
            bar.close()
        else:
            self.bar = bar

    def close(self) -> None:
        self.closed = True
        bar, self.bar = self.bar, None
        if bar is not None:
            bar.close()


def _close_soon(shown: _Shown) -> None:
    QTimer.singleShot(0, lambda: shown.close())  # Qt would not keep the bound method alive


def _call(method: WeakMethod[Callable[[], None]]) -> None:
    found = method()
    if found is not None:
        found()


class _Bar(cancelable_progress):
    """A bar whose cancel button acts at once; napari's own waits for an iteration."""

    def cancel(self) -> None:
        super().cancel()
        self.cancel_callback()

"""What is done when Qt deletes an object, whatever Python has done with its own half before."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject

_waiting: set[Farewell] = set()


class Farewell:
    """Calls a function once, in the object's thread, when Qt deletes an object.

    An object of Qt may outlive its Python half: after ``deleteLater``, or where the garbage is
    collected in another thread. Functions, lambdas and partials that ``destroyed`` is connected to
    are collected together with that half. Then they are never called, or called when Python has
    emptied them already, which ends the process. Only a method of something that is no garbage is
    safe, so farewells that have not been said are held by this module.

    Parameters
    ----------
    leaving
        The object.
    call
        The function. It must not hold the object.
    """

    def __init__(self, leaving: QObject, call: Callable[[], object]) -> None:
        self._call = call
        _waiting.add(self)
        leaving.destroyed.connect(self._say)

    def cancel(self) -> None:
        """Call nothing any more, and let go of the function."""
        _waiting.discard(self)
        self._call = _nothing

    def _say(self) -> None:
        call = self._call
        self.cancel()
        call()


def _nothing() -> None:
    return None

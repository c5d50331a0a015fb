"""Keys of a viewer that are ours for as long as the dock is open.

napari asks the selected layer for a key first and the viewer last, so a key that a layer uses
itself (``M`` or ``1`` on labels) never gets here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakMethod

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class KeyAction:
    """A key and what it does.

    Attributes
    ----------
    key : str
        As napari writes it, e.g. ``"Shift-N"``.
    text : str
        What it does, for the list of keys.
    slot : callable
        A bound method without arguments. Only a weak reference is handed to the viewer, which
        lives longer than a dock.
    """

    key: str
    text: str
    slot: Callable[[], object]


class ViewerKeys:
    """Binds keys on a viewer and gives back what was there.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._bound: list[tuple[str, Callable[[Any], None], Any]] = []  # key, ours, what was there

    @property
    def bound(self) -> tuple[str, ...]:
        """The keys that are ours now."""
        return tuple(key for key, _ours, _before in self._bound)

    def bind(self, actions: Sequence[KeyAction]) -> None:
        """Bind keys of the viewer, in place of those that were bound before."""
        self.release()
        for action in actions:
            ours = _weak(action.slot)
            before = self._viewer.bind_key(action.key, ours, overwrite=True)
            self._bound.append((action.key, ours, before))

    def release(self) -> None:
        """Give every key back; one that somebody else has bound since stays theirs."""
        while self._bound:
            key, ours, before = self._bound.pop()
            current = self._viewer.bind_key(key, None)
            kept = before if current is ours else current
            if kept is not None:
                self._viewer.bind_key(key, kept)


def _weak(slot: Callable[[], object]) -> Callable[[Any], None]:
    """Return what the viewer calls: a function, as napari wants its name, without the object."""
    method = WeakMethod(slot)

    def call(_viewer: Any) -> None:
        found = method()
        if found is not None:
            found()

    return call


def add_shortcuts(widget: QWidget, actions: Sequence[KeyAction]) -> None:
    """Let the keys work in a widget, too: a viewer hears them while its canvas has the focus."""
    for action in actions:
        shortcut = QShortcut(QKeySequence(action.key.replace("-", "+")), widget)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(action.slot)


def describe_keys(actions: Sequence[KeyAction]) -> str:
    """Return a list of keys as rich text, one row for each."""
    rows = "".join(
        f"<tr><td><b>{action.key}</b>&nbsp;&nbsp;</td><td>{action.text}</td></tr>"
        for action in actions
    )
    return f"<table>{rows}</table>"

"""Keys that are ours for as long as the dock is open: the one table of them, and their binding.

napari asks the selected layer for a key first and the viewer last, so a key that a layer uses
itself (``M`` or ``1`` on labels) never gets here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakMethod

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget  # type: ignore[attr-defined]
from superqt import QCollapsible

from napari_espmedsam.widgets.rows import new_note, tight

VIEWER = "Anywhere in the viewer while the dock is open"
PROMPTS = "While a layer of the prompts is selected"
_NARROW = 250  # px: what a dock of 320 px leaves to a text


@dataclass(frozen=True)
class Key:
    """A key and what it does.

    Attributes
    ----------
    name : str
        What the code calls it.
    key : str
        As napari writes it, e.g. ``"Shift-N"``; Ctrl is Cmd on a Mac.
    text : str
        What it does, for the list of keys.
    where : str
        Where it works: :data:`VIEWER` or :data:`PROMPTS`.
    """

    name: str
    key: str
    text: str
    where: str


KEYS = (
    Key("next", "N", "Next object of the review", VIEWER),
    Key("previous", "Shift-N", "Object before", VIEWER),
    Key("lock", "K", "Lock or unlock the selected objects", VIEWER),
    Key("undo", "Ctrl-Z", "Take back the last step", PROMPTS),
    Key("redo", "Ctrl-Shift-Z", "Do it again", PROMPTS),
)
"""All keys of the plugin. What is bound, listed in the dock and documented comes from here."""


def key_of(name: str) -> str:
    """Return the key of an action of :data:`KEYS`."""
    return next(each.key for each in KEYS if each.name == name)


@dataclass(frozen=True, eq=False)
class KeyAction:
    """A key and what is called.

    Attributes
    ----------
    key : str
        As napari writes it.
    slot : callable
        A bound method without arguments. Only a weak reference is handed to the viewer, which
        lives longer than a dock.
    """

    key: str
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


def describe_keys(platform: str = sys.platform) -> str:
    """Return the list of all keys as rich text."""
    return "".join(
        f"<p>{where}:</p><table>{_rows(where, platform)}</table>"
        for where in dict.fromkeys(each.where for each in KEYS)
    )


def _rows(where: str, platform: str) -> str:
    ctrl = "Cmd" if platform == "darwin" else "Ctrl"
    return "".join(
        f"<tr><td><b>{each.key.replace('Ctrl', ctrl)}</b>&nbsp;&nbsp;</td><td>{each.text}</td></tr>"
        for each in KEYS
        if each.where == where
    )


class KeysPart(QCollapsible):
    """A folded list of all keys."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Keys", parent, expandedIcon="▾", collapsedIcon="▸")
        self.note = new_note()
        self.note.setText(describe_keys())
        self.addWidget(self.note)
        self.setToolTip("The keys of this plugin.")
        tight(self)

    def expand(self, animate: bool = True) -> None:
        """Unfold, as high as the text is where the dock is at its narrowest."""
        self.note.setMinimumHeight(self.note.heightForWidth(_NARROW))
        super().expand(animate)

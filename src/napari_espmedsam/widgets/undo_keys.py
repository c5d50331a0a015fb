"""Ctrl-Z and Ctrl-Shift-Z (on a Mac with Cmd) on layers of ours, in place of napari's own undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app_model.types import KeyCode, KeyMod

from napari_espmedsam.widgets.keys import key_of

_MODIFIERS = {"Ctrl": KeyMod.CtrlCmd, "Shift": KeyMod.Shift}


def _binding(key: str) -> int:
    """Return a key of the table as app-model has it, where Ctrl is Cmd on a Mac."""
    *modifiers, letter = key.split("-")
    binding = int(KeyCode.from_string(letter))
    for name in modifiers:
        binding |= _MODIFIERS[name]
    return binding


UNDO = _binding(key_of("undo"))
REDO = _binding(key_of("redo"))

Slot = Callable[[Any], object]


def bind_undo(layer: Any, undo: Slot, redo: Slot) -> None:
    """Bind the keys on one layer; the slots are called with the layer."""
    layer.bind_key(UNDO, undo, overwrite=True)
    layer.bind_key(REDO, redo, overwrite=True)


def unbind_undo(layer: Any) -> None:
    """Give the keys back to napari."""
    layer.bind_key(UNDO, None)
    layer.bind_key(REDO, None)

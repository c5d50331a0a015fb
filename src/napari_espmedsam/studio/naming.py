"""Which id each object on the screen has. For the worker thread alone.

Decoding numbers objects afresh each time. Here they keep their ids from update to update, no two
objects of a stack share one, and a state that was seen before (by undo, or a slider that comes
back) gets the very ids that it had.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.anchors import apply_anchors, first_pixels
from napari_espmedsam.inference.identity import put_locked, settle_labels
from napari_espmedsam.inference.overlap import compact, find_runs
from napari_espmedsam.studio.document import Labels, Target, state_key

_MAX_STATES = 64
"""Remembered states of one plane: some kB each."""

Anchors = npt.NDArray[np.int64]


class Names:
    """Ids of the objects of all planes."""

    def __init__(self) -> None:
        self._next = 1
        self._objects: dict[int, Labels] = {}
        self._states: dict[int, OrderedDict[Hashable, Anchors]] = {}
        self._restored: dict[int, Anchors | None] = {}
        self._digests: dict[tuple[str, int], tuple[npt.NDArray[Any], str]] = {}

    def settle(self, plane: int, target: Target, decoded: Labels) -> Labels:
        """Give decoded labels the ids of what was shown, and lay locked objects over them.

        Parameters
        ----------
        plane : int
            Number of the plane.
        target : Target
            What the labels were decoded for.
        decoded : ndarray
            (H, W) uint32.

        Returns
        -------
        ndarray
            (H, W) uint32, read-only.
        """
        output = target.plan.post.output
        if target.locked is not None:
            self._use_up_to(int(target.locked.max()))
        if output == "mask":
            locked = np.zeros_like(decoded) if target.locked is None else target.locked
            labels = put_locked(decoded, locked, output=output)
        else:
            labels = self._name(plane, target, decoded)
        labels.flags.writeable = False
        return labels

    def match(self, plane: int, decoded: Labels, output: str) -> Labels:
        """Give labels the ids of what is shown without showing them: a comparison."""
        shown = self._objects.get(plane)
        if shown is None or output == "mask":
            return decoded
        return settle_labels(decoded, shown, first_free=self._next)

    def restore(self, plane: int, anchors: Anchors | None) -> None:
        """Use stored ids for the next labels of a plane; None for 1 to n as they are decoded."""
        self._restored[plane] = anchors
        if anchors is not None:
            self._use_up_to(int(anchors[:, 0].max(initial=0)))

    def rename(self, plane: int, target: Target, labels: Labels) -> None:
        """Take labels with other ids for what is shown; the ids of other states are forgotten."""
        self._states.pop(plane, None)
        self._remember(plane, target, labels)

    def _name(self, plane: int, target: Target, decoded: Labels) -> Labels:
        old = self._old(plane, target, decoded)
        labels = settle_labels(decoded, old, locked=target.locked, first_free=self._next)
        self._remember(plane, target, labels)
        return labels

    def _old(self, plane: int, target: Target, decoded: Labels) -> Labels:
        """Return labels whose ids are to be handed on."""
        if plane in self._restored:
            stored = self._restored.pop(plane)
            return decoded if stored is None else _named_by(stored, decoded)
        states = self._states.get(plane)
        known = None if states is None else states.get(self._state(plane, target))
        if known is not None:
            return _named_by(known, decoded)
        shown = self._objects.get(plane)
        return np.zeros_like(decoded) if shown is None else shown

    def _remember(self, plane: int, target: Target, labels: Labels) -> None:
        self._use_up_to(int(labels.max(initial=0)))
        self._objects[plane] = _with_ghosts(labels, self._objects.get(plane))
        free = labels if target.locked is None else np.where(target.locked > 0, 0, labels)
        states = self._states.setdefault(plane, OrderedDict())
        state = self._state(plane, target)
        states[state] = first_pixels(free)
        states.move_to_end(state)
        while len(states) > _MAX_STATES:
            states.popitem(last=False)

    def _state(self, plane: int, target: Target) -> Hashable:
        edits = self._digest("edits", plane, target.edits)
        return state_key(target.plan), edits, self._digest("locked", plane, target.locked)

    def _digest(self, kind: str, plane: int, array: npt.NDArray[Any] | None) -> str:
        """Hash an array of the document; the last one of each plane is remembered."""
        if array is None:
            return ""
        known = self._digests.get((kind, plane))
        if known is None or known[0] is not array:
            data = np.ascontiguousarray(array).data
            known = array, blake2b(data, digest_size=16).hexdigest()
            self._digests[kind, plane] = known
        return known[1]

    def _use_up_to(self, highest: int) -> None:
        self._next = max(self._next, highest + 1)


def _with_ghosts(labels: Labels, before: Labels | None) -> Labels:
    """Put objects that are gone into the background, so that they get their ids when they return.

    Only for the search of ids; nobody sees them.
    """
    if before is None:
        return labels
    runs = find_runs(labels, before)
    new, old = runs.values
    ghost = np.where(np.isin(old, compact(new)[0]), 0, old)
    return runs.paint(np.where(new > 0, new, ghost))


def _named_by(anchors: Anchors, decoded: Labels) -> Labels:
    """Labels of the objects that have an anchor, under its id."""
    named = apply_anchors(decoded, anchors)
    known = np.isin(named, anchors[:, 0].astype(np.uint32))
    return np.where(known, named, np.uint32(0))


def renumber(table: dict[int, int]) -> Callable[[Labels], Labels]:
    """Make a function that gives the ids of a table others; those not in it stay."""
    old = np.array(sorted(table), np.uint32)
    new = np.array([table[int(each)] for each in old], np.uint32)

    def rename(labels: Labels) -> Labels:
        if not old.size:
            return labels.copy()
        place = np.searchsorted(old, labels).clip(max=old.size - 1)
        return np.where(old[place] == labels, new[place], labels).astype(np.uint32)

    return rename

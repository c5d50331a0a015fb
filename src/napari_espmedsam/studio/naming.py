"""Which id each object on the screen has. For the worker thread alone.

Decoding numbers objects afresh each time. Here they keep their ids from update to update, no two
objects of a stack share one, an object that comes back has the id that it had, and a state that
was seen before (by undo, or a slider that comes back) has the very ids that it had.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.anchors import apply_anchors
from napari_espmedsam.inference.identity import put_locked, settle_labels
from napari_espmedsam.inference.overlap import compact, find_runs
from napari_espmedsam.studio.document import Labels, Target, state_key
from napari_espmedsam.studio.locks import clear_erased

_MAX_STATE_BYTES = 2**25
"""Memory for the ids of states that were seen: 24 bytes an object."""

Anchors = npt.NDArray[np.int64]
_State = tuple[int, Hashable, str, str]


class Names:
    """Ids of the objects of all planes."""

    def __init__(self) -> None:
        self._next = 1
        self._objects: dict[int, Labels] = {}
        self._states: OrderedDict[_State, Anchors] = OrderedDict()
        self._state_bytes = 0
        self._restored: dict[int, Anchors | None] = {}
        self._digests: dict[tuple[str, int], tuple[npt.NDArray[Any], str]] = {}
        self._untidy: tuple[int, Target, Labels] | None = None

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
        self.tidy()
        output, locked = target.plan.post.output, target.locked
        if output == "mask":
            labels = decoded.copy()
            if locked is not None:
                labels = clear_erased(put_locked(decoded, locked, output=output), locked)
        else:
            self._use_up_to(None if locked is None else clear_erased(locked, locked))
            old = self._old(plane, target, decoded)
            labels = settle_labels(decoded, old, locked=locked, first_free=self._next)
            labels = clear_erased(labels, locked)
            self._use_up_to(labels)
            self._untidy = plane, target, labels
        labels.flags.writeable = False
        return labels

    def tidy(self) -> None:
        """Remember what was settled last. It may wait until that is on the screen."""
        if self._untidy is None:
            return
        (plane, target, labels), self._untidy = self._untidy, None
        before = self._objects.get(plane, labels)
        self._objects[plane], anchors = _take_stock(labels, before, target.locked)
        self._keep_state(self._state(plane, target), anchors)

    def match(self, plane: int, decoded: Labels, output: str) -> Labels:
        """Give labels the ids of what is shown without showing them: a comparison."""
        self.tidy()
        shown = self._objects.get(plane)
        if shown is None or output == "mask":
            return decoded.copy()
        return settle_labels(decoded, shown, first_free=self._next)

    def restore(self, plane: int, anchors: Anchors | None) -> None:
        """Use stored ids for the next labels of a plane; None for 1 to n as they are decoded."""
        self._restored[plane] = anchors
        if anchors is not None:
            self._use_up_to(anchors[:, 0])

    def rename(self, plane: int, target: Target, labels: Labels) -> None:
        """Take labels with other ids for what is shown; the ids of other states are forgotten."""
        self.tidy()
        for state in [state for state in self._states if state[0] == plane]:
            self._state_bytes -= self._states.pop(state).nbytes
        self._objects.pop(plane, None)
        self._untidy = plane, target, labels
        self.tidy()

    def _old(self, plane: int, target: Target, decoded: Labels) -> Labels:
        """Return labels whose ids are to be handed on."""
        if plane in self._restored:
            stored = self._restored.pop(plane)
            return decoded if stored is None else _named_by(stored, decoded)
        known = self._states.get(self._state(plane, target))
        if known is not None:
            return _named_by(known, decoded)
        shown = self._objects.get(plane)
        return np.zeros_like(decoded) if shown is None else shown

    def _keep_state(self, state: _State, anchors: Anchors) -> None:
        known = self._states.pop(state, None)
        self._state_bytes += anchors.nbytes - (0 if known is None else known.nbytes)
        self._states[state] = anchors
        while self._state_bytes > _MAX_STATE_BYTES and len(self._states) > 1:
            self._state_bytes -= self._states.popitem(last=False)[1].nbytes

    def _state(self, plane: int, target: Target) -> _State:
        edits = self._digest("edits", plane, target.edits)
        return plane, state_key(target.plan), edits, self._digest("locked", plane, target.locked)

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

    def _use_up_to(self, ids: npt.NDArray[Any] | None) -> None:
        if ids is not None:
            self._next = max(self._next, int(ids.max(initial=0)) + 1)


def _take_stock(labels: Labels, before: Labels, locked: Labels | None) -> tuple[Labels, Anchors]:
    """Find what to remember of labels.

    Returns
    -------
    ndarray
        (H, W) uint32: the labels, and in their background the objects that are gone, so that
        these get their ids back when they return. Nobody sees it.
    ndarray
        (n, 3) int64 [id, y, x]: first pixels of the objects that are not locked.
    """
    planes = (labels, before) if locked is None else (labels, before, locked)
    runs = find_runs(*planes)
    new, old = runs.values[:2]
    ghost = np.where((new > 0) | np.isin(old, compact(new)[0]), 0, old)
    memory = runs.paint(np.where(new > 0, new, ghost)) if ghost.any() else labels
    free = new if locked is None else np.where(runs.values[2] > 0, 0, new)
    ids, first = np.unique(free, return_index=True)
    y, x = np.divmod(runs.start[first[ids > 0]], labels.shape[1])
    return memory, np.stack([ids[ids > 0].astype(np.int64), y, x], axis=1)


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

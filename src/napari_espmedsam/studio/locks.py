"""Locked objects: pixels and ids that no decoding overwrites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.document import Labels
from napari_espmedsam.studio.patches import find_patch
from napari_espmedsam.studio.plane_record import ERASED

_FEW = 8


def add_locks(labels: Labels, locked: Labels | None, ids: Iterable[int]) -> Labels:
    """Lock objects as they are shown.

    Parameters
    ----------
    labels : ndarray
        (H, W) uint32, as shown.
    locked : ndarray or None
        (H, W) uint32, what is locked already.
    ids : iterable of int
        Objects to lock. Those that are not there are passed over.

    Returns
    -------
    ndarray
        (H, W) uint32, new.
    """
    chosen = _check_ids(ids)
    start = np.zeros_like(labels) if locked is None else locked
    return np.where(_is_one_of(labels, chosen), labels, start)


def remove_locks(locked: Labels, ids: Iterable[int] | None = None) -> Labels:
    """Unlock objects, all of them when None: (H, W) uint32, new."""
    if ids is None:
        return np.zeros_like(locked)
    return np.where(_is_one_of(locked, _check_ids(ids)), np.uint32(0), locked)


def take_painted(before: Labels, after: Labels, locked: Labels | None, output: str) -> Labels:
    """Lock what was painted by hand: the objects that any changed pixel had or got, as they are.

    What was erased stays background: those pixels are locked as :data:`ERASED`.

    Parameters
    ----------
    before, after : ndarray
        (H, W) uint32, the plane before and after painting.
    locked : ndarray or None
        (H, W) uint32, what is locked already.
    output : str
        Output of the post-processing. Of a "mask", whose only object is all foreground, the
        painted pixels alone are locked.

    Returns
    -------
    ndarray
        (H, W) uint32, new.

    Raises
    ------
    InputError
        If the planes differ in shape.
    """
    if before.shape != after.shape:
        raise InputError(
            f"The plane has the shape {before.shape} before painting and {after.shape} after it. "
            "Give the same plane."
        )
    kept = np.zeros(after.shape, np.uint32) if locked is None else locked.copy()
    patch = find_patch(("painted",), before, after)
    if patch is None:
        return kept
    box = patch[0].box  # a stroke is small: nothing but the objects is looked for beyond it
    changed = before[box] != after[box]
    old, new = before[box][changed], after[box][changed]
    if output == "mask":
        kept[box][changed] = np.where(new > 0, new, ERASED)
        return kept
    touched = np.union1d(old, new)
    touched = touched[touched > 0]
    if locked is not None:
        kept[_is_one_of(kept, touched)] = 0
    kept[box][changed & (after[box] == 0)] = ERASED
    np.copyto(kept, after, where=_is_one_of(after, touched))
    return kept


def locked_ids(locked: Labels) -> frozenset[int]:
    """Return the ids of locked objects, without :data:`ERASED`.

    Sorting a whole plane takes long, so only the ends of runs along its rows are sorted.
    """
    line = locked.ravel()
    ends = np.append(line[:-1][line[1:] != line[:-1]], line[-1:])
    return frozenset(np.unique(ends).tolist()) - {0, ERASED}


def clear_erased(labels: Labels, locked: Labels | None) -> Labels:
    """Take out of labels, over which locked objects were laid, what was erased by hand.

    Parameters
    ----------
    labels : ndarray
        (H, W) uint32, from ``inference.identity.put_locked`` or ``settle_labels``.
    locked : ndarray or None
        (H, W) uint32, the locked objects.

    Returns
    -------
    ndarray
        (H, W) uint32; `labels` itself where nothing was erased.
    """
    if locked is None or locked.max(initial=0) != ERASED:
        return labels
    return np.where(locked == ERASED, np.uint32(0), labels)


def _is_one_of(labels: Labels, ids: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark the pixels of some objects; fast for the few that a brush touches."""
    if len(ids) > _FEW:
        return np.isin(labels, ids)
    found = np.zeros(labels.shape, bool)
    for each in ids:
        found |= labels == each
    return found


def _check_ids(ids: Iterable[int]) -> list[int]:
    chosen = [int(each) for each in ids]
    wrong = [each for each in chosen if not 1 <= each < ERASED]
    if wrong:
        raise InputError(f"{wrong[0]} is no object. Give ids from 1 to {ERASED - 1}.")
    return chosen

"""Object ids that stay what they are while the labels under them change.

Every decoding numbers its objects afresh. On the screen an object keeps its id from stroke to
stroke (:func:`keep_ids`), locked objects keep their pixels as well (:func:`put_locked`), and a
file can restore the ids of a session (``anchors_of`` and ``apply_anchors`` of ``anchors``)::

    shown = settle_labels(decoded, shown, locked=locked, first_free=n)      # live
    anchors = anchors_of(shown, locked)                                     # save
    again = decoded if anchors is None else apply_anchors(decoded, anchors)
    again = put_locked(again, locked)                                       # equals shown

Labels of the output "mask" are 1 everywhere; their id means nothing and stays 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.overlap import (
    Ids,
    Integers,
    Labels,
    as_labels,
    check_same_shape,
    compact,
    count_shared,
    find_runs,
    free_ids,
    sum_by_index,
)

COVERED = 0.5
"""Share of an object under locked ones above which it disappears."""


def keep_ids(new: Labels, old: Labels, *, first_free: int, output: str = "objects") -> Labels:
    """Give the objects of new labels the ids of the old objects that they overlap most.

    An id passes on where both objects are each other's largest overlap (in pixels; of equal ones
    the lowest id). So of the parts of a split object the largest keeps its id, and merged objects
    go on as the one that they hold most of. The others get fresh ids, never one of `old`.

    Parameters
    ----------
    new : ndarray
        (H, W) integer, 0 is background.
    old : ndarray
        (H, W) integer, what was shown before.
    first_free : int
        Lowest fresh id, 1 or more: above all ids in use in the stack. Fresh ids count up from it
        in the order of the numbers in `new`; above 2**32 - 1 the lowest ids that `old` does not
        use follow.
    output : str
        Output of the post-processing. For "mask" the labels are returned as they are.

    Returns
    -------
    ndarray
        (H, W) uint32, a new array: the objects of `new`, each under one id.

    Raises
    ------
    InputError
        If shapes differ or values are no ids.
    """
    new, old = as_labels(new, "new labels"), as_labels(old, "old labels")
    check_same_shape(new=new, old=old)
    if output == "mask":
        return new.copy()
    runs = find_runs(new, old)
    new_run, old_run = runs.values
    taken = compact(old_run)[0]
    return runs.paint(_hand_on(new_run, old_run, runs.length, first_free, taken))


def put_locked(
    labels: Labels, locked: Labels, *, first_free: int | None = None, output: str = "objects"
) -> Labels:
    """Lay locked objects over labels.

    Locked pixels and ids win. An object of which more than half lies under locked ones disappears
    altogether, so that no slivers are left around them; of others the rest remains. A remaining
    object with the id of a locked one gets a fresh id.

    Parameters
    ----------
    labels : ndarray
        (H, W) integer, 0 is background.
    locked : ndarray
        (H, W) integer, locked objects; 0 where nothing is locked.
    first_free : int, optional
        Lowest fresh id; above the ids of both when None.
    output : str
        Output of the post-processing. For "mask" foreground outside the locked objects stays 1.

    Returns
    -------
    ndarray
        (H, W) uint32, a new array.

    Raises
    ------
    InputError
        If shapes differ or values are no ids.
    """
    labels, locked = as_labels(labels), as_labels(locked, "locked labels")
    check_same_shape(labels=labels, locked=locked)
    if not locked.any():
        return labels.copy()
    if output == "mask":
        return np.where(locked > 0, locked, labels)
    runs = find_runs(labels, locked)
    run, locked_run = runs.values
    ids, index = compact(_remove_covered(run, locked_run, runs.length))
    locked_ids = compact(locked_run)[0]
    clash = (ids > 0) & np.isin(ids, locked_ids)
    taken = np.union1d(ids, locked_ids)
    lowest = int(taken[-1]) + 1 if first_free is None else first_free
    ids[clash] = free_ids(int(clash.sum()), lowest, taken)
    return runs.paint(np.where(locked_run > 0, locked_run, ids[index]))


def settle_labels(
    new: Labels,
    shown: Labels,
    *,
    locked: Labels | None = None,
    first_free: int,
    output: str = "objects",
) -> Labels:
    """Bring new labels to the screen: locked objects over them, ids as they were.

    The same as :func:`keep_ids` and :func:`put_locked` in turn, but what remains of an object
    beside a locked one keeps its own id from update to update.

    Parameters
    ----------
    new : ndarray
        (H, W) integer, decoded labels.
    shown : ndarray
        (H, W) integer, the labels on the screen.
    locked : ndarray, optional
        (H, W) integer, locked objects; 0 where nothing is locked.
    first_free : int
        Lowest fresh id, above all in use in the stack; see :func:`keep_ids`. After the call
        ``max(first_free, labels.max() + 1)`` is the next one.
    output : str
        Output of the post-processing; "mask" keeps 1.

    Returns
    -------
    ndarray
        (H, W) uint32, a new array.

    Raises
    ------
    InputError
        If shapes differ or values are no ids.
    """
    if locked is None or output == "mask":
        kept = keep_ids(new, shown, first_free=first_free, output=output)
        return kept if locked is None else put_locked(kept, locked, output=output)
    new, shown = as_labels(new, "new labels"), as_labels(shown, "old labels")
    locked = as_labels(locked, "locked labels")
    check_same_shape(new=new, old=shown, locked=locked)
    runs = find_runs(new, shown, locked)
    new_run, old_run, locked_run = runs.values
    locked_ids = compact(locked_run[locked_run > 0])[0]
    taken = np.union1d(compact(old_run)[0], locked_ids)
    old_run = np.where(np.isin(old_run, locked_ids), 0, old_run)  # locked ids are not handed on
    free_run = _remove_covered(new_run, locked_run, runs.length)
    kept_run = _hand_on(free_run, old_run, runs.length, first_free, taken)
    return runs.paint(np.where(locked_run > 0, locked_run, kept_run))


def _hand_on(new_run: Ids, old_run: Ids, length: Integers, first_free: int, taken: Ids) -> Ids:
    """Return the run values of new labels under the ids of old ones, or fresh ids."""
    ids, index = compact(new_run)
    shared = count_shared(new_run, old_run, length)
    best = _largest(shared.first, shared.second, shared.pixels)
    best &= _largest(shared.second, shared.first, shared.pixels)
    target = np.zeros_like(ids)
    target[np.searchsorted(ids, shared.first[best])] = shared.second[best]
    fresh = (target == 0) & (ids > 0)
    target[fresh] = free_ids(int(fresh.sum()), first_free, taken)
    return target[index]


def _largest(group: Ids, member: Ids, pixels: Integers) -> npt.NDArray[np.bool_]:
    """Mark in each group the pair with most pixels, of equal ones that of the lowest member."""
    order = np.lexsort((member, -pixels, group))
    ordered = group[order]
    first = np.ones(ordered.size, dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    marked = np.zeros(ordered.size, dtype=bool)
    marked[order[first]] = True
    return marked


def _remove_covered(run: Ids, locked_run: Ids, length: Integers) -> Ids:
    """Clear locked pixels, and whole objects of which more than half is locked."""
    ids, index = compact(run)
    is_locked = locked_run > 0
    total = sum_by_index(index, length, ids.size)
    under = sum_by_index(index[is_locked], length[is_locked], ids.size)
    gone = under > COVERED * total
    return np.where(is_locked | gone[index], np.uint32(0), run)

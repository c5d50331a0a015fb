"""Where each object begins: what a file stores to give the objects of a session their ids back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.overlap import (
    MAX_ID,
    Ids,
    Integers,
    Labels,
    as_labels,
    check_same_shape,
    compact,
    find_runs,
    free_ids,
)


def first_pixels(labels: Labels) -> Integers:
    """Find the first pixel of each object, row by row.

    Parameters
    ----------
    labels : ndarray
        (H, W) integer, 0 is background.

    Returns
    -------
    ndarray
        (n, 3) int64, columns id, y, x in px; in the order of the pixels.

    Raises
    ------
    InputError
        If the labels are no plane of ids.
    """
    labels = _as_plane(labels)
    runs = find_runs(labels)
    ids, first = np.unique(runs.values[0], return_index=True)
    first = first[ids > 0]
    order = np.sort(first)
    y, x = np.divmod(runs.start[order], max(labels.shape[1], 1))
    return np.stack([runs.values[0][order].astype(np.int64), y, x], axis=1)


def anchors_of(labels: Labels, locked: Labels | None = None) -> Integers | None:
    """Tell what a file has to store so that decoded labels get their ids back.

    Parameters
    ----------
    labels : ndarray
        (H, W) integer, as shown, with the locked objects in them.
    locked : ndarray, optional
        (H, W) integer, locked objects (stored on their own); 0 where nothing is locked.

    Returns
    -------
    ndarray or None
        :func:`first_pixels` of the objects that are not locked, for :func:`apply_anchors`. None
        where nothing is locked and the ids are 1 to n from pixel to pixel, as decoding numbers
        them.

    Raises
    ------
    InputError
        If shapes differ or values are no ids.
    """
    if locked is None or not np.any(locked):
        anchors = first_pixels(labels)
        plain = np.array_equal(anchors[:, 0], np.arange(1, len(anchors) + 1))
        return None if plain else anchors
    labels, locked = as_labels(labels), as_labels(locked, "locked labels")
    check_same_shape(labels=labels, locked=locked)
    return first_pixels(np.where(locked > 0, np.uint32(0), labels))


def apply_anchors(labels: Labels, anchors: npt.NDArray[Any]) -> Labels:
    """Give objects the ids that were stored for them.

    Parameters
    ----------
    labels : ndarray
        (H, W) integer, 0 is background.
    anchors : ndarray
        (n, 3) integer, columns id, y, x in px: the object at that pixel gets that id. Anchors on
        background are passed over, and of several in one object the first counts.

    Returns
    -------
    ndarray
        (H, W) uint32, a new array. Objects without an anchor get ids above all anchors.

    Raises
    ------
    InputError
        If anchors lie outside the plane, or their ids are none or not unique.
    """
    labels = _as_plane(labels)
    wanted, y, x = _check_anchors(anchors, labels.shape)
    runs = find_runs(labels)
    ids, index = compact(runs.values[0])
    at = labels[y, x]
    objects, first = np.unique(at[at > 0], return_index=True)
    target = np.zeros_like(ids)
    target[np.searchsorted(ids, objects)] = wanted[at > 0][first]
    fresh = (target == 0) & (ids > 0)
    lowest = int(wanted.max(initial=0)) + 1
    target[fresh] = free_ids(int(fresh.sum()), lowest, np.unique(wanted))
    return runs.paint(target[index])


def _as_plane(labels: npt.NDArray[Any]) -> Labels:
    labels = as_labels(labels)
    if labels.ndim != 2:
        raise InputError(f"The labels have {labels.ndim} axes. Give one plane (Y, X) at a time.")
    return labels


def _check_anchors(
    anchors: npt.NDArray[Any], shape: tuple[int, ...]
) -> tuple[Ids, Integers, Integers]:
    rows = np.asarray(anchors)
    if rows.size == 0:
        rows = np.zeros((0, 3), np.int64)
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iu":
        raise InputError(
            f"The anchors have the shape {rows.shape} and the type {rows.dtype}. Give rows of "
            "whole numbers: id, y, x."
        )
    low, high = np.array([1, 0, 0]), np.array([MAX_ID, shape[0] - 1, shape[1] - 1])
    wrong = ((rows < low) | (rows > high)).any(axis=1)
    if wrong.any():
        raise InputError(
            f"The anchor (id, y, x) {tuple(rows[wrong][0].tolist())} lies outside "
            f"{tuple(low.tolist())} to {tuple(high.tolist())}. It belongs to another image."
        )
    ids, counts = np.unique(rows[:, 0], return_counts=True)
    if (counts > 1).any():
        raise InputError(f"The id {ids[counts > 1][0]} has several anchors. Give one for each id.")
    return rows[:, 0].astype(np.uint32), rows[:, 1].astype(np.int64), rows[:, 2].astype(np.int64)

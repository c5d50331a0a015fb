"""Which objects of two planes share pixels, and how many: the count behind ids, links and scores.

Planes of labels are long stretches of the same number. All counting here is done on such runs
(some 100,000 for a plane of a million pixels) and never in a Python loop over objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError

MAX_ID = 2**32 - 1
_TABLE_IDS = 2**22  # a look-up table up to this id costs less than sorting

Labels = npt.NDArray[np.uint32]
Ids = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of pixels over which each of some planes is constant.

    Attributes
    ----------
    shape : tuple of int
        Shape of the planes. A run lies in one row of the last axis.
    start : ndarray
        (r,) int64, index of the first pixel in the flattened plane; ascending.
    length : ndarray
        (r,) int64, pixels.
    values : tuple of ndarray
        For each plane its values, (r,) in the plane's dtype.
    """

    shape: tuple[int, ...]
    start: Integers
    length: Integers
    values: tuple[npt.NDArray[Any], ...]

    def paint(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a plane of `shape` with one value per run, (r,)."""
        return np.repeat(values, self.length).reshape(self.shape)


class Shared(NamedTuple):
    """Pairs of objects that share pixels, ordered by `first`, then `second`; background left out.

    Attributes
    ----------
    first, second : ndarray
        (k,) uint32, ids.
    pixels : ndarray
        (k,) int64, at least 1.
    """

    first: Ids
    second: Ids
    pixels: Integers


def find_runs(*planes: npt.NDArray[Any]) -> Runs:
    """Find the runs over which all planes are constant.

    Parameters
    ----------
    *planes : ndarray
        Planes or volumes of one shape; at least one.
    """
    shape = planes[0].shape
    changes = np.zeros(shape, dtype=bool)
    changes[..., :1] = True
    for plane in planes:
        changes[..., 1:] |= plane[..., 1:] != plane[..., :-1]
    start = np.flatnonzero(changes)
    length = np.diff(start, append=changes.size)
    return Runs(shape, start, length, tuple(plane.ravel()[start] for plane in planes))


def compact(ids: Ids) -> tuple[Ids, Integers]:
    """Number the values that occur from 0 on.

    Parameters
    ----------
    ids : ndarray
        (r,) uint32.

    Returns
    -------
    values : ndarray
        (n,) uint32, ascending.
    index : ndarray
        (r,) int64: ``values[index]`` is `ids`.
    """
    highest = int(ids.max(initial=0))
    if highest > _TABLE_IDS:
        values, index = np.unique(ids, return_inverse=True)
        return values, index.astype(np.int64, copy=False)
    present = np.zeros(highest + 1, dtype=bool)
    present[ids] = True
    table = np.cumsum(present) - 1
    return np.flatnonzero(present).astype(np.uint32), table[ids]


def count_pixels(ids: Ids, length: Integers) -> tuple[Ids, Integers]:
    """Count the pixels of each object.

    Parameters
    ----------
    ids, length : ndarray
        (r,), values and lengths of runs.

    Returns
    -------
    ids : ndarray
        (n,) uint32, ascending; no background.
    pixels : ndarray
        (n,) int64.
    """
    inside = ids > 0
    values, index = compact(ids[inside])
    return values, sum_by_index(index, length[inside], values.size).astype(np.int64)


def count_shared(first: Ids, second: Ids, length: Integers) -> Shared:
    """Count the pixels that each object of one plane shares with each of another.

    Parameters
    ----------
    first, second, length : ndarray
        (r,), values of both planes and lengths of their common runs.
    """
    both = (first > 0) & (second > 0)
    rows, row = compact(first[both])
    columns, column = compact(second[both])
    cells, index = np.unique(row * max(columns.size, 1) + column, return_inverse=True)
    pixels = sum_by_index(index, length[both], cells.size).astype(np.int64)
    row, column = np.divmod(cells, max(columns.size, 1))
    return Shared(rows[row], columns[column], pixels)


def sum_by_index(index: Integers, weights: npt.NDArray[Any], n: int) -> npt.NDArray[np.float64]:
    """Add up weights, (r,), by an index of 0 to n - 1, (r,); float64, exact up to 2**53."""
    return np.bincount(index, weights=weights, minlength=n).astype(np.float64, copy=False)


def free_ids(n: int, first_free: int, taken: Ids) -> Ids:
    """Return n ids that are not taken: from `first_free` on, then from 1 on.

    Raises
    ------
    InputError
        If `first_free` is below 1.
    """
    if first_free < 1:
        raise InputError(f"first_free is {first_free}. Give the lowest unused id, 1 or more.")
    reach = n + taken.size
    above = np.arange(first_free, min(first_free + reach, MAX_ID + 1), dtype=np.int64)
    below = np.arange(1, min(reach + 1, first_free), dtype=np.int64)
    candidates = np.concatenate([above, below])
    return candidates[~np.isin(candidates, taken)][:n].astype(np.uint32)


def as_labels(labels: npt.NDArray[Any], name: str = "labels") -> Labels:
    """Return labels as uint32, as a view where they are.

    Raises
    ------
    InputError
        If they are no whole numbers from 0 to 2**32 - 1.
    """
    labels = np.asarray(labels)
    if labels.dtype == np.uint32:
        return labels
    if labels.dtype.kind not in "iub":
        raise InputError(
            f"{name} have the type {labels.dtype}. Give whole numbers, 0 for the background."
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > MAX_ID:
        raise InputError(
            f"{name} hold ids from {low} to {high}. Give ids from 0 to {MAX_ID} (uint32)."
        )
    return labels.astype(np.uint32)


def check_same_shape(**planes: npt.NDArray[Any]) -> None:
    """Check that planes, given by their names, have one shape.

    Raises
    ------
    InputError
        If not.
    """
    shapes = {name: np.shape(plane) for name, plane in planes.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"Shapes differ: {listed}. Give arrays of one and the same plane.")

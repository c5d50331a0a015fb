"""A change of an array as the rectangle that changed: small enough to keep hundreds for undo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Patch:
    """New values for a rectangle of an array.

    Attributes
    ----------
    key : tuple
        Which array: for its owner.
    shape : tuple of int
        Shape of the whole array.
    box : tuple of slice
        Rows and columns.
    values : ndarray
        What stands there afterwards.
    """

    key: tuple[Any, ...]
    shape: tuple[int, ...]
    box: tuple[slice, slice]
    values: npt.NDArray[Any]

    def __iter__(self) -> Iterator[Any]:
        """List what takes memory, for the history's count."""
        yield self.values


def find_patch(
    key: tuple[Any, ...], before: npt.NDArray[Any], after: npt.NDArray[Any]
) -> tuple[Patch, Patch] | None:
    """Find what turns one array into another, and what takes it back; None if they are equal."""
    changed = before != after
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    box = (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
    forward, backward = (Patch(key, after.shape, box, each[box].copy()) for each in (after, before))
    return forward, backward


def apply_patch(array: npt.NDArray[Any], patch: Patch) -> npt.NDArray[Any]:
    """Return a changed copy of an array."""
    changed = array.copy()
    changed[patch.box] = patch.values
    return changed

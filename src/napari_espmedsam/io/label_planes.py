"""Labels of any axes, checked and read one plane at a time: what every writer starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import InputError, OutputError

ORDER = "TZCYX"
MAX_ID = 2**32 - 1


@dataclass(frozen=True, eq=False)
class LabelPlane:
    """One plane of labels.

    Attributes
    ----------
    number : int
        Position among the planes, from 0 on.
    index : Mapping of str to int
        Position along each of the axes T, Z and C that the labels have, from 0 on.
    ids : ndarray of integer
        (Y, X); 0 is background.
    """

    number: int
    index: Mapping[str, int]
    ids: NDArray[Any]


class LabelPlanes:
    """Labels as planes in the order of time, depth and channel.

    Parameters
    ----------
    labels : array-like of integer or bool
        Ids from 0 (background) to 2**32 - 1 with axes `axes`: numpy, dask, zarr or alike. Only
        what is asked for is read.
    axes : str
        One letter per dimension out of ``TZCYX``, in any order.

    Attributes
    ----------
    axes : str
        The letters in the order ``TZCYX``.
    shape : tuple of int
        Lengths along `axes`.

    Raises
    ------
    InputError
        If `axes` do not describe `labels`, or `labels` are no whole numbers.
    """

    def __init__(self, labels: Any, axes: str) -> None:
        check_label_axes(labels, axes)
        self._labels, self._given = labels, axes
        self.axes = "".join(letter for letter in ORDER if letter in axes)
        self.shape = tuple(int(labels.shape[axes.index(letter)]) for letter in self.axes)

    def __len__(self) -> int:
        return int(np.prod(self.shape[:-2]))

    def __iter__(self) -> Iterator[LabelPlane]:
        """Yield the planes; OutputError if one holds ids that are no ids."""
        for number, index in enumerate(np.ndindex(self.shape[:-2])):
            where = dict(zip(self.axes[:-2], index, strict=True))
            yield LabelPlane(number, where, self.read(where))

    def read(
        self, index: Mapping[str, int], rows: slice = slice(None), columns: slice = slice(None)
    ) -> NDArray[Any]:
        """Return a part of one plane.

        Parameters
        ----------
        index : Mapping of str to int
            Position along each of the axes T, Z and C that the labels have.
        rows, columns : slice
            Part along Y and X.

        Returns
        -------
        ndarray of unsigned integer
            (Y, X).

        Raises
        ------
        OutputError
            If an id is negative or above 2**32 - 1.
        """
        part = {**index, "Y": rows, "X": columns}
        ids = read_array(self._labels[tuple(part[letter] for letter in self._given)])
        if self._given.index("X") < self._given.index("Y"):
            ids = ids.T
        return _as_ids(ids)


def check_label_axes(labels: Any, axes: str) -> None:
    """Check that axes describe labels and that labels are whole numbers.

    Raises
    ------
    InputError
        If not.
    """
    fits = len(axes) == labels.ndim and len(set(axes)) == len(axes)
    if not fits or not set("YX") <= set(axes) <= set(ORDER):
        raise InputError(
            f"axes {axes!r} do not fit labels of shape {labels.shape}; give {labels.ndim} letters "
            "out of T, Z, C, Y, X with Y and X among them."
        )
    if np.dtype(labels.dtype).kind not in "uib":
        raise InputError(
            f"labels are {labels.dtype}, but ids are whole numbers; convert them first, for "
            "example with labels.astype('uint32')."
        )


def _as_ids(ids: NDArray[Any]) -> NDArray[Any]:
    lowest, highest = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    if lowest < 0 or highest > MAX_ID:
        raise OutputError(
            f"label ids {lowest:,} to {highest:,} cannot be written (0 to {MAX_ID:,}); number the "
            "objects anew from 1 on."
        )
    # 64 bits would become floats beside signed numbers.
    return ids if ids.dtype.kind == "u" and ids.itemsize <= 4 else ids.astype(np.uint32)

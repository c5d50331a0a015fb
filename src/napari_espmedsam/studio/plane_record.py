"""One plane of a session as data: edited prompts, numbers of objects, locked objects."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED

MAX_CELLS = 2**28
"""Largest canvas: as large as the largest plane that a model sees."""
MAX_ID = 2**32 - 1
ERASED = MAX_ID
"""Among locked ids: a pixel that was erased by hand and stays background."""
MAX_TEXT = 1000


@dataclass(frozen=True, eq=False)
class PlaneRecord:
    """What was done to one plane. Its arrays are read-only copies.

    Attributes
    ----------
    index : tuple of int
        Where the plane lies along the leading axes of the image; () for a 2-D image.
    pixels_hash : str
        :func:`hash_plane` of the plane.
    edits : ndarray
        (rows, cols) int8: -1 as the model proposes, 0 off, 1 on.
    anchors : ndarray or None
        (n, 3) int64 [id, y, x] of the objects that are not locked, from
        ``inference.anchors.anchors_of``: the object that holds the pixel has the id. None:
        objects are numbered 1 to n in the order of their first pixel.
    locked : ndarray or None
        (H, W) uint32: ids of pixels that keep their object whatever is decoded, :data:`ERASED`
        for those that stay background; 0 elsewhere.

    Raises
    ------
    InputError
        If a value is not as said.
    """

    index: tuple[int, ...]
    pixels_hash: str
    edits: npt.NDArray[np.int8]
    anchors: npt.NDArray[np.int64] | None = None
    locked: npt.NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        check_text("pixels_hash", self.pixels_hash)
        object.__setattr__(self, "index", tuple(int(i) for i in self.index))
        object.__setattr__(self, "edits", _frozen("edits", self.edits, np.int8, UNTOUCHED, ON))
        if self.locked is not None:
            locked = _frozen("locked", self.locked, np.uint32, 0, MAX_ID)
            object.__setattr__(self, "locked", locked)
        if self.anchors is not None:
            object.__setattr__(self, "anchors", _check_anchors(self.anchors))

    @property
    def is_edited(self) -> bool:
        """Whether any prompt cell differs from the model's proposal by the user's will."""
        return bool((self.edits != UNTOUCHED).any())

    @property
    def nbytes(self) -> int:
        """Memory that the canvases take, in bytes."""
        return self.edits.nbytes + (0 if self.locked is None else self.locked.nbytes)

    def shown(self) -> npt.NDArray[np.uint8]:
        """Edits as labels, (rows, cols) uint8: 0 as the model proposes, 2 on and 3 off by you."""
        return np.select([self.edits == ON, self.edits == OFF], [2, 3]).astype(np.uint8)


def hash_plane(plane: npt.NDArray[Any]) -> str:
    """Hash the pixels of a plane, (H, W) or (H, W, 3); the same for either byte order."""
    little = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<"))
    digest = blake2b(repr((little.shape, little.dtype.name)).encode(), digest_size=16)
    digest.update(little.data)
    return digest.hexdigest()


def check_text(name: str, value: Any, *, empty: bool = False) -> None:
    """Check a text that comes from a file.

    Raises
    ------
    InputError
        If it is none, is too long, cannot be written, or is empty where it must not be.
    """
    if (
        not isinstance(value, str)
        or len(value) > MAX_TEXT
        or not (value or empty)
        or any("\ud800" <= letter <= "\udfff" for letter in value)  # half a letter
    ):
        raise InputError(
            f"{name} is {value!r:.80}. Give a text of {0 if empty else 1} to {MAX_TEXT} letters."
        )


def _frozen(name: str, array: Any, dtype: type, low: int, high: int) -> npt.NDArray[Any]:
    """Check a canvas and return a copy that nobody can write to."""
    values = np.asarray(array)
    if values.ndim != 2 or not 0 < values.size <= MAX_CELLS:
        raise InputError(
            f"{name} has the shape {values.shape}. Give rows and columns, at most {MAX_CELLS:,} "
            "cells."
        )
    if values.dtype.kind not in "iu" or not low <= values.min() <= values.max() <= high:
        raise InputError(
            f"{name} holds values beyond {low} to {high} or no integers (type {values.dtype}). "
            f"Give integers from {low} to {high}."
        )
    if values.flags.writeable or values.base is not None or values.dtype != dtype:
        values = values.astype(dtype)  # a read-only view of a live canvas may still change
        values.flags.writeable = False
    return values


def _check_anchors(anchors: Any) -> npt.NDArray[np.int64]:
    values = np.array(anchors)
    if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "iu":
        raise InputError(
            f"anchors has the shape {values.shape} and the type {values.dtype}. Give integers "
            "(n, 3): id, y, x."
        )
    ids, places = values[:, 0], values[:, 1:]
    wrong = len(ids) and (ids.min() < 1 or ids.max() > MAX_ID or places.min() < 0)
    if wrong or len(np.unique(ids)) < len(ids) or len(np.unique(places, axis=0)) < len(ids):
        raise InputError(
            f"anchors holds an id beyond 1 to {MAX_ID}, a place below 0, or one of them twice. "
            "Give each object once."
        )
    values = values.astype(np.int64)
    values.flags.writeable = False
    return values

"""A rectangle of an image that is worked on as if it were the image. Nothing is read or copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import MIN_SIDE, PlaneStack


@dataclass(frozen=True)
class Region:
    """A rectangle of each plane, in px of the image.

    Parameters
    ----------
    top, left : int
        First row and column.
    bottom, right : int
        Last row and column + 1.
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def offset(self) -> tuple[int, int]:
        """First row and column."""
        return self.top, self.left

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def check(self, plane_shape: tuple[int, int]) -> Region:
        """Return the region itself if it fits planes of a shape.

        Raises
        ------
        InputError
            If it reaches beyond the plane or is smaller than the model takes.
        """
        height, width = plane_shape
        inside = self.top >= 0 and self.bottom <= height and self.left >= 0 and self.right <= width
        if not inside or min(self.shape) < MIN_SIDE:
            raise InputError(
                f"The region goes from ({self.top}, {self.left}) to ({self.bottom}, {self.right}), "
                f"and planes are {height} x {width} px. Choose one inside, of {MIN_SIDE} x "
                f"{MIN_SIDE} px and more."
            )
        return self


class Crop:
    """The region of an image as an array-like: as lazy as the image, and just as read-only.

    Parameters
    ----------
    array : array-like
        The image.
    axes : str
        Its axes, with Y and X.
    region : Region
        What to keep of each plane.
    """

    def __init__(self, array: Any, axes: str, region: Region) -> None:
        self._array = array
        self._slices = {
            "Y": slice(region.top, region.bottom),
            "X": slice(region.left, region.right),
        }
        self._axes = axes
        self.dtype = np.dtype(array.dtype)
        lengths = dict(zip(axes, array.shape, strict=True))
        lengths["Y"], lengths["X"] = region.shape
        self.shape = tuple(int(lengths[letter]) for letter in axes)
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[int | slice, ...]) -> Any:
        """Read a part: ``key`` is an int or a slice without a step for each axis."""
        parts = zip(self._axes, key, strict=True)
        return self._array[tuple(self._inside(letter, part) for letter, part in parts)]

    def _inside(self, letter: str, part: int | slice) -> int | slice:
        """Turn an index of the crop into one of the image."""
        own = self._slices.get(letter)
        if own is None:
            return part
        if not isinstance(part, slice):
            return own.start + part
        start, stop, _ = part.indices(own.stop - own.start)
        return slice(own.start + start, own.start + stop)


def crop_stack(stack: PlaneStack, region: Region | None) -> PlaneStack:
    """Restrict a stack to a region; None keeps it as it is.

    Raises
    ------
    InputError
        If the region does not fit.
    """
    if region is None:
        return stack
    crop = Crop(stack.array, stack.axes, region.check(stack.plane_shape))
    return PlaneStack(crop, stack.axes, stack.channel, stack.rgb)

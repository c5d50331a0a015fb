"""What was read from an image file: the pixels, what their axes mean and how large they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageFile:
    """An image as stored, with its axes named.

    Attributes
    ----------
    path : Path
        Where it was read from.
    array : ndarray
        Pixels in the file's own dtype, in native byte order; where the file is large and
        uncompressed a read-only memory map, in the file's byte order.
    axes : str
        One letter per dimension of `array`, out of ``TZCYX`` and ``S`` (colour samples: red,
        green, blue; always last and always three). Axes of length one are dropped.
    spacing : Mapping of str to float
        Size of one step along ``Z``, ``Y``, ``X`` in micrometres and along ``T`` in seconds.
        Holds only the axes for which the file states a size.
    n_series : int
        Images in the file. Only the first one is read.
    warnings : tuple of str
        What is wrong with the file although the rest of it can be used; sentences for users.
    """

    path: Path
    array: NDArray[Any]
    axes: str
    spacing: Mapping[str, float] = field(default_factory=dict)
    n_series: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def rgb(self) -> bool:
        """True where the last axis holds red, green and blue."""
        return self.axes.endswith("S")

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in micrometres; None where unstated or not square (over 1 % apart)."""
        y, x = self.spacing.get("Y"), self.spacing.get("X")
        if y is None or x is None or abs(y - x) > 0.01 * max(y, x):
            return None
        return x

"""A slide on disk: one plane, level by level, of which only windows are read."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.io.open_image import open_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_espmedsam.inference.request import SegmentRequest

_PROBE = 2**20  # bytes at either end of the file that tell it from another
Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Slide:
    """One plane at falling size. Make it with :func:`open_slide`.

    Attributes
    ----------
    path : Path
        The file or folder.
    levels : tuple of PlaneStack
        The same plane, the whole one first; one level where the file has no pyramid.
    spacing : Mapping of str to float
        Micrometres per px of level 0 along Y and X, where the file states them.
    warnings : tuple of str
        What is wrong with the file although the rest of it can be used: a level that is left out.
    """

    path: Path
    levels: tuple[PlaneStack, ...]
    spacing: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of level 0 in px."""
        return self.levels[0].plane_shape

    @property
    def rgb(self) -> bool:
        """Whether pixels are colours."""
        return self.levels[0].rgb

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return np.dtype(self.levels[0].array.dtype)

    def read(self, window: Window, level: int = 0) -> npt.NDArray[Any]:
        """Read a window, (h, w) or (h, w, 3), in the dtype of the file.

        Raises
        ------
        InputError
            If the file is damaged there, or holds NaN.
        """
        try:
            return self.levels[level].plane(0, window)
        except InputError as error:
            raise InputError(f"{_where(window, level)}: {error}") from error

    def fingerprint(self) -> str:
        """Hash what tells this slide from another without reading all of it."""
        digest = blake2b(digest_size=16)
        shapes = [each.array.shape for each in self.levels]
        digest.update(repr((shapes, self.dtype.str, self.levels[0].channel, self.rgb)).encode())
        if self.path.is_file():
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                digest.update(str(size).encode())
                for start in (0, max(0, size - _PROBE)):
                    file.seek(start)
                    digest.update(file.read(_PROBE))
        return digest.hexdigest()


def open_slide(path: str | Path, request: SegmentRequest) -> Slide:
    """Open a slide; no pixel is read.

    Parameters
    ----------
    path : str or Path
        A pyramidal TIFF or any other image that can be read in parts.
    request : SegmentRequest
        Its axes, channel and rgb are used.

    Returns
    -------
    Slide
        Its levels, to be read window by window.

    Raises
    ------
    InputError
        If it cannot be opened, holds more than one plane, or a setting does not fit.
    """
    path = Path(path)
    if request.planes is not None:
        raise InputError("planes is given, and a slide has one plane. Leave it out.")
    image = open_image(path, axes=request.axes)
    levels = [
        PlaneStack.from_array(array, image.axes, channel=request.channel, rgb=request.rgb)
        for array in image.levels
    ]
    if len(levels[0]) > 1:
        raise InputError(
            f"{path} has {len(levels[0])} planes (axes {image.axes}), and a slide has one. Use "
            "`napari-espmedsam segment` for stacks."
        )
    return Slide(path, tuple(levels), image.spacing, image.warnings)


def _where(window: Window, level: int) -> str:
    rows, columns = window
    place = f"Rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
    return place if level == 0 else f"{place} of level {level}"

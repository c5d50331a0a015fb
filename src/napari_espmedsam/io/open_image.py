"""Open an image of any supported kind without reading its pixels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.axes import rename
from napari_espmedsam.io.content import TIFF, first_bytes
from napari_espmedsam.io.lazy_image import LazyImage


def open_image(
    path: str | os.PathLike[str], *, series: int = 0, axes: str | None = None
) -> LazyImage:
    """Open an image; its pixels are read where they are looked at.

    Parameters
    ----------
    path : str or path-like
        TIFF of any kind (OME, ImageJ, SVS, NDPI, other pyramids, plain pages). The content
        decides, not the name.
    series : int
        Which image, where the file holds several; counted from 0.
    axes : str, optional
        One letter per dimension, out of ``TZCYXS``, where the file's own axes are missing or
        wrong. Refers to the array after axes of length one are dropped.

    Returns
    -------
    LazyImage
        Levels, axes, sizes, channels.

    Raises
    ------
    InputError
        If it is missing, of another kind, cut short or damaged, or if `axes` does not fit it.
    """
    path = Path(path)
    image = _open(path, series)
    if axes is None:
        return image
    levels, letters = rename(path, image.levels, image.axes, axes)
    spacing = {a: v for a, v in image.spacing.items() if a in letters}
    return replace(image, levels=tuple(levels), axes=letters, spacing=spacing)


def _open(path: Path, series: int) -> LazyImage:
    start = first_bytes(path)
    if start.startswith(TIFF):
        from napari_espmedsam.io.tiff_pyramid import open_tiff

        return open_tiff(path, series)
    raise InputError(
        f"{path} is not a TIFF image, whatever its name says (it starts with {start[:8]!r}); open "
        "it in Fiji or napari and save it as TIFF."
    )

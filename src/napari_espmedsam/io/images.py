"""Read an image of any supported kind. The content decides, not the file's name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import InputError
from napari_espmedsam.io.axes import rename
from napari_espmedsam.io.content import DICOM_BYTES, TIFF, first_bytes, is_dicom
from napari_espmedsam.io.image_file import ImageFile
from napari_espmedsam.io.lazy_image import LazyImage
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.io.pictures import read_picture
from napari_espmedsam.io.tiff import read_tiff

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".dcm")


def read_image(
    path: str | os.PathLike[str], axes: str | None = None, *, series: int = 0
) -> ImageFile:
    """Read an image as a whole: TIFF, PNG, JPEG, OME-Zarr or DICOM.

    Parameters
    ----------
    path : str or path-like
        The file, or the folder of an OME-Zarr image or of a DICOM series. Its content decides how
        it is read.
    axes : str, optional
        One letter per dimension, out of ``TZCYXS``, where the file's own axes are missing or
        wrong. Refers to the array after axes of length one are dropped.
    series : int
        Which image, where the file holds several; counted from 0.

    Returns
    -------
    ImageFile
        Pixels in the file's dtype (8 or 16 bit; TIFF also 32 bit and float; rescaled DICOM is
        float32), axes and spacing. Of a pyramid the largest level. A palette becomes colours, or
        grey where all its colours are grey; alpha is dropped.

    Raises
    ------
    InputError
        If it is missing, empty, of another kind, cut short or damaged, if `axes` does not fit it,
        or if it has no image `series`.
    """
    path = Path(path)
    image = _read(path, series)
    return image if axes is None else _rename(image, axes)


def _read(path: Path, series: int) -> ImageFile:
    if not os.path.isdir(path):
        start = first_bytes(path, DICOM_BYTES)
        if start.startswith(TIFF) and not is_dicom(start):
            return read_tiff(path, series)
        picture = read_picture(path, start, series)
        if picture is not None:
            return picture
    return _computed(open_image(path, series=series))


def _computed(image: LazyImage) -> ImageFile:
    try:
        array = read_array(image.levels[0])
    except MemoryError as error:
        raise InputError(
            f"{image.source} does not fit into memory; save the part that you need as its own file."
        ) from error
    return ImageFile(image.source, array, image.axes, image.spacing, image.n_series, image.warnings)


def _rename(image: ImageFile, axes: str) -> ImageFile:
    (array,), axes = rename(image.path, [image.array], image.axes, axes)
    spacing = {a: v for a, v in image.spacing.items() if a in axes}
    return replace(image, array=array, axes=axes, spacing=spacing)

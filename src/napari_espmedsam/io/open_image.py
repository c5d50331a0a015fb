"""Open an image of any supported kind without reading its pixels."""

from __future__ import annotations

import os
from pathlib import Path

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.axes import rename
from napari_espmedsam.io.content import (
    DICOM_BYTES,
    TIFF,
    check_series,
    first_bytes,
    holds_dicom,
    is_dicom,
    is_zarr,
)
from napari_espmedsam.io.image_file import ImageFile
from napari_espmedsam.io.lazy_image import LazyImage
from napari_espmedsam.io.levels import finish
from napari_espmedsam.io.pictures import read_picture


def open_image(
    path: str | os.PathLike[str], *, series: int = 0, axes: str | None = None
) -> LazyImage:
    """Open an image; its pixels are read where they are looked at.

    Parameters
    ----------
    path : str or path-like
        TIFF of any kind (OME, ImageJ, SVS, NDPI, other pyramids, plain pages), DICOM, the folder
        of an OME-Zarr image or of a DICOM series; also PNG and JPEG, which are read at once. The
        content decides, not the name.
    series : int
        Which image, where the file or folder holds several; counted from 0.
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
        If it is missing, of another kind, cut short or damaged, if `axes` does not fit it, or if
        it has no image `series`.
    """
    path = Path(path)
    image = _open(path, series)
    if axes is None:
        return image
    levels, letters = rename(path, image.levels, image.axes, axes)
    same = image.rgb == letters.endswith("S") and image.axes.find("C") == letters.find("C")
    return finish(
        path,
        levels,
        letters,
        spacing=image.spacing,
        channel_names=image.channel_names if same else (),
        contrast_limits=image.contrast_limits if same else (),
        n_series=image.n_series,
        warnings=image.warnings,
    )


def _open(path: Path, series: int) -> LazyImage:
    if os.path.isdir(path):  # False for names that no file can have
        return _open_folder(path, series)
    start = first_bytes(path, DICOM_BYTES)
    if is_dicom(start):  # before TIFF: the 128 bytes ahead of DICOM's mark may feign another kind
        from napari_espmedsam.io.dicom import open_dicom

        check_series(path, series, 1)
        return open_dicom(path)
    if start.startswith(TIFF):
        from napari_espmedsam.io.tiff_pyramid import open_tiff

        return open_tiff(path, series)
    picture = read_picture(path, start, series)
    if picture is not None:
        return _from_memory(picture)
    raise InputError(
        f"{path} is not a TIFF, PNG, JPEG or DICOM image, whatever its name says (it starts with "
        f"{start[:8]!r}); open it in Fiji or napari and save it as TIFF."
    )


def _open_folder(path: Path, series: int) -> LazyImage:
    if is_zarr(path):
        from napari_espmedsam.io.ome_zarr import open_ome_zarr

        return open_ome_zarr(path, series)
    if holds_dicom(path):
        from napari_espmedsam.io.dicom import open_dicom_series

        return open_dicom_series(path, series=series)
    raise InputError(
        f"{path} is a folder, not an image; name the files in it. (Folders of OME-Zarr and of "
        "DICOM files can be opened; it is neither.)"
    )


def _from_memory(picture: ImageFile) -> LazyImage:
    import dask.array as da

    # Such files can only be decoded as a whole.
    level = da.from_array(picture.array, chunks=-1, name=False)
    return finish(picture.path, [level], picture.axes, spacing=picture.spacing)

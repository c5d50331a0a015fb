"""Read an image file of any supported kind. The content decides, not the file's name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.axes import rename
from napari_espmedsam.io.content import TIFF, first_bytes
from napari_espmedsam.io.image_file import ImageFile
from napari_espmedsam.io.tiff import read_tiff

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_PNG = (b"\x89PNG\r\n\x1a\n",)
_JPEG = (b"\xff\xd8\xff",)


def read_image(path: str | os.PathLike[str], axes: str | None = None) -> ImageFile:
    """Read a TIFF, PNG or JPEG image.

    Parameters
    ----------
    path : str or path-like
        The file. Its first bytes decide how it is read.
    axes : str, optional
        One letter per dimension, out of ``TZCYXS``, where the file's own axes are missing or
        wrong. Refers to the array after axes of length one are dropped.

    Returns
    -------
    ImageFile
        Pixels in the file's dtype (8 or 16 bit; TIFF also 32 bit and float), axes and spacing.
        A palette becomes colours, or grey where all its colours are grey; alpha is dropped.

    Raises
    ------
    InputError
        If the file is missing, empty, a folder, of another kind, cut short or damaged, or if
        `axes` does not fit it.
    """
    path = Path(path)
    start = first_bytes(path)
    if start.startswith(TIFF):
        image = read_tiff(path)
    elif start.startswith(_PNG):
        image = _as_file(path, _read_png(path))
    elif start.startswith(_JPEG):
        image = _as_file(path, _read_jpeg(path))
    else:
        raise InputError(
            f"{path} is not a TIFF, PNG or JPEG image, whatever its name says (it starts with "
            f"{start[:8]!r}); open it in Fiji or napari and save it as TIFF."
        )
    return image if axes is None else _rename(image, axes)


def _as_file(path: Path, array: NDArray[Any]) -> ImageFile:
    if array.ndim == 3 and array.shape[2] in (2, 4):  # the last sample is alpha
        array = array[..., :-1]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return ImageFile(path, array, "YX" if array.ndim == 2 else "YXS")


def _read_png(path: Path) -> NDArray[Any]:
    # Pillow cuts 16-bit colour down to 8 bits and OpenCV fills a truncated file with grey.
    import imagecodecs

    content = path.read_bytes()
    try:
        array: NDArray[Any] = imagecodecs.png_decode(content)
    except Exception as error:
        raise InputError(_damaged(path, "PNG", error)) from error
    is_palette = content[25:26] == b"\x03"  # IHDR colour type
    if is_palette and array.ndim == 3 and _is_grey(array):
        return array[..., 0]
    return array


def _is_grey(array: NDArray[Any]) -> bool:
    return bool(
        np.array_equal(array[..., 0], array[..., 1])
        and np.array_equal(array[..., 0], array[..., 2])
    )


def _read_jpeg(path: Path) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large for a JPEG ({error}); save it as TIFF.") from error
    except Exception as error:
        raise InputError(_damaged(path, "JPEG", error)) from error


def _damaged(path: Path, kind: str, error: Exception) -> str:
    return (
        f"{path} is a {kind} file that is cut short or damaged ({path.stat().st_size:,} bytes; "
        f"{error}); copy or export the file again."
    )


def _rename(image: ImageFile, axes: str) -> ImageFile:
    (array,), axes = rename(image.path, [image.array], image.axes, axes)
    spacing = {a: v for a, v in image.spacing.items() if a in axes}
    return ImageFile(image.path, array, axes, spacing, image.n_series)

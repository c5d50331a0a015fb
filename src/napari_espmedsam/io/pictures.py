"""PNG and JPEG in, at full depth and without alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.content import check_series
from napari_espmedsam.io.image_file import ImageFile

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


def read_picture(path: Path, start: bytes, series: int = 0) -> ImageFile | None:
    """Read a PNG or JPEG file; None where `start`, its first bytes, say that it is neither.

    Raises
    ------
    InputError
        If it is cut short, damaged, too large or `series` is not 0: it holds one image.
    """
    read = _read_png if start.startswith(PNG) else _read_jpeg if start.startswith(JPEG) else None
    if read is None:
        return None
    check_series(path, series, 1)
    try:
        return _as_file(path, read(path))
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory; save it as TIFF in tiles, or in smaller parts."
        ) from error


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
    except MemoryError:
        raise
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
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(_damaged(path, "JPEG", error)) from error


def _damaged(path: Path, kind: str, error: Exception) -> str:
    return (
        f"{path} is a {kind} file that is cut short or damaged ({path.stat().st_size:,} bytes; "
        f"{error}); copy or export the file again."
    )

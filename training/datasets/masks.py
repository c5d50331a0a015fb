"""One PNG mask from the mask files of a set, and images in containers that OpenCV cannot read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_espmedsam.errors import InputError, OutputError
from training.datasets.layout import MaskKind
from training.datasets.polygons import draw_labels, read_polygons

Pixels = NDArray[Any]

#: What training reads without help, whatever version OpenCV has.
_READABLE = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm")


def readable(path: Path) -> bool:
    """Whether training reads this kind of file as it is."""
    return path.suffix.lower() in _READABLE


def read_pixels(path: Path) -> Pixels:
    """Pixels of an image, gzipped or not: (H, W) or (H, W, 3) in OpenCV's order BGR.

    Alpha is dropped; of a GIF the first picture is taken.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        if path.suffix.lower() == ".gif":
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))[..., ::-1]
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, EOFError, SyntaxError, zlib.error, cv2.error) as error:
        raise InputError(f"{path} cannot be read ({error}); copy it again.") from error
    if pixels is None:
        raise InputError(f"{path} cannot be read as an image; copy it again.")
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def foreground(pixels: Pixels) -> NDArray[np.bool_]:
    """Foreground of a mask, (H, W).

    With two values it is whatever is not 0. With more (a drawing with soft borders) it is what is
    brighter than half of the type's range (of 0 to 1 where the type is float).
    """
    flat = pixels.max(axis=-1) if pixels.ndim == 3 else pixels
    middle = 0.5 if flat.dtype.kind == "f" else np.iinfo(flat.dtype).max // 2
    above: NDArray[np.bool_] = flat > (0 if _two_values(flat) else middle)
    return above


def make_mask(kind: MaskKind, files: Sequence[Path], image: Path) -> Pixels | None:
    """The mask that belongs to an image, or None where its one file serves as it is.

    Parameters
    ----------
    kind : str
        What the files are, see :data:`training.datasets.layout.MaskKind`.
    files : sequence of Path
        Mask files.
    image : Path
        The image, whose size polygons need.

    Returns
    -------
    ndarray or None
        (H, W): uint8 with 0 and 255, or uint16 with one value per object.

    Raises
    ------
    InputError
        If a file cannot be read, or the files of one mask differ in size.
    """
    if kind == "polygons":
        outlines = [outline for path in files for outline in read_polygons(path)]
        height, width = read_pixels(image).shape[:2]
        return draw_labels(outlines, (height, width))
    if kind == "objects":
        return _unite(files, numbered=True)
    if len(files) == 1 and readable(files[0]) and (kind == "labels" or _as_it_is(files[0])):
        return None
    return _unite(files, numbered=False)


def write_png(path: Path, pixels: Pixels) -> None:
    """Write a PNG, with its folder.

    Raises
    ------
    OutputError
        If that fails.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), pixels)
    except OSError:
        written = False
    if not written:
        raise OutputError(f"cannot write {path}; choose a folder with space that you may write to.")


def _as_it_is(path: Path) -> bool:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    # One that cannot be read is left for the check of all pairs to name. Alpha would be taken
    # for foreground.
    return pixels is None or (
        _two_values(pixels) and not (pixels.ndim == 3 and pixels.shape[2] == 4)
    )


def _two_values(pixels: Pixels) -> bool:
    return np.count_nonzero(pixels) == np.count_nonzero(pixels == max(pixels.max(), 1))


def _unite(files: Sequence[Path], *, numbered: bool) -> Pixels:
    """Union of masks; numbered: each has the value of its place in the list, from 1."""
    united: Pixels | None = None
    for i, path in enumerate(files, start=1):
        mask = foreground(read_pixels(path))
        if united is None:
            united = np.zeros(mask.shape, np.uint16 if numbered else np.uint8)
        if mask.shape != united.shape:
            raise InputError(
                f"{path} is {mask.shape} px and the masks before it {united.shape}; copy it again."
            )
        united[mask] = i if numbered else 255
    if united is None:
        raise InputError("a mask needs at least one file.")
    return united

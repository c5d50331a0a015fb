"""TIFF in: OME, ImageJ and plain files, with axes and physical sizes where the file states them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.axes import our_axes
from napari_espmedsam.io.content import check_series
from napari_espmedsam.io.image_file import ImageFile
from napari_espmedsam.io.tiff_metadata import axes_kind, spacing

# From this size on an uncompressed file is mapped instead of read, so that memory stays bounded.
MEMMAP_FROM_BYTES = 512 * 2**20


def read_tiff(path: Path, series: int = 0) -> ImageFile:
    """Read one image of a TIFF file.

    Parameters
    ----------
    path : Path
        OME-TIFF, ImageJ hyperstack, or plain TIFF with one or more pages. Pages whose meaning is
        not stated become Z.
    series : int
        Which image, where the file holds several; counted from 0.

    Returns
    -------
    ImageFile
        `array` with axes out of ``TZCYXS``; an alpha sample is dropped. Spacing in micrometres
        (T: seconds) from OME or ImageJ metadata; the resolution tag of a plain TIFF is about
        printing and is ignored. Planes that the metadata name and the file lacks are 0, and
        counted in `warnings`.

    Raises
    ------
    InputError
        If the file is cut short, damaged, compressed in a way that cannot be read, or has no
        image `series`.
    """
    with page_errors_of() as page_errors:
        try:
            with tifffile.TiffFile(path) as tif:
                chosen = choose_series(path, tif, series)
                kind, shape = axes_kind(chosen), tuple(chosen.shape)
                steps = spacing(tif, series)
                array = _pixels(path, chosen, series).reshape(shape)  # no pixels at all: damaged
                n_series, notes = len(tif.series), tuple(missing_planes(path, chosen))
        except MemoryError as error:
            raise InputError(
                f"{path} does not fit into memory; save it uncompressed (it is then read plane by "
                "plane) or split it into smaller files."
            ) from error
        except InputError:
            raise
        except Exception as error:
            raise InputError(damaged(path, str(error))) from error
    if page_errors:
        raise InputError(damaged(path, "pages are missing at its end"))
    array, axes = our_axes(path, array, kind)
    steps = {axis: step for axis, step in steps.items() if axis in axes}
    return ImageFile(path, array, axes, steps, n_series, notes)


def choose_series(path: Path, tif: tifffile.TiffFile, series: int) -> tifffile.TiffPageSeries:
    """Return an image of the file, or raise InputError where it has no such image."""
    len(tif.pages)  # follows the chain of pages to its end; tifffile's series may go in circles
    n = len(tif.series)
    if not n:
        raise InputError(f"{path} holds no image (0 series, at least 1 is needed).")
    check_series(path, series, n)
    chosen = tif.series[series]
    if not sum(chosen.keyframe.databytecounts):  # tifffile makes up zeros, gigabytes if told to
        raise InputError(damaged(path, "there are no pixels in it"))
    return chosen


def damaged(path: Path, reason: str) -> str:
    """Say that a TIFF file cannot be used as it is."""
    size = path.stat().st_size
    return (
        f"{path} is cut short or damaged ({size:,} bytes; {reason.strip() or 'unreadable'}); "
        "copy or export the file again."
    )


def missing_planes(path: Path, series: tifffile.TiffPageSeries) -> list[str]:
    """Say how many planes the metadata promise and the file lacks: tifffile shows them black."""
    missing = sum(page is None for page in getattr(series, "_pages", ()))
    if not missing:
        return []
    return [
        f"{path}: {missing} of {len(series)} planes that its metadata name are not in the file; "
        "they are black (0)."
    ]


@contextmanager
def page_errors_of() -> Iterator[list[str]]:
    """Collect what tifffile logs about broken page chains.

    A TIFF that was cut between two pages is a shorter stack to tifffile, which only logs the
    broken chain. A plane that silently goes missing is worse than an error. What other threads
    read meanwhile is theirs.
    """
    found: list[str] = []
    mine = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message, ours = record.getMessage(), record.thread in (mine, None)
            is_error = ours and record.levelno >= logging.ERROR
            if is_error and message.startswith("<tifffile.TiffPages"):
                found.append(message)

    logger, handler = logging.getLogger("tifffile"), Collector()
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _pixels(path: Path, series: tifffile.TiffPageSeries, number: int) -> NDArray[Any]:
    if series.nbytes >= MEMMAP_FROM_BYTES and series.dataoffset is not None:
        mapped: NDArray[Any] = tifffile.memmap(path, series=number, mode="r")
        return mapped
    array: NDArray[Any] = np.asarray(series.asarray())
    return array.astype(array.dtype.newbyteorder("="), copy=False)

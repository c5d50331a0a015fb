"""TIFF opened without reading it: stacks, and pyramids as slide scanners write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tifffile

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.axes import our_axes
from napari_espmedsam.io.lazy_image import LazyImage
from napari_espmedsam.io.levels import finish, fitting
from napari_espmedsam.io.tiff import choose_series, damaged, missing_planes, page_errors_of
from napari_espmedsam.io.tiff_metadata import axes_kind, channel_names, spacing
from napari_espmedsam.io.watch import FileWatch, lazy


def open_tiff(path: Path, series: int = 0) -> LazyImage:
    """Open one image of a TIFF file: OME, ImageJ, SVS, NDPI and other pyramids, plain pages.

    Parameters
    ----------
    path : Path
        The file.
    series : int
        Which image, where the file holds several; counted from 0. In slides, 0 is the tissue;
        label, macro and thumbnail follow.

    Returns
    -------
    LazyImage
        The file stays open until nothing refers to the levels.

    Raises
    ------
    InputError
        If the file is damaged, cut short or without image `series`. A damaged smaller level is
        left out and named in `warnings`.
    """
    tif = None
    try:
        with page_errors_of() as page_errors:
            tif = tifffile.TiffFile(path)
            image = _open(path, tif, series)
            if page_errors:
                raise InputError(damaged(path, "pages are missing at its end"))
    except InputError:
        _close(tif)
        raise
    except Exception as error:
        _close(tif)
        raise InputError(damaged(path, str(error))) from error
    return image


def _close(tif: tifffile.TiffFile | None) -> None:
    if tif is not None:
        tif.close()


def _open(path: Path, tif: tifffile.TiffFile, number: int) -> LazyImage:
    series = choose_series(path, tif, number)
    kind, warnings = axes_kind(series), missing_planes(path, series)
    watch = FileWatch(path, tif.close)
    levels: list[Any] = []
    axes = kind
    for index, level in enumerate(series.levels):
        reason = _cut(tif, level, path)
        if reason and index == 0:
            raise InputError(damaged(path, reason))
        if reason:
            warnings.append(f"{path}: level {index} of the pyramid is left out, as {reason}.")
            continue
        if len(level.shape) != len(kind):  # a level of another kind
            continue
        array, level_axes = our_axes(path, _array(series, index, watch, kind), kind)
        if index == 0:
            axes = level_axes
        elif level_axes != axes:
            continue
        levels.append(array)
    return finish(
        path,
        fitting(levels, axes),
        axes,
        spacing=spacing(tif, number),
        channel_names=channel_names(tif, number),
        n_series=len(tif.series),
        warnings=warnings,
    )


def _array(series: tifffile.TiffPageSeries, level: int, watch: FileWatch, axes: str) -> Any:
    import zarr

    return lazy(zarr.open_array(series.aszarr(level=level), mode="r"), watch, axes)


def _cut(tif: tifffile.TiffFile, level: tifffile.TiffPageSeries, path: Path) -> str | None:
    """Say in what way the first or the last plane of a level reaches beyond the file's end."""
    size = os.stat(path).st_size
    for page in (level.pages[0], level.pages[-1]):
        if page is None or page.parent is not tif:
            continue
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True) if o)
        end = max(ends, default=0)
        if level.dataoffset is not None:
            end = max(end, level.dataoffset + level.nbytes)
        if end > size:
            return f"its pixels end at byte {end:,} and the file at {size:,}"
    return None

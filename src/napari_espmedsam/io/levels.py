"""Levels of a pyramid that belong together, and the image that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.contrast import display_ranges, read_middle
from napari_espmedsam.io.lazy_image import LazyImage, Range

# Folders and files that are named like this lose the whole of it.
_DOUBLE = (".ome.tif", ".ome.tiff", ".ome.zarr", ".ome.btf")


def stem(path: Path) -> str:
    """Return the name without its ending; ``.ome.tif`` and its like count as one ending."""
    lower = path.name.lower()
    for ending in _DOUBLE:
        if lower.endswith(ending) and len(lower) > len(ending):
            return path.name[: -len(ending)]
    return path.stem


def fitting(levels: Sequence[Any], axes: str) -> list[Any]:
    """Keep the levels that show the same image smaller, largest first.

    Parameters
    ----------
    levels : sequence of array
        The whole image first.
    axes : str
        A letter per dimension.

    Returns
    -------
    list of array
        Those of the same type and dimensions whose Y and X fall, by nearly the same factor.
    """
    kept = [levels[0]]
    for level in sorted(levels[1:], key=lambda each: -_area(each, axes)):
        if level.dtype == levels[0].dtype and _is_reduced(kept[-1].shape, level.shape, axes):
            kept.append(level)
    return kept


def _area(level: Any, axes: str) -> int:
    return int(level.shape[axes.index("Y")]) * int(level.shape[axes.index("X")])


def _is_reduced(large: Sequence[int], small: Sequence[int], axes: str) -> bool:
    if len(small) != len(large):
        return False
    for axis, big, little in zip(axes, large, small, strict=True):
        if axis in "TCS" and big != little:
            return False
        if axis in "ZYX" and not 0 < little <= big:
            return False
    y, x = axes.index("Y"), axes.index("X")
    if (large[y], large[x]) == (small[y], small[x]):
        return False
    # One pixel of rounding either way is allowed: a level of 3 px may stand for 7 or for 5.
    lowest = [large[i] / (small[i] + 1) for i in (y, x)]
    highest = [large[i] / max(small[i] - 1, 0.5) for i in (y, x)]
    return max(lowest) <= min(highest)


def finish(
    path: Path,
    levels: Sequence[Any],
    axes: str,
    *,
    spacing: Mapping[str, float],
    channel_names: Sequence[str] = (),
    contrast_limits: Sequence[Range] = (),
    n_series: int = 1,
    warnings: Sequence[str] = (),
) -> LazyImage:
    """Put an image together, with contrast limits from its smallest level that can be read.

    Parameters
    ----------
    path : Path
        Where it lies.
    levels : sequence of dask.array.Array
        Largest first.
    axes : str
        A letter per dimension.
    spacing, channel_names, contrast_limits, n_series, warnings
        As :class:`LazyImage` has them; what does not fit the axes is dropped.

    Returns
    -------
    LazyImage
        Without smaller levels that cannot be decoded.

    Raises
    ------
    InputError
        If no level can be decoded, or pixels are no whole or real numbers.
    """
    if levels[0].dtype.kind not in "biuf":
        raise InputError(
            f"{path} has pixels of type {levels[0].dtype}, but only whole and real numbers can be "
            "shown; convert it."
        )
    kept, notes, n_channels = list(levels), list(warnings), 1
    if "C" in axes:
        n_channels = int(levels[0].shape[axes.index("C")])
    named = "C" in axes and len(channel_names) == n_channels
    limits = tuple(contrast_limits) if len(contrast_limits) == n_channels else ()
    while True:
        try:
            if len(kept) > 1 and (limits or axes.endswith("S") or kept[-1].dtype.itemsize == 1):
                read_middle(kept[-1], axes)  # nobody else looks whether it can be decoded
            limits = limits or display_ranges(kept[-1], axes)
            break
        except InputError as error:
            if len(kept) == 1:
                raise
            kept.pop()
            notes.append(f"The smallest level of the pyramid is left out. {error}")
    return LazyImage(
        source=path,
        name=stem(path),
        levels=tuple(kept),
        axes=axes,
        spacing={axis: size for axis, size in spacing.items() if axis in axes},
        channel_names=tuple(channel_names) if named else (),
        contrast_limits=limits,
        n_series=n_series,
        warnings=tuple(notes),
    )

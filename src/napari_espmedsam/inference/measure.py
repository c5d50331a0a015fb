"""A table of the objects in world units: what a labels layer shows as its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import InputError
from napari_espmedsam.objects import Columns, check_fit, region_columns
from napari_espmedsam.units import MICROMETRES

Spacing = Mapping[str, tuple[float, str]]

_SHAPE = ("perimeter", "solidity", "eccentricity")
_SHORT = {
    "pixel": "px",
    "pixels": "px",
    "px": "px",
    "": "px",
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "micrometre": "um",
    "um": "um",
    "µm": "um",
    "μm": "um",  # Greek mu
    "nanometer": "nm",
    "nanometre": "nm",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "meter": "m",
    "second": "s",
    "millisecond": "ms",
    "minute": "min",
    "hour": "h",
}


def measure_objects(
    labels: npt.NDArray[Any],
    axes: str,
    *,
    image: npt.NDArray[Any] | None = None,
    spacing: Spacing | None = None,
    shape: bool = True,
) -> Columns:
    """Measure every object: one row for each label, or label and time point.

    With a Z axis an object is a volume through its planes, as linked; each time point is measured
    on its own.

    Parameters
    ----------
    labels : ndarray
        Integers with axes `axes`, 0 is background; numpy, dask or alike, read one time point at a
        time.
    axes : str
        One letter per dimension out of ``TZYX``; Y and X last.
    image : ndarray, optional
        The image with the shape of `labels`, or that with a last axis of 3 colours.
    spacing : Mapping of str to (float, str), optional
        For each letter the size of a step (not 0) and its unit, as a layer's scale and units say.
        Without a size for each of (Z,) Y and X, or with units that have nothing in common,
        everything is measured in pixels; lengths of different units are brought to micrometres.
    shape : bool
        Whether to measure the shapes of plane objects, which takes most of the time.

    Returns
    -------
    dict of str to ndarray
        Columns of one length, ordered by time and label. U is the unit: ``um``, ``nm``, ``mm``...,
        ``px`` for pixels, and ``world`` for pixels of a size other than 1, whose unit nobody knows.

        - ``label``; with T ``t`` (index) and, with a size for T, ``time_U``.
        - ``area_U2`` or with Z ``volume_U3`` (``area_px`` and ``area_world`` without a power).
        - ``equivalent_diameter_U``: of the disc or ball of that area or volume.
        - ``centroid_(z|y|x)_U``: size times index, so the middle of the first pixel is 0; without
          the translation of a layer.
        - ``bbox_min_(z|y|x)_px``, ``bbox_max_(z|y|x)_px``: indices, half open.
        - with `image` ``mean_intensity``, or ``mean_red``, ``mean_green``, ``mean_blue``.
        - without Z, if `shape`: ``perimeter_U`` (NaN where pixels are not square), ``solidity``
          (share of the convex hull, 0 to 1) and ``eccentricity`` (0 a disc, 1 a line).

    Raises
    ------
    InputError
        If `axes` or `image` do not fit `labels`, `labels` hold no pixel, or a size is 0 or not
        finite.
    """
    check_fit(labels, axes, image)
    if 0 in labels.shape:
        raise InputError(f"labels of shape {labels.shape} hold no pixel; give at least one.")
    spatial = axes.replace("T", "")
    sizes, unit = _common_unit(spatial, spacing or {})
    tables = []
    for t, frame, pixels in _frames(labels, axes, image):
        table = _measure_frame(frame, pixels, sizes, shape)
        table = _name_columns(table, spatial, sizes, unit)
        tables.append(_with_time(table, t, spacing or {}) if "T" in axes else table)
    filled = [table for table in tables if table["label"].size] or tables[:1]
    return {name: np.concatenate([table[name] for table in filled]) for name in filled[0]}


def _frames(
    labels: npt.NDArray[Any], axes: str, image: npt.NDArray[Any] | None
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any] | None]]:
    """Yield time points: index, a copy of the labels, and the image.

    Live labels change while a thread measures them, and an object that loses its last pixel
    half-way has no centre.
    """
    at = axes.find("T")
    if at < 0:
        yield 0, np.array(read_array(labels)), None if image is None else read_array(image)
        return
    for t in range(labels.shape[at]):
        where: tuple[Any, ...] = (*(slice(None),) * at, t)
        pixels = None if image is None else read_array(image[where])
        yield t, np.array(read_array(labels[where])), pixels


def _measure_frame(
    frame: npt.NDArray[Any],
    image: npt.NDArray[Any] | None,
    sizes: tuple[float, ...],
    shape: bool,
) -> Columns:
    steps = tuple(abs(size) for size in sizes)
    flat, square = frame.ndim == 2, len(set(steps)) == 1
    extra = tuple(p for p in _SHAPE if p != "perimeter" or square) if flat and shape else ()
    table = region_columns(frame, image, extra=extra, spacing=steps)
    if flat and shape and not square:
        table["perimeter"] = np.full(table["label"].size, np.nan)
    return table


def _name_columns(table: Columns, spatial: str, sizes: tuple[float, ...], unit: str) -> Columns:
    """Return the columns under the names of `measure_objects`, in their order."""
    n, letters = len(spatial), spatial.lower()
    extent = table["area"].astype(np.float64)
    power = "" if unit in ("px", "world") else str(n)
    # Area of the unit disc or volume of the unit ball: pi, or 4/3 pi.
    diameter = 2 * (extent / (np.pi if n == 2 else 4 / 3 * np.pi)) ** (1 / n)
    columns: Columns = {
        "label": table["label"].astype(np.int64),
        f"{'area' if n == 2 else 'volume'}_{unit}{power}": extent,
        f"equivalent_diameter_{unit}": diameter,
    }
    for i, letter in enumerate(letters):
        columns[f"centroid_{letter}_{unit}"] = table[f"centroid-{i}"] * np.sign(sizes[i])
    for i, side in enumerate(("min", "max")):
        for j, letter in enumerate(letters):
            columns[f"bbox_{side}_{letter}_px"] = table[f"bbox-{i * n + j}"].astype(np.int64)
    columns |= {name: column for name, column in table.items() if name.startswith("mean_")}
    if "perimeter" in table:
        columns[f"perimeter_{unit}"] = table["perimeter"]
        columns |= {name: table[name] for name in _SHAPE[1:]}
    return columns


def _with_time(table: Columns, t: int, spacing: Spacing) -> Columns:
    n = table["label"].size
    columns = {"label": table["label"], "t": np.full(n, t, dtype=np.int64)}
    if "T" in spacing:
        size, unit = spacing["T"]
        name = _short(unit) if _short(unit) != "px" else "world"
        columns[f"time_{name}"] = np.full(n, t * _check_size("T", size))
    return columns | table


def _common_unit(spatial: str, spacing: Spacing) -> tuple[tuple[float, ...], str]:
    """Return the sizes of a step along the axes, and the short name of their unit."""
    pixels = (1.0,) * len(spatial), "px"
    if not set(spatial) <= set(spacing):
        return pixels
    sizes = tuple(_check_size(letter, spacing[letter][0]) for letter in spatial)
    units = [str(spacing[letter][1]).strip().lower() for letter in spatial]
    names = {_short(unit) for unit in units}
    if names == {"px"}:
        return sizes, "px" if set(sizes) == {1.0} else "world"
    if len(names) == 1:
        return sizes, names.pop()
    if not set(units) <= set(MICROMETRES):
        return pixels
    factors = [MICROMETRES[unit] for unit in units]
    return tuple(size * factor for size, factor in zip(sizes, factors, strict=True)), "um"


def _short(unit: str) -> str:
    name = str(unit).strip().lower()
    return _SHORT.get(name, name)


def _check_size(letter: str, size: float) -> float:
    if not np.isfinite(size) or size == 0:
        raise InputError(
            f"One step along {letter} is {size:g} long. Give a size other than 0, or none at all."
        )
    return float(size)

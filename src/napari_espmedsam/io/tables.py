"""One row per object and plane: size, place and brightness, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.atomic import atomic_path

Row = dict[str, float | int]
_PROPERTIES = ("label", "area", "centroid", "bbox", "mean_intensity")
_COLOURS = ("red", "green", "blue")


def object_table(
    labels: NDArray[Any],
    axes: str,
    image: NDArray[Any] | None = None,
    *,
    spacing: Mapping[str, float] | None = None,
) -> list[Row]:
    """Measure every object on every plane.

    Parameters
    ----------
    labels : ndarray of integer
        Ids with axes `axes`; 0 is background.
    axes : str
        One letter per dimension out of ``TZYX``; Y and X last.
    image : ndarray, optional
        The image with the same leading axes and plane shape as `labels`, and optionally a last
        axis of 3 colours; gives the mean intensities.
    spacing : Mapping of str to float, optional
        Micrometres per step along Y and X (and Z); adds columns in micrometres.

    Returns
    -------
    list of dict
        In order of plane and label: ``t`` and ``z`` (indices, as far as present), ``label``,
        ``area_px``, ``centroid_y_px``, ``centroid_x_px``, ``bbox_min_y_px``, ``bbox_min_x_px``,
        ``bbox_max_y_px``, ``bbox_max_x_px`` (half open), ``mean_intensity`` (for colours
        ``mean_red``, ``mean_green``, ``mean_blue``; in the image's own values) and, with
        `spacing`, ``area_um2``, ``centroid_z_um``, ``centroid_y_um``, ``centroid_x_um``.

    Raises
    ------
    InputError
        If `axes` or `image` do not fit `labels`.
    """
    _check(labels, axes, image)
    spacing = spacing or {}
    rows: list[Row] = []
    for index in np.ndindex(labels.shape[:-2]):
        where: Row = {a.lower(): i for a, i in zip(axes, index, strict=False)}
        plane = None if image is None else np.asarray(image[index])
        rows += [where | row for row in _plane_rows(labels[index], plane, spacing, where)]
    return rows


def write_table_csv(
    path: str | os.PathLike[str], rows: list[Row], *, overwrite: bool = True
) -> Path:
    """Write rows of `object_table` as CSV, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write.
    rows : list of dict
        Rows with the same keys; an empty list gives a file with the heading ``label`` only.
    overwrite : bool
        False: an existing file is an error.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    columns = list(rows[0]) if rows else ["label"]
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    return Path(path)


def _check(labels: NDArray[Any], axes: str, image: NDArray[Any] | None) -> None:
    if len(axes) != labels.ndim or axes[-2:] != "YX" or not set(axes) <= set("TZYX"):
        raise InputError(
            f"axes {axes!r} do not fit labels of shape {labels.shape}; give {labels.ndim} letters "
            "out of T, Z, Y, X with Y and X last."
        )
    if image is not None and image.shape not in (labels.shape, (*labels.shape, 3)):
        raise InputError(
            f"image of shape {image.shape} does not fit labels of shape {labels.shape}; pass the "
            "channel that was segmented, or its 3 colours as the last axis."
        )


def _plane_rows(
    labels: NDArray[Any],
    image: NDArray[Any] | None,
    spacing: Mapping[str, float],
    where: Row,
) -> Iterator[Row]:
    from skimage.measure import regionprops_table

    if not labels.any():
        return
    properties = _PROPERTIES if image is not None else _PROPERTIES[:-1]
    table: dict[str, NDArray[Any]] = regionprops_table(labels, image, properties=properties)
    for i in range(len(table["label"])):
        row: Row = {"label": int(table["label"][i]), "area_px": int(table["area"][i])}
        row["centroid_y_px"] = float(table["centroid-0"][i])
        row["centroid_x_px"] = float(table["centroid-1"][i])
        for side, name in enumerate(("min_y", "min_x", "max_y", "max_x")):
            row[f"bbox_{name}_px"] = int(table[f"bbox-{side}"][i])
        if "mean_intensity" in table:
            row["mean_intensity"] = float(table["mean_intensity"][i])
        elif image is not None:
            for c, colour in enumerate(_COLOURS):
                row[f"mean_{colour}"] = float(table[f"mean_intensity-{c}"][i])
        yield row | _physical(row, spacing, where)


def _physical(row: Row, spacing: Mapping[str, float], where: Row) -> Row:
    """Return the columns in micrometres, as far as the sizes are known."""
    if "Y" not in spacing or "X" not in spacing:
        return {}
    physical: Row = {"area_um2": row["area_px"] * spacing["Y"] * spacing["X"]}
    if "z" in where and "Z" in spacing:
        physical["centroid_z_um"] = where["z"] * spacing["Z"]
    physical["centroid_y_um"] = row["centroid_y_px"] * spacing["Y"]
    physical["centroid_x_um"] = row["centroid_x_px"] * spacing["X"]
    return physical

"""One row per object and plane: size, place and brightness, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.label_planes import LabelPlanes
from napari_espmedsam.io.label_stream import StreamedObject, stream_objects
from napari_espmedsam.objects import Columns, check_fit, region_columns

Row = dict[str, float | int]


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
    check_fit(labels, axes, image)
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
    return _write_rows(Path(path), rows, list(rows[0]) if rows else ["label"], overwrite=overwrite)


def write_objects_csv_stream(
    path: str | os.PathLike[str],
    labels: Any,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write size and place of the objects of one plane that does not fit into memory.

    Parameters
    ----------
    path, spacing, provenance, overwrite
        As in :func:`write_objects_csv`; the columns too.
    labels : array-like of integer
        (Y, X), zarr or alike; see :func:`~napari_espmedsam.io.label_stream.stream_objects`. Rows
        come in the order in which objects are complete.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    sizes = spacing or {}
    rows = (row | _physical(row, sizes, {}) for row in map(_row, stream_objects(labels)))
    columns = [*_row(_NOTHING), *_physical(_row(_NOTHING), sizes, {})]
    return _write_rows(Path(path), rows, columns, overwrite=overwrite)


_NOTHING = StreamedObject(0, 0, (0.0, 0.0), (0, 0, 0, 0))


def _row(each: StreamedObject) -> Row:
    top, left, bottom, right = each.box
    return {
        "label": each.label,
        "area_px": each.area,
        "centroid_y_px": each.centroid[0],
        "centroid_x_px": each.centroid[1],
        "bbox_min_y_px": top,
        "bbox_min_x_px": left,
        "bbox_max_y_px": bottom,
        "bbox_max_x_px": right,
    }


def _write_rows(
    path: Path, rows: Iterable[Row], columns: Sequence[str], *, overwrite: bool
) -> Path:
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(
            {k: _shorten(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    return path


def write_objects_csv(
    path: str | os.PathLike[str],
    labels: Any,
    axes: str,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write size and place of every object on every plane as CSV, whole or not at all.

    Parameters
    ----------
    path, labels, axes, spacing, overwrite
        As in :class:`~napari_espmedsam.io.formats.LabelWriter`. Columns are those of
        `object_table` without an image, and ``c`` where the labels have that axis.
    provenance
        Not stored: the format has no place for it.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If `axes` do not describe `labels`, or `labels` are no whole numbers.
    OutputError
        If ids are out of range or the file cannot be written.
    """
    rows: list[Row] = []
    for plane in LabelPlanes(labels, axes):
        where: Row = {letter.lower(): at for letter, at in plane.index.items()}
        rows += [where | row for row in _plane_rows(plane.ids, None, spacing or {}, where)]
    return write_table_csv(path, rows, overwrite=overwrite)


def _shorten(value: float) -> float:
    """Leave out digits that mean nothing; an area in square millimetres may be 0.00005."""
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.5g}")


def table_rows(columns: Columns) -> list[Row]:
    """Turn columns of equal length into rows, for `write_table_csv`."""
    lists = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _plane_rows(
    labels: NDArray[Any],
    image: NDArray[Any] | None,
    spacing: Mapping[str, float],
    where: Row,
) -> Iterator[Row]:
    if not labels.any():
        return
    table = region_columns(labels, image)
    columns = {"label": table.pop("label"), "area_px": table.pop("area").astype(np.int64)}
    columns |= {f"centroid_{a}_px": table.pop(f"centroid-{i}") for i, a in enumerate("yx")}
    sides = ("min_y", "min_x", "max_y", "max_x")
    columns |= {f"bbox_{name}_px": table.pop(f"bbox-{i}") for i, name in enumerate(sides)}
    for row in table_rows(columns | table):
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

"""One row per object and plane: size, place and brightness, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.label_planes import LabelPlanes
from napari_espmedsam.io.label_stream import StreamedObject, stream_objects

Row = dict[str, float | int]
Columns = dict[str, NDArray[Any]]
_COLOURS = ("red", "green", "blue")
_BASIC = ("label", "area", "centroid", "bbox")


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


def check_fit(labels: NDArray[Any], axes: str, image: NDArray[Any] | None = None) -> None:
    """Check that axes and image belong to labels, as `object_table` describes them.

    Raises
    ------
    InputError
        If not.
    """
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


def region_columns(
    labels: NDArray[Any],
    image: NDArray[Any] | None = None,
    *,
    extra: tuple[str, ...] = (),
    spacing: tuple[float, ...] | None = None,
) -> Columns:
    """Measure the objects of one plane or volume with scikit-image.

    Parameters
    ----------
    labels : ndarray of integer
        (Y, X) or (Z, Y, X), ids up to 2**32 - 1; 0 is background.
    image : ndarray, optional
        Shape of `labels`, or that with a last axis of 3 colours.
    extra : tuple of str
        Further properties of `skimage.measure.regionprops`.
    spacing : tuple of float, optional
        Size of a step along each axis; 1 when None.

    Returns
    -------
    dict of str to ndarray
        Columns in the order of the label: ``label``, ``area``, ``centroid-0``... (both in the
        units of `spacing`), ``bbox-0``... (pixels), `extra`, and with `image` ``mean_intensity``
        or ``mean_red``, ``mean_green``, ``mean_blue``. Without objects they are empty.
    """
    from skimage.measure import regionprops_table

    ids: NDArray[Any] | None = None
    if int(labels.max(initial=0)) > labels.size:  # regionprops makes a list as long as the last id
        ids = np.append(0, np.unique(labels[labels > 0]))
        labels = np.searchsorted(ids, labels)
    intensity = () if image is None else ("mean_intensity",)
    table: Columns = regionprops_table(
        labels, image, properties=(*_BASIC, *extra, *intensity), spacing=spacing
    )
    if ids is not None:
        table["label"] = ids[table["label"]]
    for c, colour in enumerate(_COLOURS):
        if f"mean_intensity-{c}" in table:
            table[f"mean_{colour}"] = table.pop(f"mean_intensity-{c}")
    return table


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

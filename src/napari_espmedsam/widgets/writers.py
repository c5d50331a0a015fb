"""Labels layers as napari saves them: each of our formats is a choice in its Save dialog."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari.layers import Labels

from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.io.formats import LabelFormat, format_named
from napari_espmedsam.units import micrometres
from napari_espmedsam.widgets.objects_source import Spacing, our_record, source_of

_SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0}


def write_tiff(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write labels as an ImageJ TIFF, see :func:`write_labels_layer`."""
    return write_labels_layer("tiff", path, data, attributes)


def write_ome_zarr(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write labels as OME-Zarr, see :func:`write_labels_layer`."""
    return write_labels_layer("ome-zarr", path, data, attributes)


def write_geojson(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write outlines as GeoJSON for QuPath, see :func:`write_labels_layer`."""
    return write_labels_layer("geojson", path, data, attributes)


def write_roi(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write outlines as ImageJ's regions of interest, see :func:`write_labels_layer`."""
    return write_labels_layer("roi", path, data, attributes)


def write_coco(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write objects as COCO instances, see :func:`write_labels_layer`."""
    return write_labels_layer("coco", path, data, attributes)


def write_csv(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a table of objects as CSV, see :func:`write_labels_layer`."""
    return write_labels_layer("csv", path, data, attributes)


def write_labels_layer(name: str, path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a labels layer in one of our formats.

    Parameters
    ----------
    name : str
        Name of the format, see :data:`napari_espmedsam.io.formats.FORMATS`.
    path : str
        Where to; the ending of the format is added where the name has another one.
    data : array-like of integer, or list of them
        Data of the layer, of a pyramid the first level; as lazy as they are.
    attributes : mapping
        Attributes of the layer. Scale and units give the size of a pixel, axis labels or the
        record of our run the axes; that record is stored as far as the format has a place.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    OutputError
        If the layer cannot be written that way. (An InputError is a ValueError, and napari takes
        those of a writer for "no writer found".)
    """
    kind = format_named(name)
    target, overwrite = _target(kind, str(path))
    layer = Labels(data, **_plain(attributes))
    try:
        source = source_of(layer)
        kind.write(
            target,
            source.read_labels(),
            source.axes,
            spacing=_in_micrometres(source.spacing),
            provenance=our_record(layer),
            overwrite=overwrite,
        )
    except InputError as error:
        raise OutputError(str(error)) from error
    return [str(target)]


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what places a layer and names it."""
    wanted = (
        *("name", "metadata", "multiscale"),
        *("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels"),
    )
    return {key: attributes[key] for key in wanted if key in attributes}


def _target(kind: LabelFormat, path: str) -> tuple[Path, bool]:
    """Complete a name; return it and whether the user was asked about replacing it."""
    last = "." + kind.suffix.rpartition(".")[2]
    complete = path.lower().endswith((last, ".tiff") if kind.name == "tiff" else last)
    target = Path(path if complete else path + kind.suffix)
    # A Save dialog asks about files, and about the name as it was typed.
    asked = complete and not kind.is_folder
    if target.exists() and not asked:
        raise OutputError(f"{target} exists already; choose another name, or remove it first.")
    return target, asked


def _in_micrometres(spacing: Spacing) -> dict[str, float]:
    """Return sizes in micrometres and seconds, as far as the units say so."""
    sizes = {}
    for letter, (step, unit) in spacing.items():
        if letter != "T":
            size = micrometres(step, unit)
        else:
            size = step * _SECONDS[unit] if unit in _SECONDS else None
        if size is not None:
            sizes[letter] = size
    return sizes

"""Outlines as GeoJSON that QuPath imports as objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.contours import Outline, Polygon, trace_outlines
from napari_espmedsam.io.label_planes import LabelPlane, LabelPlanes
from napari_espmedsam.io.label_stream import StreamedObject, stream_objects

PROVENANCE = "napari-espmedsam"
COLOUR = (60, 180, 75)  # seen on pink, purple and grey
_ALL_CHANNELS = -1  # what QuPath writes where an object belongs to no channel


def write_geojson(
    path: str | os.PathLike[str],
    labels: Any,
    axes: str,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    category: str = "Object",
    object_type: str = "detection",
) -> Path:
    """Write one GeoJSON feature for each object on each plane, as QuPath imports them.

    Coordinates are pixels of the full resolution, (0, 0) the image's corner. Filling the polygons
    gives the labels back. The id of an object is its name and its measurement "Label".

    Parameters
    ----------
    path, labels, axes, spacing, provenance, overwrite
        As in :class:`~napari_espmedsam.io.formats.LabelWriter`. Planes are read one at a time.
        `spacing` adds the area in square micrometres; `provenance` becomes the member
        ``napari-espmedsam`` of the collection.
    category : str
        Name of the QuPath class of all objects.
    object_type : str
        ``"detection"`` (many objects, measured as they are) or ``"annotation"`` (editable).

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
    planes = LabelPlanes(labels, axes)
    fixed = _fixed(category, object_type)
    features = (
        _feature(outline, fixed, spacing or {}, _place(plane))
        for plane in planes
        for outline in trace_outlines(plane.ids)
    )
    return _write(Path(path), features, provenance, overwrite=overwrite)


def write_geojson_stream(
    path: str | os.PathLike[str],
    labels: Any,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write the objects of one plane that does not fit into memory, block by block.

    Parameters
    ----------
    path, spacing, provenance, overwrite
        As in :func:`write_geojson`.
    labels : array-like of integer
        (Y, X), zarr or alike; see :func:`~napari_espmedsam.io.label_stream.stream_objects`.
        Features come in the order in which objects are complete. An object whose box has more than
        ``MAX_BOX`` px becomes one feature for each block, with the name of the object.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    fixed = _fixed("Object", "detection")
    features = (
        _feature(_outline(each), fixed, spacing or {}, {})
        for each in stream_objects(labels, pixels=True)
    )
    return _write(Path(path), features, provenance, overwrite=overwrite)


def _outline(each: StreamedObject) -> Outline:
    """Trace one object, in pixels of the whole plane."""
    (found,) = trace_outlines(np.asarray(each.pixels, np.uint8))
    corner = np.array([each.box[1], each.box[0]])
    polygons = tuple(
        Polygon(polygon.exterior + corner, tuple(hole + corner for hole in polygon.holes))
        for polygon in found.polygons
    )
    return Outline(each.label, polygons)


def _fixed(category: str, object_type: str) -> dict[str, Any]:
    return {
        "objectType": object_type,
        "classification": {"name": category, "color": list(COLOUR)},
    }


def _write(
    path: Path,
    features: Iterable[Mapping[str, Any]],
    provenance: Mapping[str, Any] | None,
    *,
    overwrite: bool,
) -> Path:
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if provenance is not None:
        head[PROVENANCE] = dict(provenance)
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        # Feature by feature: all of a slide at once would not fit into memory.
        file.write(json.dumps(head, default=str)[:-1] + ', "features": [')
        separator = "\n"
        for feature in features:
            file.write(separator + json.dumps(feature, separators=(",", ":")))
            separator = ",\n"
        file.write("\n]}\n")
    return path


def _feature(
    outline: Outline,
    fixed: Mapping[str, Any],
    spacing: Mapping[str, float],
    place: Mapping[str, Any],
) -> dict[str, Any]:
    measurements: dict[str, float] = {"Label": outline.label, "Area px^2": outline.area}
    if "Y" in spacing and "X" in spacing:
        measurements["Area µm^2"] = outline.area * spacing["Y"] * spacing["X"]
    properties = {"name": str(outline.label), **fixed, "measurements": measurements}
    return {
        "type": "Feature",
        "geometry": geometry(outline) | dict(place),
        "properties": properties,
    }


def geometry(outline: Outline) -> dict[str, Any]:
    """Return an outline as a GeoJSON Polygon or MultiPolygon."""
    parts = [_rings(polygon) for polygon in outline.polygons]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _rings(polygon: Polygon) -> list[list[list[int]]]:
    # GeoJSON repeats the first corner.
    return [np.concatenate([ring, ring[:1]]).tolist() for ring in polygon.rings]


def _place(plane: LabelPlane) -> dict[str, Any]:
    """Return what QuPath keeps in the geometry of an object that has a plane."""
    if not plane.index:
        return {}
    channel = plane.index.get("C", _ALL_CHANNELS)
    z, t = plane.index.get("Z", 0), plane.index.get("T", 0)
    return {"plane": {"c": channel, "z": z, "t": t}}

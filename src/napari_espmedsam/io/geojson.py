"""Outlines as GeoJSON that QuPath imports as objects."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.contours import Outline, Polygon, trace_outlines
from napari_espmedsam.io.label_planes import LabelPlane, LabelPlanes

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
    fixed = {
        "objectType": object_type,
        "classification": {"name": category, "color": list(COLOUR)},
    }
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
        for plane in planes:
            for outline in trace_outlines(plane.ids):
                feature = _feature(outline, plane, fixed, spacing or {})
                file.write(separator + json.dumps(feature, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")
    return Path(path)


def _feature(
    outline: Outline, plane: LabelPlane, fixed: Mapping[str, Any], spacing: Mapping[str, float]
) -> dict[str, Any]:
    measurements: dict[str, float] = {"Label": outline.label, "Area px^2": outline.area}
    if "Y" in spacing and "X" in spacing:
        measurements["Area µm^2"] = outline.area * spacing["Y"] * spacing["X"]
    properties = {"name": str(outline.label), **fixed, "measurements": measurements}
    return {
        "type": "Feature",
        "geometry": geometry(outline) | _place(plane),
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

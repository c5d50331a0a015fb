"""Objects as COCO instances: what most detection and segmentation libraries train on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.label_planes import LabelPlane, LabelPlanes

PROVENANCE = "napari-espmedsam"


def write_coco(
    path: str | os.PathLike[str],
    labels: Any,
    axes: str,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    category: str = "object",
) -> Path:
    """Write one COCO annotation for each object on each plane.

    Masks are run lengths (uncompressed RLE, column by column), which hold holes and several parts
    exactly; COCO's polygons cannot.

    Parameters
    ----------
    path, labels, axes, spacing, provenance, overwrite
        As in :class:`~napari_espmedsam.io.formats.LabelWriter`. Planes are read one at a time.
        Each plane is an image of its own with the additional keys ``t``, ``z``, ``c`` (counted
        from 0, as far as there are such axes). Its ``file_name`` is ``input`` or ``image`` of the
        provenance, else the name of `path`. `spacing` and `provenance` become the members
        ``spacing`` and ``napari-espmedsam`` of ``info``.
    category : str
        Name of the only category.

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
    info: dict[str, Any] = {"description": "Labels written by napari-espmedsam", "version": "1.0"}
    if spacing:
        info["spacing"] = dict(spacing)  # micrometres; T in seconds
    if provenance is not None:
        info[PROVENANCE] = dict(provenance)
    known = provenance or {}
    name = str(known.get("input") or known.get("image") or Path(path).name.partition(".")[0])
    head = {
        "info": info,
        "licenses": [],
        "categories": [{"id": 1, "name": category, "supercategory": category}],
        "images": [_image(planes, number, name) for number in range(len(planes))],
    }
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.write(json.dumps(head, default=str)[:-1] + ', "annotations": [')
        number, separator = 0, "\n"
        for plane in planes:
            for annotation in _annotations(plane):
                number += 1
                annotation = {"id": number, **annotation}
                file.write(separator + json.dumps(annotation, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")
    return Path(path)


def _image(planes: LabelPlanes, number: int, name: str) -> dict[str, Any]:
    height, width = planes.shape[-2:]
    at = np.unravel_index(number, planes.shape[:-2]) if planes.shape[:-2] else ()
    where = {letter.lower(): int(i) for letter, i in zip(planes.axes, at, strict=False)}
    return {"id": number + 1, "file_name": name, "width": width, "height": height, **where}


def _annotations(plane: LabelPlane) -> Iterator[dict[str, Any]]:
    from skimage.measure import regionprops

    ids, numbers = np.unique(plane.ids, return_inverse=True)  # regionprops counts up to the last id
    numbered = numbers.reshape(plane.ids.shape)
    if ids.size and ids[0]:  # no background
        ids, numbered = np.append(0, ids), numbered + 1
    for region in regionprops(numbered):
        top, left, bottom, right = region.bbox
        yield {
            "image_id": plane.number + 1,
            "category_id": 1,
            "label": int(ids[region.label]),
            "iscrowd": 0,
            "area": int(region.area),
            "bbox": [left, top, right - left, bottom - top],
            "segmentation": {
                "size": list(plane.ids.shape),
                "counts": run_lengths(region.image, (top, left), plane.ids.shape),
            },
        }


def run_lengths(
    mask: NDArray[np.bool_], corner: tuple[int, int], shape: tuple[int, ...]
) -> list[int]:
    """Return the mask of one object as COCO's uncompressed run lengths.

    Parameters
    ----------
    mask : ndarray of bool
        (height, width), at least one pixel set.
    corner : (int, int)
        Row and column of its first pixel in the plane.
    shape : (int, int)
        Shape of the plane.

    Returns
    -------
    list of int
        Pixels off, on, off, ... down the columns of the plane, from left to right; they add up
        to its pixels. The first may be 0.
    """
    columns, rows = np.nonzero(mask.T)
    pixels = (columns + corner[1]) * shape[0] + rows + corner[0]
    breaks = np.flatnonzero(np.diff(pixels) > 1)
    starts = pixels[np.append(0, breaks + 1)]
    stops = pixels[np.append(breaks, -1)] + 1
    edges = np.stack([starts, stops], axis=1).ravel()
    total = shape[0] * shape[1]
    counts: list[int] = np.diff(edges, prepend=0, append=total).tolist()
    return counts if counts[-1] else counts[:-1]

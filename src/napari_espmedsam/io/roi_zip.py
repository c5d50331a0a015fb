"""Outlines as regions of interest that ImageJ's ROI Manager opens."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.contours import Outline, Ring, trace_outlines
from napari_espmedsam.io.label_planes import LabelPlane, LabelPlanes

if TYPE_CHECKING:
    from roifile import ImagejRoi

MAX_SIDE = 60_535  # 16 bits, of which ImageJ takes the uppermost 5000 for negative numbers
_MAX_CORNERS = 2**16 - 1
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_roi_zip(
    path: str | os.PathLike[str],
    labels: Any,
    axes: str,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write one region of interest for each object on each plane.

    A region is a traced polygon along the edges of pixels; an object with holes or of several
    parts is a composite, as ImageJ itself makes them. In a stack it has the Z, T and C position of
    its plane (C only where the labels have that axis).

    Parameters
    ----------
    path, labels, axes, overwrite
        As in :class:`~napari_espmedsam.io.formats.LabelWriter`. Planes are read one at a time.
        Names are ``PLANE-Y-X-ID``, as ImageJ names regions (plane counted from 1, centre of the
        bounding box) with the id of the object behind it.
    spacing, provenance
        Not stored: the format has no place for them.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If `axes` do not describe `labels`, or `labels` are no whole numbers.
    OutputError
        If ids are out of range, a side is longer than 60,535 pixels, or the file cannot be
        written.
    """
    planes = LabelPlanes(labels, axes)
    height, width = planes.shape[-2:]
    if max(height, width) > MAX_SIDE:
        raise OutputError(
            f"labels of {height:,} x {width:,} pixels do not fit ImageJ's regions of interest (up "
            f"to {MAX_SIDE:,} on a side); save them as GeoJSON or OME-Zarr."
        )
    digits = max(4, len(str(max(height, width, len(planes)))))
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for plane in planes:
            for outline in trace_outlines(plane.ids):
                region = _region(outline, plane, digits)
                # An entry without a time of its own: the same labels give the same file.
                entry = zipfile.ZipInfo(f"{region.name}.roi")
                archive.writestr(entry, region.tobytes(), zipfile.ZIP_DEFLATED)
    return Path(path)


def _region(outline: Outline, plane: LabelPlane, digits: int) -> ImagejRoi:
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    region = ImagejRoi(
        name=_name(outline, plane, digits),
        options=ROI_OPTIONS.OVERLAY_BACKGROUNDS | ROI_OPTIONS.OVERLAY_LABELS,
        c_position=plane.index.get("C", -1) + 1,  # 0 is all of them
        z_position=plane.index.get("Z", -1) + 1,
        t_position=plane.index.get("T", -1) + 1,
    )
    region.left, region.top, region.right, region.bottom = outline.bounds
    rings = outline.rings
    if len(rings) == 1 and len(rings[0]) <= _MAX_CORNERS:
        region.roitype = ROI_TYPE.TRACED
        region.n_coordinates = len(rings[0])
        corners = rings[0] - (region.left, region.top)
        region.integer_coordinates = corners.astype(np.int32)
    else:
        region.roitype = ROI_TYPE.RECT  # what a composite has to be
        region.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
        region.shape_roi_size = len(region.multi_coordinates)
    return region


def _name(outline: Outline, plane: LabelPlane, digits: int) -> str:
    # ImageJ finds the slice by such a name where a stack is no hyperstack and C, Z, T mean nothing.
    left, top, right, bottom = outline.bounds
    numbers = (plane.number + 1, (top + bottom) // 2, (left + right) // 2)
    return "-".join(f"{number:0{digits}d}" for number in numbers) + f"-{outline.label}"


def _path(ring: Ring) -> NDArray[np.float32]:
    """Return a ring as ImageJ's path: move to the first corner, lines to the others, close."""
    steps = np.full((len(ring), 3), _LINE, np.float32)
    steps[0, 0] = _MOVE
    steps[:, 1:] = ring
    return np.append(steps.ravel(), np.float32(_CLOSE))

"""Label images as TIFF files that ImageJ, Fiji, QuPath and napari open as they are."""

from __future__ import annotations

import colorsys
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.label_planes import ORDER, check_label_axes

MAX_UINT16 = 2**16 - 1
MAX_FLOAT32 = 2**24  # above it float32 skips integers
MAX_BYTES = 2**32 - 2**25  # a classic TIFF has 32-bit offsets; the rest is for its tags
_PROVENANCE = "napari-espmedsam"


def imagej_labels(labels: NDArray[Any]) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Convert label ids to a dtype that ImageJ has, without changing any of them.

    Parameters
    ----------
    labels : ndarray of integer
        Ids from 0 (background) on.

    Returns
    -------
    ndarray of uint16 or float32
        uint16 up to id 65535, else float32, which holds every integer up to 2**24 exactly and is
        what ImageJ itself uses for more labels. ImageJ has no 32-bit integer image.

    Raises
    ------
    OutputError
        If an id is negative or above 2**24.
    """
    lowest, highest = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if lowest < 0 or highest > MAX_FLOAT32:
        raise OutputError(
            f"label ids {lowest:,} to {highest:,} do not fit an ImageJ image (0 to "
            f"{MAX_FLOAT32:,}); save the planes as separate files."
        )
    if highest <= MAX_UINT16:
        return labels.astype(np.uint16)
    return labels.astype(np.float32)


def write_labels_tiff(
    path: str | os.PathLike[str],
    labels: NDArray[Any],
    axes: str,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels as a compressed ImageJ hyperstack, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write.
    labels : ndarray of integer
        Ids from 0 (background) to 2**24, with axes `axes`.
    axes : str
        One letter per dimension out of ``TZCYX``; stored in that order.
    spacing : Mapping of str to float, optional
        Step along ``Z``, ``Y``, ``X`` in micrometres and ``T`` in seconds; stored as far as known,
        ``Z`` only beside ``Y`` and ``X``, with which it shares its unit.
    provenance : Mapping, optional
        How the labels were made; stored as JSON in ImageJ's Info (Image > Show Info...).
    overwrite : bool
        False: an existing file is an error.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If the ids or all pixels (4 GB) do not fit, or the file cannot be written.
    InputError
        If `axes` do not describe `labels`, or `labels` are no whole numbers.
    """
    check_label_axes(labels, axes)
    order = [a for a in ORDER if a in axes]
    _check_size(labels.shape, 2)
    ids = read_array(labels).transpose([axes.index(a) for a in order])
    stored = imagej_labels(ids)
    _check_size(stored.shape, stored.itemsize)
    metadata, resolution = _metadata(stored, "".join(order), spacing or {}, provenance)
    with atomic_path(path, overwrite=overwrite) as temporary:
        tifffile.imwrite(
            temporary,
            stored,
            imagej=True,
            metadata=metadata,
            resolution=resolution,
            compression="zlib",
        )
    return Path(path)


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the provenance that `write_labels_tiff` stored, or None where there is none."""
    with tifffile.TiffFile(path) as tif:
        info = (tif.imagej_metadata or {}).get("Info")
    try:
        content = json.loads(info or "")
    except ValueError:
        return None
    found = content.get(_PROVENANCE) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else None


def _check_size(shape: tuple[int, ...], itemsize: int) -> None:
    size = math.prod(shape) * itemsize
    if size > MAX_BYTES:
        raise OutputError(
            f"labels of shape {shape} take {size:,} bytes, more than an ImageJ TIFF holds "
            f"({MAX_BYTES:,}); save them as OME-Zarr."
        )


def _metadata(
    stored: NDArray[Any],
    axes: str,
    spacing: Mapping[str, float],
    provenance: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], tuple[float, float] | None]:
    metadata: dict[str, Any] = {
        "axes": axes,
        "mode": "color" if stored.ndim > 2 else None,
        "min": 0.0,
        "max": float(max(stored.max(initial=0), 1)),
        "LUTs": [label_colours()],
    }
    resolution = None
    if "Y" in spacing and "X" in spacing:
        # ImageJ knows "um"; its own files say "micron", but so do few others.
        metadata["unit"] = "um"
        resolution = (1 / spacing["X"], 1 / spacing["Y"])
        if "Z" in spacing:
            metadata["spacing"] = spacing["Z"]
    if "T" in spacing:
        metadata["finterval"] = spacing["T"]
    if provenance is not None:
        metadata["Info"] = json.dumps({_PROVENANCE: dict(provenance)}, indent=1, default=str)
    return {k: v for k, v in metadata.items() if v is not None}, resolution


@lru_cache(maxsize=8)
def label_colours(n: int = 256, *, hues: tuple[float, float] = (0.0, 1.0)) -> NDArray[np.uint8]:
    """Return a colour table for labels: black, then hues that differ from their neighbours.

    Parameters
    ----------
    n : int
        Number of colours.
    hues : (float, float)
        Part of the colour wheel to use; red is 0 and 1, green 1/3, blue 2/3.

    Returns
    -------
    ndarray of uint8, shape (3, n)
        Red, green and blue rows, 0..255; column 0 is black. Read-only.
    """
    golden = 0.61803398875  # steps of the golden ratio spread hues evenly
    colours = [
        colorsys.hsv_to_rgb(
            hues[0] + (hues[1] - hues[0]) * ((0.55 + i * golden) % 1),
            (0.55, 0.9, 0.7)[i % 3],
            (1.0, 0.85)[i % 2],
        )
        for i in range(n)
    ]
    table = np.round(np.array(colours).T * 255).astype(np.uint8)
    table[:, 0] = 0
    table.flags.writeable = False  # kept: a batch draws two pictures with it for each image
    return table

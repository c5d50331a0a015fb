"""Labels as OME-Zarr (NGFF 0.4): a pyramid in chunks with colours, scale and units."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.atomic import atomic_folder
from napari_espmedsam.io.label_planes import LabelPlanes
from napari_espmedsam.io.labels import label_colours

if TYPE_CHECKING:
    import zarr

VERSION = "0.4"  # on Zarr 2: what most programs open
PROVENANCE = "napari-espmedsam"
CHUNK = 512
_BLOCK = 4 * CHUNK  # px that are read and written at once, along Y and X
_SMALLEST = 256  # no further level once both sides are at most this long
_KINDS = {"T": ("time", "second"), "C": ("channel", None)}


def write_labels_zarr(
    path: str | os.PathLike[str],
    labels: Any,
    axes: str,
    *,
    spacing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write labels as an OME-Zarr label image, in blocks of at most 2048 x 2048 pixels.

    The folder is the label image itself, so it opens without the image that it belongs to. Every
    further level takes each second pixel along Y and X: ids are never mixed, and pixel i of level
    k lies at pixel i * 2**k.

    Parameters
    ----------
    path, labels, axes, spacing, provenance, overwrite
        As in :class:`~napari_espmedsam.io.formats.LabelWriter`. Stored as uint32 in the order
        ``TZCYX``, with the scale of each level and with units where `spacing` has them;
        `provenance` becomes the attribute ``napari-espmedsam``.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If `axes` do not describe `labels`, or `labels` are no whole numbers.
    OutputError
        If ids are out of range, the folder cannot be written, or an existing folder of that name
        holds no OME-Zarr.
    """
    import zarr

    planes, path = LabelPlanes(labels, axes), Path(path)
    if os.path.isdir(path) and not holds_zarr(path) and any(path.iterdir()):
        raise OutputError(
            f"{path} is a folder that holds something else than OME-Zarr, and would be replaced; "
            "choose another name."
        )
    with atomic_folder(path, overwrite=overwrite) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=2)
        levels = [new_level(group, k, s) for k, s in enumerate(level_shapes(planes.shape))]
        ids = _fill(levels, planes)
        described = multiscale(path, planes.axes, spacing or {}, len(levels))
        group.attrs.update({"multiscales": [described], "image-label": _image_label(ids)})
        if provenance is not None:
            group.attrs[PROVENANCE] = json.loads(json.dumps(dict(provenance), default=str))
    return path


def holds_zarr(folder: Path) -> bool:
    """Tell whether a folder is a Zarr group or array, so that labels may take its place."""
    return any((folder / name).is_file() for name in (".zgroup", ".zarray", "zarr.json"))


def level_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Halve the last two sides of a shape until both are at most 256 px."""
    shapes = [shape]
    while max(shapes[-1][-2:]) > _SMALLEST:
        *leading, height, width = shapes[-1]
        shapes.append((*leading, (height + 1) // 2, (width + 1) // 2))
    return shapes


def new_level(
    group: zarr.Group, level: int, shape: tuple[int, ...], chunk: int = CHUNK
) -> zarr.Array[Any]:
    """Make the array of a level: uint32, chunks of at most `chunk` px a side."""
    from numcodecs import Blosc

    sides = [max(1, min(chunk, side)) for side in shape[-2:]]
    return group.create_array(
        str(level),
        shape=shape,
        chunks=(*(1 for _ in shape[:-2]), *sides),
        dtype="uint32",
        fill_value=0,
        compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def _fill(levels: list[zarr.Array[Any]], planes: LabelPlanes) -> list[int]:
    """Write all levels, each from the one before; return the ids in rising order."""
    found: set[int] = set()
    for index in np.ndindex(planes.shape[:-2]):
        where = dict(zip(planes.axes, index, strict=False))
        for rows, columns in _blocks(levels[0].shape):
            block = planes.read(where, rows, columns)
            found.update(np.unique(block).tolist())
            levels[0][(*index, rows, columns)] = block
        for finer, level in pairwise(levels):
            for rows, columns in _blocks(level.shape):
                part = np.asarray(finer[(*index, _double(rows), _double(columns))])
                level[(*index, rows, columns)] = part[::2, ::2]
    return sorted(found - {0})


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for y in range(0, shape[-2], _BLOCK):
        for x in range(0, shape[-1], _BLOCK):
            yield slice(y, min(y + _BLOCK, shape[-2])), slice(x, min(x + _BLOCK, shape[-1]))


def _double(part: slice) -> slice:
    return slice(2 * part.start, 2 * part.stop)


def multiscale(
    path: Path, axes: str, spacing: Mapping[str, float], n_levels: int
) -> dict[str, Any]:
    """Describe a pyramid of labels as NGFF does: an entry of ``multiscales``.

    Parameters
    ----------
    path : Path
        The folder; its name up to the first dot names the image.
    axes : str
        One letter per dimension out of ``TZCYX``.
    spacing : Mapping of str to float
        Step along each axis, in micrometres and seconds, as far as known.
    n_levels : int
        Levels, each half of the one before along Y and X.
    """
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": _scale(axes, spacing, level)}],
        }
        for level in range(n_levels)
    ]
    return {
        "version": VERSION,
        "name": path.name.partition(".")[0],
        "axes": [_axis(letter, spacing) for letter in axes],
        "datasets": datasets,
        "type": "nearest",
    }


def _image_label(ids: list[int]) -> dict[str, Any]:
    table = label_colours()
    colours = [
        {"label-value": each, "rgba": [*table[:, (each - 1) % 255 + 1].tolist(), 255]}
        for each in ids
    ]
    return {"version": VERSION, "colors": colours}


def _axis(letter: str, spacing: Mapping[str, float]) -> dict[str, str]:
    kind, unit = _KINDS.get(letter, ("space", "micrometer"))
    axis = {"name": letter.lower(), "type": kind}
    return axis | {"unit": unit} if unit is not None and letter in spacing else axis


def _scale(axes: str, spacing: Mapping[str, float], level: int) -> list[float]:
    return [
        float(spacing.get(letter, 1.0)) * (2**level if letter in "YX" else 1) for letter in axes
    ]

"""A picture of the result: the outlines of the labels drawn on the image."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.contrast import above
from napari_espmedsam.io.labels import label_colours

Picture = NDArray[np.uint8]
PERCENTILES = (0.5, 99.8)
MAX_PLANES = 12  # tiles of a contact sheet; more would be too small to see
MIN_SIDE = 768  # smaller planes are enlarged, so that outlines stay thin
_FILL = 0.18  # weight of the object's colour inside its outline, on grey images
_ON_TISSUE = (0.24, 0.47)  # hues from yellow-green to cyan: seen on pink, purple and white
_GAP = 6  # px between the tiles of a contact sheet
_SAMPLE = 2**22  # values that the percentiles are estimated from


def draw_overlay(image: NDArray[Any], labels: NDArray[Any], *, min_side: int = MIN_SIDE) -> Picture:
    """Draw labels on an image; a stack becomes a contact sheet of its planes.

    Parameters
    ----------
    image : ndarray
        Shape of `labels`, or that with a last axis of 3 colours; any real dtype. Stretched between
        its 0.5 and 99.8 percentiles, once for the whole stack; 8-bit colours are shown as they are.
    labels : ndarray of integer
        (..., Y, X); 0 is background.
    min_side : int
        A single plane whose longer side is below this many px is enlarged to about it.

    Returns
    -------
    ndarray of uint8
        (height, width, 3). Each object has its own colour. A stack of more than 12 planes shows
        12 of them, evenly spread, with their numbers.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    if labels.ndim < 2 or image.shape not in (labels.shape, (*labels.shape, 3)):
        raise InputError(
            f"image of shape {image.shape} does not fit labels of shape {labels.shape}; pass the "
            "channel that was segmented, or its 3 colours as the last axis."
        )
    low, high = _range(image, rgb=image.ndim > labels.ndim)
    indices = list(np.ndindex(labels.shape[:-2]))
    shown = [indices[i] for i in _spread(len(indices), MAX_PLANES)]
    zoom = 1 if len(shown) > 1 else max(1, round(min_side / max(labels.shape[-2:])))
    tiles = [
        _draw_plane(_stretch(np.asarray(image[i]), low, high), np.asarray(labels[i]), zoom)
        for i in shown
    ]
    if len(tiles) == 1:
        return tiles[0]
    captions = [" ".join(str(n) for n in index) for index in shown]
    return _contact_sheet([_caption(t, c) for t, c in zip(tiles, captions, strict=True)])


def write_overlay_png(
    path: str | os.PathLike[str],
    image: NDArray[Any],
    labels: NDArray[Any],
    *,
    overwrite: bool = True,
) -> Path:
    """Write `draw_overlay` as PNG, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write.
    image, labels : ndarray
        As in `draw_overlay`.
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
    InputError
        If the shapes do not fit.
    """
    from PIL import Image

    picture = draw_overlay(image, labels)
    with atomic_path(path, overwrite=overwrite) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", optimize=True)
    return Path(path)


def _range(image: NDArray[Any], *, rgb: bool) -> tuple[float, float]:
    if rgb and image.dtype == np.uint8:
        return 0.0, 255.0  # colours mean what they are
    step = max(1, math.ceil(image.size / _SAMPLE))
    sample = np.asarray(image).reshape(-1)[::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, PERCENTILES))
    return (low, high) if high > low else (low, above(low))


def _stretch(plane: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Return float32 of the same shape in [0, 1]."""
    scaled = (np.nan_to_num(plane.astype(np.float32), nan=low) - low) / (high - low)
    stretched: NDArray[np.float32] = np.clip(scaled, 0, 1)
    return stretched


def _draw_plane(plane: NDArray[np.float32], labels: NDArray[Any], zoom: int) -> Picture:
    from skimage.segmentation import find_boundaries
    from skimage.transform import resize

    if zoom > 1:
        size = (labels.shape[0] * zoom, labels.shape[1] * zoom)
        plane = resize(plane, (*size, *plane.shape[2:]), order=1, preserve_range=True)
        labels = labels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    rgb = plane.ndim == 3
    table = label_colours(hues=_ON_TISSUE if rgb else (0.0, 1.0)).T / np.float32(255)
    ids = labels.astype(np.int64)
    colours = table[np.where(ids > 0, (ids - 1) % (len(table) - 1) + 1, 0)]
    outline = find_boundaries(ids, mode="inner")
    if zoom > 1:  # a second pixel, so that it is seen at a glance
        outline |= find_boundaries(np.where(outline, 0, ids), mode="inner")
    weight = np.where(outline, np.float32(1), np.float32(0 if rgb else _FILL)) * (ids > 0)
    colour = plane if rgb else plane[..., None]
    picture = (1 - weight[..., None]) * colour + weight[..., None] * colours
    return np.round(picture * 255).astype(np.uint8)


def _spread(n: int, most: int) -> list[int]:
    """Return up to `most` indices out of n, evenly spread, first and last included."""
    if n <= most:
        return list(range(n))
    return [round(i * (n - 1) / (most - 1)) for i in range(most)]


def _caption(tile: Picture, text: str) -> Picture:
    from PIL import Image, ImageDraw

    picture = Image.fromarray(tile)
    draw = ImageDraw.Draw(picture)
    draw.text((6, 4), text, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def _contact_sheet(tiles: list[Picture]) -> Picture:
    height, width = tiles[0].shape[:2]
    columns = math.ceil(math.sqrt(len(tiles) * height / width))
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full(
        (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8
    )
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (height + _GAP), (i % columns) * (width + _GAP)
        sheet[y : y + height, x : x + width] = tile
    return sheet

"""Where tiles and chunks of a slide lie, and the way between its pixels and the model's.

The scale is a fraction with a small denominator, so that windows can be cut on whole pixels of
both grids: a tile is resized alone and has the bits that it has in the whole plane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import MIN_MODEL_SIDE, resize
from napari_espmedsam.inference.results import sigmoid
from napari_espmedsam.inference.tiling import GRID, TileGrid, TileSpec, make_grid

MAX_DENOMINATOR = 64
_BAND_PIXELS = 2**22  # of the slide, that are held as floats while a tile is made smaller
_BAND_ROWS = 256  # of the slide, that are brought back from the model at a time

Floats = npt.NDArray[np.float32]
Window = tuple[slice, slice]
Read = Callable[[Window], Floats]


@dataclass(frozen=True)
class SlideGeometry:
    """How a slide becomes tiles of model pixels, and how logits come back.

    `down` px of the slide are `up` px of the model. Both grids meet at every multiple of these.

    Attributes
    ----------
    shape : tuple of int
        (H, W) of the slide in px.
    up, down : int
        Their quotient, in lowest terms, is the scale.
    model_shape : tuple of int
        (h, w) of the slide in model px.
    tile : TileSpec
        Tile size and halo.
    grid : TileGrid
        The tiles of the whole slide. A tile's place depends on the slide alone, never on the part
        of it that is looked at.
    """

    shape: tuple[int, int]
    up: int
    down: int
    model_shape: tuple[int, int]
    tile: TileSpec
    grid: TileGrid

    @property
    def scale(self) -> float:
        """Model px per px of the slide."""
        return self.up / self.down

    def tile_box(self, i: int) -> Window:
        """Say which px of the slide tile i covers."""
        parts = zip(self.grid.slices(i), self.model_shape, self.shape, strict=True)
        rows, columns = (self._to_slide(part, used, length) for part, used, length in parts)
        return rows, columns

    def around(self, tiles: list[int], rim: int, window: Window) -> Window:
        """Say which part of a window holds tiles and a rim around them, in px of the slide."""
        boxes = [self.tile_box(i) for i in tiles]
        rows, columns = (
            slice(
                max(part.start, min(box[k].start for box in boxes) - rim),
                min(part.stop, max(box[k].stop for box in boxes) + rim),
            )
            for k, part in enumerate(window)
        )
        return rows, columns

    def tile_pixels(self, i: int, read: Read) -> Floats:
        """Read and resize the pixels of tile i.

        Parameters
        ----------
        i : int
            Number of the tile.
        read : callable
            Takes rows and columns of the slide; returns (h, w) or (h, w, 3) float32 in [0, 1].

        Returns
        -------
        ndarray
            (th, tw) or (th, tw, 3) float32; beyond the slide it is mirrored.
        """
        rows, columns = self.grid.slices(i)
        rows, columns = (
            slice(part.start, min(part.stop, used))
            for part, used in zip((rows, columns), self.model_shape, strict=True)
        )
        bands = [self._resized(band, columns, read) for band in self._bands(rows, columns)]
        pixels = bands[0] if len(bands) == 1 else np.concatenate(bands)
        missing = [full - got for full, got in zip(self.grid.tile, pixels.shape[:2], strict=True)]
        if not any(missing):
            return pixels
        padding = [(0, n) for n in missing] + [(0, 0)] * (pixels.ndim - 2)
        return np.pad(pixels, padding, mode="reflect")

    def model_window(self, window: Window) -> Window:
        """Say which part of the padded model plane decides about a window of the slide."""
        parts = zip(window, self.shape, self.grid.plane, strict=True)
        rows, columns = (self._to_model(part, length, plane) for part, length, plane in parts)
        return rows, columns

    def tiles_of(self, window: Window) -> list[int]:
        """List the tiles that decide about a window of the slide, in the order of their numbers."""
        rows, columns = self.model_window(window)
        starts = zip(
            (self.grid.rows, self.grid.columns), (rows, columns), self.grid.tile, strict=True
        )
        in_rows, in_columns = (
            [k for k, s in enumerate(each) if s < part.stop and s + size > part.start]
            for each, part, size in starts
        )
        return [r * len(self.grid.columns) + c for r in in_rows for c in in_columns]

    def probability(self, logits: Floats, window: Window) -> Floats:
        """Bring blended logits of ``model_window(window)`` to the pixels of the window.

        Parameters
        ----------
        logits : ndarray
            (h / s, w / s) float32, s the step of the model's logits.
        window : tuple of slice
            Rows and columns of the slide.

        Returns
        -------
        ndarray
            Probability, float32 in [0, 1], of the window's shape.
        """
        rows, columns = window
        model_rows, model_columns = self.model_window(window)
        stride = (model_rows.stop - model_rows.start) // logits.shape[0]
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for start in range(rows.start, rows.stop, _BAND_ROWS):
            band = slice(start, min(start + _BAND_ROWS, rows.stop))
            part = self._to_model(band, self.shape[0], self.grid.plane[0])
            cut = slice(
                (part.start - model_rows.start) // stride, (part.stop - model_rows.start) // stride
            )
            full = logits[cut]
            if stride > 1:
                full = _linear(full, (full.shape[0] * stride, full.shape[1] * stride))
            image = self._from_model(full, (part, model_columns), (band, columns))
            out[band.start - rows.start : band.stop - rows.start] = sigmoid(image)
        return out

    def _from_model(self, logits: Floats, have: Window, want: Window) -> Floats:
        """Resize model px to px of the slide, with a neighbour on each side where there is one."""
        if self.up == self.down:
            cut = (
                slice(w.start - h.start, w.stop - h.start) for w, h in zip(want, have, strict=True)
            )
            return logits[tuple(cut)]
        blocks = [self._blocks(part, n, 1) for part, n in zip(want, self.shape, strict=True)]
        for axis, (lo, hi) in enumerate(blocks):
            stop = min(hi * self.up, self.model_shape[axis]) - have[axis].start
            logits = np.take(logits, np.arange(lo * self.up - have[axis].start, stop), axis)
            short = (hi - lo) * self.up - logits.shape[axis]
            if short:  # the last block of the slide is not full
                pad = [(0, 0), (0, 0)]
                pad[axis] = (0, short)
                logits = np.pad(logits, pad, mode="edge")
        sides = [(hi - lo) * self.down for lo, hi in blocks]
        image = _linear(logits, (sides[0], sides[1]))
        cut = (
            slice(w.start - lo * self.down, w.stop - lo * self.down)
            for w, (lo, _) in zip(want, blocks, strict=True)
        )
        return image[tuple(cut)]

    def _resized(self, rows: slice, columns: slice, read: Read) -> Floats:
        """Model px of one band of a tile."""
        margin = 1 if self.up > self.down else 0
        blocks = [
            self._model_blocks(part, n, margin)
            for part, n in zip((rows, columns), self.shape, strict=True)
        ]
        boxes = [
            slice(lo * self.down, min(hi * self.down, n))
            for (lo, hi), n in zip(blocks, self.shape, strict=True)
        ]
        pixels = read((boxes[0], boxes[1]))
        if self.up == self.down:
            return pixels
        short = [
            (hi - lo) * self.down - got
            for (lo, hi), got in zip(blocks, pixels.shape[:2], strict=True)
        ]
        if any(short):
            padding = [(0, n) for n in short] + [(0, 0)] * (pixels.ndim - 2)
            pixels = np.pad(pixels, padding, mode="edge")
        sides = [(hi - lo) * self.up for lo, hi in blocks]
        model = resize(pixels, (sides[0], sides[1]))
        cut = (
            slice(part.start - lo * self.up, part.stop - lo * self.up)
            for part, (lo, _) in zip((rows, columns), blocks, strict=True)
        )
        return np.ascontiguousarray(model[tuple(cut)])

    def _bands(self, rows: slice, columns: slice) -> list[slice]:
        """Cut the rows of a tile where the slide is much larger than what the model sees."""
        if self.up >= self.down:
            return [rows]
        width = -(-(columns.stop - columns.start) * self.down // self.up)
        blocks = max(1, _BAND_PIXELS // (width * self.down))
        cuts = range((rows.start // self.up + 1) * self.up, rows.stop, blocks * self.up)
        edges = [rows.start, *cuts, rows.stop]
        return [slice(a, b) for a, b in pairwise(edges) if b > a]

    def _blocks(self, part: slice, length: int, margin: int) -> tuple[int, int]:
        """First and last + 1 of the `down` x `down` blocks that hold a part of the slide."""
        last = -(-length // self.down)
        lo, hi = part.start // self.down, -(-part.stop // self.down)
        return max(0, lo - margin), min(last, hi + margin)

    def _model_blocks(self, part: slice, length: int, margin: int) -> tuple[int, int]:
        lo, hi = part.start // self.up, -(-part.stop // self.up)
        return max(0, lo - margin), min(-(-length // self.down), hi + margin)

    def _to_slide(self, part: slice, used: int, length: int) -> slice:
        stop = min(part.stop, used)
        return slice(
            part.start * self.down // self.up, min(length, -(-stop * self.down // self.up))
        )

    def _to_model(self, part: slice, length: int, plane: int) -> slice:
        """One block and one prompt cell more on each side than the part itself."""
        lo, hi = self._blocks(part, length, 1)
        start = (lo * self.up - GRID) // GRID * GRID
        return slice(max(0, start), min(plane, -(-(hi * self.up + GRID) // GRID) * GRID))


def plan_slide_geometry(shape: tuple[int, int], scale: float, tile: TileSpec) -> SlideGeometry:
    """Lay tiles over a slide.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the slide in px.
    scale : float
        Model px per px. It is rounded to a fraction with a denominator of at most 64.
    tile : TileSpec
        Tile size and halo.

    Raises
    ------
    InputError
        If the slide becomes too small.
    """
    fraction = Fraction(scale).limit_denominator(MAX_DENOMINATOR)
    up, down = fraction.numerator, fraction.denominator
    height, width = (-(-n * up // down) for n in shape)
    if min(height, width) < MIN_MODEL_SIDE:
        raise InputError(
            f"A slide of {shape[0]} x {shape[1]} px becomes {height} x {width} px at scale "
            f"{scale:.3g}; the smallest side is {MIN_MODEL_SIDE} px. Use a larger scale."
        )
    padded = -(-height // GRID) * GRID, -(-width // GRID) * GRID
    return SlideGeometry(shape, up, down, (height, width), tile, make_grid(padded, tile))


def _linear(plane: Floats, shape: tuple[int, int]) -> Floats:
    resized: Any = cv2.resize(
        np.ascontiguousarray(plane), shape[::-1], interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(resized, dtype=np.float32)

"""Prompts of one plane as a picture: what the model proposes, and what its user changed.

Tiles start at multiples of 32 model px, so the prompt cells of all tiles lie on one common grid,
the canvas. Edits live on the canvas and know nothing of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import PlaneGeometry
from napari_espmedsam.inference.tiling import TileGrid, axis_weights

UNTOUCHED, OFF, ON = -1, 0, 1
"""Values of an edit: as the model proposes, off, on."""

Box = tuple[slice, slice]
"""Rows and columns of a canvas: plain bounds, 0 or more, without steps."""
Edits = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class PromptCanvas:
    """The prompt cells of one plane.

    Parameters
    ----------
    geometry : PlaneGeometry
        How image, model and tiles lie on each other.
    cell : int
        Side of a cell in model px: 32 for ESP-MedSAM's grids, 1 for Med-FastSAM's masks.

    Raises
    ------
    InputError
        If tiles do not start and end at borders of cells.
    """

    geometry: PlaneGeometry
    cell: int

    def __post_init__(self) -> None:
        grid = self.geometry.grid
        if any(n % self.cell for n in (*grid.tile, *grid.rows, *grid.columns)):
            raise InputError(
                f"The prompt cells of this model are {self.cell} px wide, and the tiles of "
                f"{grid.tile[0]} x {grid.tile[1]} px do not start and end at their borders, so "
                "prompts cannot be edited. Use a tile of a size and a halo that are multiples of "
                f"{self.cell} px."
            )

    @property
    def grid(self) -> TileGrid:
        """Tiles of the plane."""
        return self.geometry.grid

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells that lie on the image: the shape of edits and of displays."""
        height, width = self.geometry.model_shape
        return -(-height // self.cell), -(-width // self.cell)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of the prompt of each tile: (gh, gw)."""
        return self.grid.tile[0] // self.cell, self.grid.tile[1] // self.cell

    def empty(self) -> Edits:
        """Edits that change nothing: `shape`, int8, all :data:`UNTOUCHED`.

        Returns
        -------
        ndarray
            A new one.
        """
        return np.full(self.shape, UNTOUCHED, np.int8)

    def check(self, edits: npt.ArrayLike) -> Edits:
        """Bring edits to int8, without a copy where they are.

        Parameters
        ----------
        edits : array-like
            Of -1, 0 and 1, in the shape :attr:`shape`.

        Returns
        -------
        ndarray
            `shape`, int8.

        Raises
        ------
        InputError
            If they do not have the canvas's shape or hold anything but -1, 0 and 1.
        """
        values = np.asarray(edits)
        if values.shape != self.shape:
            raise InputError(
                f"The edits have the shape {values.shape}, and the prompt canvas of this plane is "
                f"{self.shape} (rows, columns). Start from canvas.empty()."
            )
        check_states(values)
        return values.astype(np.int8, copy=False)

    def tile_edits(self, i: int, edits: Edits) -> Edits:
        """Edits of one tile, (gh, gw), out of those of the canvas.

        Beyond the image's edge they are mirrored, as the image itself is when it is padded.
        """
        return edits[np.ix_(*self._mirrored(i))] if self._is_padded(i) else edits[self._slices(i)]

    def apply(self, proposal: Mask, edits: Edits) -> Mask:
        """Put edits over what the model proposes.

        Parameters
        ----------
        proposal : ndarray
            (n_tiles, gh, gw) bool.
        edits : ndarray
            `shape`, int8 of -1, 0 and 1.

        Returns
        -------
        ndarray
            (n_tiles, gh, gw) bool, new.
        """
        parts = [apply_edits(own, self.tile_edits(i, edits)) for i, own in enumerate(proposal)]
        return np.stack(parts)

    def tiles_of(self, box: Box) -> tuple[int, ...]:
        """Numbers of the tiles whose prompts hold a cell of a box; none for an empty box.

        Raises
        ------
        InputError
            If the box reaches beyond the canvas.
        """
        rows, columns = self.check_box(box)
        touched_rows, touched_columns = (
            [
                k
                for k, start in enumerate(starts)
                if part.start < part.stop
                and start // self.cell < part.stop
                and part.start < start // self.cell + size
            ]
            for part, starts, size in zip(
                (rows, columns), (self.grid.rows, self.grid.columns), self.tile_shape, strict=True
            )
        )
        n = len(self.grid.columns)
        return tuple(row * n + column for row in touched_rows for column in touched_columns)

    def check_box(self, box: Box) -> Box:
        """Return the box itself if it lies on the canvas.

        Raises
        ------
        InputError
            If it does not, or if its bounds are no plain whole numbers.
        """
        for part, n in zip(box, self.shape, strict=True):
            bounds = (part.start, part.stop)
            plain = all(isinstance(b, (int, np.integer)) for b in bounds)
            if not plain or part.step not in (None, 1) or not 0 <= bounds[0] <= bounds[1] <= n:
                raise InputError(
                    f"The box {box} does not lie on the prompt canvas of {self.shape[0]} x "
                    f"{self.shape[1]} cells. Give two slices with a start and a stop, from 0."
                )
        return box

    def combine(self, per_tile: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Make one picture of the prompts of all tiles.

        Parameters
        ----------
        per_tile : ndarray
            (n_tiles, gh, gw) of any type.

        Returns
        -------
        ndarray
            `shape`. Where tiles overlap, each cell is taken from the tile that decides most there
            (the largest weight in blending); ties go to the first.
        """
        picture = np.empty(self.shape, per_tile.dtype)
        for i in range(len(self.grid)):
            row, column = divmod(i, len(self.grid.columns))
            (top, bottom), (left, right) = self._shares[0][row], self._shares[1][column]
            y, x = (part.start for part in self._slices(i))
            picture[top:bottom, left:right] = per_tile[
                i, top - y : bottom - y, left - x : right - x
            ]
        return picture

    def cell_at(self, y: float, x: float) -> tuple[int, int]:
        """Find the cell under a point.

        Parameters
        ----------
        y, x : float
            In px of the image; centres of pixels are whole numbers, as in napari.

        Returns
        -------
        tuple of int
            Row and column.

        Raises
        ------
        InputError
            If the point lies outside the image.
        """
        height, width = self.geometry.image_shape
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            raise InputError(
                f"The point ({y:g}, {x:g}) lies outside the image of {height} x {width} px. Give "
                f"y from -0.5 to {height - 0.5} and x from -0.5 to {width - 0.5}."
            )
        rows, columns = self.cells_of(y, x, y, x)
        return rows.start, columns.start

    def cells_of(self, y0: float, x0: float, y1: float, x1: float) -> Box:
        """Find the cells that a rectangle touches.

        Parameters
        ----------
        y0, x0, y1, x1 : float
            Two opposite corners in px of the image; centres of pixels are whole numbers. What
            lies outside the image is cut off.

        Returns
        -------
        tuple of slice
            Rows and columns, at least one of each.

        Raises
        ------
        InputError
            If the rectangle does not meet the image.
        """
        corners = ((min(y0, y1), max(y0, y1)), (min(x0, x1), max(x0, x1)))
        image, scales = self.geometry.image_shape, self._cells_per_pixel
        parts = []
        for (low, high), length, scale, n in zip(corners, image, scales, self.shape, strict=True):
            if not (low <= length - 0.5 and high >= -0.5):
                raise InputError(
                    f"The rectangle from ({y0:g}, {x0:g}) to ({y1:g}, {x1:g}) does not meet the "
                    f"image of {image[0]} x {image[1]} px."
                )
            first = min(int(max(low + 0.5, 0.0) * scale), n - 1)
            last = int(np.ceil(min(high + 0.5, length) * scale))
            parts.append(slice(first, min(max(last, first + 1), n)))
        return parts[0], parts[1]

    def image_affine(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Scale and shift from cells to px of the image, for a layer that shows the canvas.

        Returns
        -------
        tuple
            ((sy, sx), (ty, tx)): the centre of the cell in row r lies at ``sy * r + ty``.
        """
        sy, sx = (1.0 / scale for scale in self._cells_per_pixel)
        return (sy, sx), (0.5 * sy - 0.5, 0.5 * sx - 0.5)

    @property
    def _cells_per_pixel(self) -> tuple[float, float]:
        model, image = self.geometry.model_shape, self.geometry.image_shape
        return model[0] / (image[0] * self.cell), model[1] / (image[1] * self.cell)

    @cached_property
    def _shares(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Where each row and each column of tiles decides: first cell, last cell + 1."""
        grid = self.grid
        axes = zip((grid.rows, grid.columns), grid.tile, grid.plane, self.shape, strict=True)
        rows, columns = (
            _shares_along(starts, size, length, grid.overlap, self.cell, n)
            for starts, size, length, n in axes
        )
        return rows, columns

    def _slices(self, i: int) -> Box:
        return self.grid.slices(i, self.cell)

    def _is_padded(self, i: int) -> bool:
        return any(part.stop > n for part, n in zip(self._slices(i), self.shape, strict=True))

    def _mirrored(self, i: int) -> list[npt.NDArray[Any]]:
        """Rows and columns of the canvas that the cells of a tile show."""
        parts = []
        for part, n in zip(self._slices(i), self.shape, strict=True):
            place = np.arange(part.start, part.stop) % max(2 * n - 2, 1)
            parts.append(np.where(place < n, place, 2 * n - 2 - place))
        return parts


def check_states(values: npt.NDArray[Any]) -> None:
    """Check that edits hold states alone.

    Raises
    ------
    InputError
        If anything but -1, 0 and 1 is found.
    """
    if values.dtype.kind not in "buif" or not bool(np.isin(values, (UNTOUCHED, OFF, ON)).all()):
        raise InputError(
            f"The edits hold values beyond -1, 0 and 1 (type {values.dtype}). Give -1 for cells "
            "that stay as proposed, 0 for off and 1 for on."
        )


def apply_edits(proposal: Mask, edits: Edits) -> Mask:
    """Put the edits of a tile over its proposal, both (gh, gw)."""
    return np.where(edits == UNTOUCHED, proposal, edits == ON)


def tile_prompt(
    own: Mask,
    values: npt.NDArray[np.float32],
    edits: Edits | None = None,
    threshold: float | None = None,
    levels: tuple[float, float] = (0.0, 1.0),
) -> Floats | None:
    """Settle the prompt of one tile.

    Parameters
    ----------
    own : ndarray
        (gh, gw) bool: the model's own prompt.
    values : ndarray
        (gh, gw) float32, 0 to 1: what a prompt threshold cuts.
    edits : ndarray, optional
        (gh, gw) int8 of the same tile.
    threshold : float, optional
        Cells are proposed where values reach it; None takes the model's own prompt.
    levels : tuple of float
        What the decoder sees where a user switched a cell off, and on.

    Returns
    -------
    ndarray or None
        (gh, gw) float32: 0 and 1 as proposed, `levels` where edited; None where it is the model's
        own prompt, whatever led there. So an edit that is taken back leaves no trace, not even in
        models whose own prompt is not binary.
    """
    prompt = (own if threshold is None else values >= threshold).astype(np.float32)
    if edits is not None:
        prompt[edits == OFF], prompt[edits == ON] = levels
    return None if np.array_equal(prompt, own) else prompt


def _shares_along(
    starts: tuple[int, ...], size: int, length: int, overlap: int, cell: int, n: int
) -> list[tuple[int, int]]:
    """Range of cells in which each tile along one axis has the largest weight."""
    weights = axis_weights(starts, size, length, overlap, cell)
    best = np.full(length // cell, -1.0)
    owner = np.zeros(length // cell, np.intp)
    for k, (start, weight) in enumerate(zip(starts, weights, strict=True)):
        part = slice(start // cell, start // cell + weight.size)
        better = weight > best[part]
        owner[part][better] = k
        best[part][better] = weight[better]
    edges = np.searchsorted(owner[:n], np.arange(len(starts) + 1))
    return [(int(low), int(high)) for low, high in pairwise(edges)]

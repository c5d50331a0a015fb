"""Tiles with a halo, and the weights that blend their logits back into one plane.

All lengths are in model pixels. Tiles start at multiples of :data:`GRID`, so that the prompt cells
of neighbouring tiles lie on one common grid.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError

GRID = 32
"""Models take sides that are multiples of this many pixels (one cell of the self-patch prompt)."""
MIN_TILE, MAX_TILE = 64, 2048


@dataclass(frozen=True)
class TileSpec:
    """Size of the tiles that a plane is cut into.

    Parameters
    ----------
    size : int
        Side of a tile in model px, a multiple of 32 from 64 to 2048.
    halo : int
        Width in model px of the frame that only gives context, a multiple of 16, at most a
        quarter of the size. Neighbouring tiles overlap by twice the halo.

    Raises
    ------
    InputError
        If the size or the halo is not as said.
    """

    size: int
    halo: int

    def __post_init__(self) -> None:
        if self.size % GRID or not MIN_TILE <= self.size <= MAX_TILE:
            raise InputError(
                f"The tile size is {self.size} px. Give a multiple of {GRID} from {MIN_TILE} to "
                f"{MAX_TILE} px."
            )
        if self.halo % (GRID // 2) or not 0 <= self.halo <= self.size // 4:
            raise InputError(
                f"The tile halo is {self.halo} px. Give a multiple of {GRID // 2} from 0 to "
                f"{self.size // 4} px (a quarter of the tile)."
            )

    @classmethod
    def of_size(cls, size: int) -> TileSpec:
        """Give a tile of this size the default halo: an eighth, rounded up to 16 px.

        Parameters
        ----------
        size : int
            Side of a tile in model px; see :class:`TileSpec`.

        Returns
        -------
        TileSpec
            With that size.
        """
        return cls(size, -(-size // 128) * 16)

    @property
    def step(self) -> int:
        """Distance between neighbouring tiles in model px."""
        return self.size - 2 * self.halo


@dataclass(frozen=True)
class TileGrid:
    """Equal tiles that cover a plane.

    Attributes
    ----------
    plane : tuple of int
        (H, W) of the plane, multiples of 32.
    tile : tuple of int
        (h, w) of each tile, multiples of 32, no larger than the plane.
    rows, columns : tuple of int
        Where tiles start along Y and X, multiples of 32. Tiles are counted row by row.
    overlap : int
        Width over which the weights of a tile rise from its edge, twice the halo.
    """

    plane: tuple[int, int]
    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    overlap: int

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.rows) * len(self.columns)

    def slices(self, i: int, cell: int = 1) -> tuple[slice, slice]:
        """Say where tile i lies in the plane, on a grid of `cell` x `cell` px."""
        row, column = divmod(i, len(self.columns))
        y, x = self.rows[row] // cell, self.columns[column] // cell
        return slice(y, y + self.tile[0] // cell), slice(x, x + self.tile[1] // cell)


def make_grid(plane: tuple[int, int], spec: TileSpec | None) -> TileGrid:
    """Cover a plane with tiles; None makes the plane one tile.

    Parameters
    ----------
    plane : tuple of int
        (H, W) in model px, multiples of 32.
    spec : TileSpec or None
        Size and halo. A plane that is smaller than a tile makes the tile smaller.
    """
    if spec is None:
        return TileGrid(plane, plane, (0,), (0,), 0)
    tile = (min(spec.size, plane[0]), min(spec.size, plane[1]))
    rows, columns = (
        _starts(length, size, spec.step) for length, size in zip(plane, tile, strict=True)
    )
    return TileGrid(plane, tile, rows, columns, 2 * spec.halo)


def _starts(length: int, size: int, step: int) -> tuple[int, ...]:
    """Place tiles every `step`; the last one is moved back to end with the plane."""
    return (*range(0, length - size, step), length - size)


class LogitBlender:
    """Sum of the tiles' logits under weights that add up to one in every pixel.

    The weights are products of one ramp along Y and one along X, so that only the sum has the
    size of the plane. It is kept on the grid of the logits (a quarter of the model's pixels).

    Parameters
    ----------
    grid : TileGrid
        The tiles of the plane.
    window : tuple of slice, optional
        Rows and columns of the plane to blend, multiples of 32 model px; the whole plane when
        None. What lies beyond is left out, and what lies inside has the bits of the whole plane.
    """

    def __init__(self, grid: TileGrid, window: tuple[slice, slice] | None = None) -> None:
        self._grid = grid
        whole = slice(0, grid.plane[0]), slice(0, grid.plane[1])
        self._window = whole if window is None else window
        self._sum: npt.NDArray[np.float32] | None = None
        self._weights: list[npt.NDArray[np.float32]] = []
        self._stride = 1

    def add(self, i: int, logits: npt.NDArray[np.float32]) -> None:
        """Add the logits (h / s, w / s) float32 of tile i; s is the same for all tiles."""
        total = self._started(logits.shape[0])
        self._add(total, i, logits, self._grid.slices(i, self._stride))

    def replace(self, tiles: Sequence[npt.NDArray[np.float32]], changed: Collection[int]) -> None:
        """Blend again where tiles have changed.

        Only the rectangle around them is summed anew, tile by tile in the order of their numbers.
        So the result has the bits of a new blender to which all tiles are added in that order.

        Parameters
        ----------
        tiles : sequence of ndarray
            Logits of all tiles, the changed ones and the others.
        changed : collection of int
            Numbers of those that differ from before; at first all.
        """
        if not changed:
            return
        total = self._started(tiles[0].shape[0])
        boxes = [self._grid.slices(i, self._stride) for i in changed]
        window = (
            slice(min(box[0].start for box in boxes), max(box[0].stop for box in boxes)),
            slice(min(box[1].start for box in boxes), max(box[1].stop for box in boxes)),
        )
        total[self._inside(window)] = 0.0
        for i, logits in enumerate(tiles):
            self._add(total, i, logits, window)

    def result(self) -> npt.NDArray[np.float32]:
        """Blended logits of the window, (H / s, W / s) float32, once its tiles were added.

        It is the blender's own array: :meth:`add` and :meth:`replace` change it.
        """
        if self._sum is None:
            raise RuntimeError("no tile was added")
        return self._sum

    def _add(
        self,
        total: npt.NDArray[np.float32],
        i: int,
        logits: npt.NDArray[np.float32],
        window: tuple[slice, slice],
    ) -> None:
        """Add the part of a tile that lies in a window of the plane, if any."""
        tile = self._grid.slices(i, self._stride)
        kept = (_overlap(a, b) for a, b in zip(window, self._kept(), strict=True))
        rows, columns = (_overlap(a, b) for a, b in zip(tile, kept, strict=True))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        own = _shift(rows, -tile[0].start), _shift(columns, -tile[1].start)
        row, column = divmod(i, len(self._grid.columns))
        weight = np.outer(self._weights[0][row][own[0]], self._weights[1][column][own[1]])
        total[self._inside((rows, columns))] += weight * logits[own]

    def _kept(self) -> tuple[slice, slice]:
        """Return the window on the grid of the logits."""
        rows, columns = (
            slice(w.start // self._stride, w.stop // self._stride) for w in self._window
        )
        return rows, columns

    def _inside(self, part: tuple[slice, slice]) -> tuple[slice, slice]:
        """Say where a part of the plane lies in the sum; what is cut off has no length."""
        kept = self._kept()
        rows, columns = (_shift(_overlap(a, b), -b.start) for a, b in zip(part, kept, strict=True))
        return rows, columns

    def _started(self, height: int) -> npt.NDArray[np.float32]:
        """Return the sum; with the first tile's logits its step and the weights become known."""
        if self._sum is None:
            self._sum = self._start(height)
        return self._sum

    def _start(self, height: int) -> npt.NDArray[np.float32]:
        grid = self._grid
        self._stride = grid.tile[0] // height
        axes = zip((grid.rows, grid.columns), grid.tile, grid.plane, strict=True)
        self._weights = [
            axis_weights(starts, size, length, grid.overlap, self._stride)
            for starts, size, length in axes
        ]
        return np.zeros([kept.stop - kept.start for kept in self._kept()], np.float32)


def _overlap(one: slice, other: slice) -> slice:
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def axis_weights(
    starts: tuple[int, ...], size: int, length: int, overlap: int, stride: int
) -> npt.NDArray[np.float32]:
    """Weights of each tile along one axis, (n tiles, size / stride), that add up to one.

    They rise smoothly (3 t^2 - 2 t^3) from a tile's edge over the overlap, except where that edge
    is the plane's own.
    """
    place = (np.arange(size // stride) + 0.5) * stride
    weights = np.ones((len(starts), place.size))
    total = np.zeros(length // stride)
    for weight, start in zip(weights, starts, strict=True):
        for edge, inner in ((place, start > 0), (size - place, start + size < length)):
            if inner and overlap:
                t = np.clip(edge / overlap, 0.0, 1.0)
                weight *= t * t * (3.0 - 2.0 * t)
        total[start // stride :][: place.size] += weight
    for weight, start in zip(weights, starts, strict=True):
        weight /= total[start // stride :][: place.size]
    return weights.astype(np.float32)

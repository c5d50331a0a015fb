"""Tiles with a halo, and the weights that blend their logits back into one plane.

All lengths are in model pixels. Tiles start at multiples of :data:`GRID`, so that the prompt cells
of neighbouring tiles lie on one common grid.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        """Give a tile of this size the default halo, an eighth of it."""
        return cls(size, round(size / 8 / (GRID // 2)) * (GRID // 2))

    @property
    def step(self) -> int:
        """Distance between neighbouring tiles in model px."""
        return self.size - 2 * self.halo

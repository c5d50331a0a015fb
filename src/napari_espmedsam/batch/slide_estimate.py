"""What a slide will take: time, memory and disk, said before the run."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_espmedsam.batch.slide_plan import CHUNK
from napari_espmedsam.batch.slide_tiles import compute_tiles
from napari_espmedsam.errors import OutputError

if TYPE_CHECKING:
    from napari_espmedsam.batch.slide_plan import SlidePlan
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.inference.segmenter import Segmenter

# Rough: what a chunk needs beside its tiles.
CHUNK_SECONDS = 1.0
BYTES_PER_PIXEL = 64  # of a chunk's window, while touching objects are split
_MODEL_BYTES_PER_PIXEL = 1024  # of a tile in model px, while it is encoded
_RESULT_BYTES_PER_PIXEL = 0.25  # of tissue: labels of all levels, compressed


@dataclass(frozen=True)
class SlideEstimate:
    """What a run will take. Time and disk are rough; so is memory, on the safe side, for the CPU.

    Attributes
    ----------
    megapixels : float
        Size of the slide.
    tissue_share : float
        Share of it that is tissue (with a rim), 0 to 1.
    tiles, n_tiles : int
        Tiles to compute, and tiles of the whole slide.
    chunks, n_chunks : int
        Likewise for chunks.
    tile_seconds : float
        Measured on this machine, on tiles of this slide.
    seconds : float
        Time for what is to be computed.
    memory : int
        Bytes beside the loaded program.
    disk : int
        Bytes while it runs; the result alone is smaller.
    disk_free : int
        Bytes that are free where the result goes.
    """

    megapixels: float
    tissue_share: float
    tiles: int
    n_tiles: int
    chunks: int
    n_chunks: int
    tile_seconds: float
    seconds: float
    memory: int
    disk: int
    disk_free: int

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        return [
            f"slide   {self.megapixels:,.0f} megapixels, {100 * self.tissue_share:.1f} % tissue: "
            f"{self.tiles:,} of {self.n_tiles:,} tiles, {self.chunks:,} of {self.n_chunks:,} "
            "chunks",
            f"time    about {_duration(self.seconds)} ({self.tile_seconds:.3g} s per tile)",
            f"memory  about {self.memory / 1e9:.1f} GB beside the loaded program",
            f"disk    about {self.disk / 1e9:.2g} GB while it runs, {self.disk_free / 1e9:,.0f} GB "
            "are free",
        ]

    def check(self) -> None:
        """Refuse a run that will not fit on the disk.

        Raises
        ------
        OutputError
            If less is free than it takes.
        """
        if self.disk > self.disk_free:
            raise OutputError(
                f"The run takes about {self.disk / 1e9:.2g} GB on the disk, and "
                f"{self.disk_free / 1e9:.2g} GB are free. Free some, or choose another output "
                "folder."
            )


def estimate_slide(
    slide: Slide, segmenter: Segmenter, plan: SlidePlan, folder: Path, done: int = 0
) -> SlideEstimate:
    """Estimate a run; up to three tiles are computed for it.

    Parameters
    ----------
    slide, segmenter, plan
        The run.
    folder : Path
        An existing folder on the disk where the result goes.
    done : int
        Chunks that an earlier run has finished.
    """
    geometry = plan.geometry
    chosen = np.flatnonzero(plan.computed)
    tile_seconds = _time_tiles(slide, segmenter, plan, chosen)
    rows, columns = plan.chunk_rows
    left = 1.0 - done / max(1, len(plan.chunks))
    window = (min(CHUNK, geometry.shape[0]) + 2 * plan.margin) * (
        min(CHUNK, geometry.shape[1]) + 2 * plan.margin
    )
    tile_pixels = geometry.tile.size**2
    tissue_pixels = chosen.size * (geometry.tile.step / geometry.scale) ** 2
    kept = min(chosen.size, 4 * len(geometry.grid.columns)) * tile_pixels // 16 * 4
    return SlideEstimate(
        megapixels=geometry.shape[0] * geometry.shape[1] / 1e6,
        tissue_share=plan.tissue.share,
        tiles=int(chosen.size),
        n_tiles=len(geometry.grid),
        chunks=len(plan.chunks),
        n_chunks=rows * columns,
        tile_seconds=tile_seconds,
        seconds=left * (tile_seconds * chosen.size + CHUNK_SECONDS * len(plan.chunks)),
        memory=window * BYTES_PER_PIXEL + tile_pixels * _MODEL_BYTES_PER_PIXEL,
        disk=int(2 * tissue_pixels * _RESULT_BYTES_PER_PIXEL + kept),
        disk_free=shutil.disk_usage(folder).free,
    )


def _time_tiles(
    slide: Slide,
    segmenter: Segmenter,
    plan: SlidePlan,
    chosen: np.ndarray[tuple[int], np.dtype[np.intp]],
) -> float:
    """Time the middle tiles; the first one warms up."""
    if not chosen.size:
        return 0.0
    middle = chosen[chosen.size // 2 :][:3]
    seconds = []
    for tile in middle:
        start = time.perf_counter()
        next(compute_tiles(slide, segmenter, plan, [int(tile)]))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

"""Logits of the tiles of a slide: computed once, and kept on disk while other chunks need them."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_espmedsam.batch.slide_plan import SlidePlan
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.inference.segmenter import Segmenter

Floats = npt.NDArray[np.float32]


def compute_tile(slide: Slide, segmenter: Segmenter, plan: SlidePlan, tile: int) -> Floats:
    """Read and segment one tile: the same logits, (h / 4, w / 4), whoever asks for them."""
    pixels = plan.geometry.tile_pixels(
        tile, lambda window: plan.intensity.rescale(slide.read(window))
    )
    return segmenter.tile_logits(pixels, plan.modality, plan.request.prompt_threshold)


class TileStore:
    """Keeps logits that neighbouring chunks share, so that no tile is computed twice.

    It changes nothing but the time: a tile that is not there is computed again.

    Parameters
    ----------
    folder : Path
        Where they are kept, one .npy file per tile.
    plan : SlidePlan
        The run.
    chunks : iterable of int
        Chunks that are still to be computed.
    """

    def __init__(self, folder: Path, plan: SlidePlan, chunks: tuple[int, ...]) -> None:
        self._folder = folder
        self._plan = plan
        self._uses: Counter[int] = Counter()
        for chunk in chunks:
            self._uses.update(plan.tiles(chunk))

    def get(self, tile: int) -> Floats | None:
        """Load the logits of a tile, or None if they are not there or damaged."""
        with suppress(OSError, ValueError, EOFError):
            logits: Floats = np.load(self._path(tile), allow_pickle=False)
            return logits
        return None

    def put(self, tile: int, logits: Floats) -> None:
        """Keep the logits of a tile if another chunk needs them too."""
        if self._uses[tile] > 1:
            path = self._path(tile)
            # Not flushed as results are: a run that is resumed starts with an empty store.
            temporary = path.with_name(f"{secrets.token_hex(4)}.part.npy")
            np.save(temporary, logits, allow_pickle=False)
            os.replace(temporary, path)

    def release(self, chunk: int) -> None:
        """Say that a chunk is done; what no other chunk needs is removed."""
        for tile in self._plan.tiles(chunk):
            self._uses[tile] -= 1
            if self._uses[tile] <= 0:
                self._path(tile).unlink(missing_ok=True)

    def _path(self, tile: int) -> Path:
        return self._folder / f"{tile:08d}.npy"

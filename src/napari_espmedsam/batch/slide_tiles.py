"""Logits of the tiles of a slide: computed once, and kept on disk while other chunks need them."""

from __future__ import annotations

import os
import secrets
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_espmedsam.batch.slide_plan import SlidePlan
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.inference.segmenter import Segmenter

Floats = npt.NDArray[np.float32]


def compute_tiles(
    slide: Slide, segmenter: Segmenter, plan: SlidePlan, tiles: Iterable[int]
) -> Generator[Floats, None, None]:
    """Read and segment tiles: each has the same logits, (h / 4, w / 4), whoever asks for it.

    Tiles are asked for when they are read, which may be some before their logits come.
    """
    pixels = (
        plan.geometry.tile_pixels(tile, lambda window: plan.intensity.rescale(slide.read(window)))
        for tile in tiles
    )
    return segmenter.iter_logits(pixels, plan.modality, plan.request.prompt_threshold)


def logits_in_order(
    slide: Slide,
    segmenter: Segmenter,
    plan: SlidePlan,
    tiles: Iterable[int],
    store: TileStore | None = None,
) -> Generator[tuple[int, Floats, bool], None, None]:
    """Logits of tiles, from the store where they are there, and computed elsewhere.

    Yields
    ------
    int
        Number of the tile, in the order of `tiles`.
    ndarray
        Its logits, (h / 4, w / 4) float32.
    bool
        Whether it was computed. Then the store has it now.
    """
    asked: deque[tuple[int, Floats | None]] = deque()

    def missing() -> Iterator[int]:
        for tile in tiles:
            found = None if store is None else store.get(tile)
            asked.append((tile, found))
            if found is None:
                yield tile

    for computed in compute_tiles(slide, segmenter, plan, missing()):
        while (known := asked[0][1]) is not None:
            yield asked.popleft()[0], known, False
        tile, _ = asked.popleft()
        if store is not None:
            store.put(tile, computed)
        yield tile, computed, True
    for tile, known in asked:
        yield tile, cast(Floats, known), False  # none is missing after the last one computed


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

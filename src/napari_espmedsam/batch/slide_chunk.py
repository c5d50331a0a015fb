"""One chunk of a slide: the unit of work, a pure function of slide, model, plan and number."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_espmedsam.batch.slide_tiles import TileStore, logits_in_order
from napari_espmedsam.inference.postprocess import to_labels
from napari_espmedsam.inference.regions import first_pixels, look_up
from napari_espmedsam.inference.tiling import GRID, LogitBlender

if TYPE_CHECKING:
    from napari_espmedsam.batch.slide_plan import SlidePlan
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.inference.segmenter import Segmenter

BACKGROUND = -20.0
"""Logit of tiles without tissue."""

Labels = npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class ChunkResult:
    """What one chunk found.

    Attributes
    ----------
    labels : ndarray
        (h, w) uint32 of the chunk's own px: objects from 1 to n, or 1 for a mask.
    first : ndarray
        (n,) int64: first px of each object within the chunk, row by row, as row * W + column of
        the slide.
    frame : tuple of ndarray
        uint32 in the same numbers; the two rows or columns on either side of the chunk's border:
        top and bottom (2, w + 2), left and right (h + 2, 2). 0 beyond the slide and for objects
        that have no px in the chunk.
    """

    labels: Labels
    first: npt.NDArray[np.int64]
    frame: tuple[Labels, Labels, Labels, Labels]


def segment_chunk(
    slide: Slide,
    segmenter: Segmenter,
    plan: SlidePlan,
    chunk: int,
    store: TileStore | None = None,
) -> Generator[int, None, ChunkResult]:
    """Segment one chunk. All that decides its labels is computed here, whatever others have done.

    Parameters
    ----------
    slide : Slide
        The slide.
    segmenter : Segmenter
        The model.
    plan : SlidePlan
        The settings.
    chunk : int
        One of ``plan.chunks``.
    store : TileStore, optional
        Where tiles that others have computed are found.

    Yields
    ------
    int
        Number of each tile that was computed.

    Returns
    -------
    ChunkResult
        Labels of its own px, and what is needed to join objects with those of its neighbours.
    """
    window, geometry, tiles = plan.window(chunk), plan.geometry, plan.tiles(chunk)
    if not tiles:
        raise ValueError(f"chunk {chunk} holds no tissue; plan.chunks lists those that do")
    # Further out there is background for sure: nothing to blend and to label.
    rim = math.ceil(2 * GRID / geometry.scale + 3 * plan.post.smoothing) + 2 * geometry.down + 2
    part = geometry.around(tiles, rim, window)
    blender = LogitBlender(geometry.grid, geometry.model_window(part))
    shape: tuple[int, ...] = ()
    for tile, logits, computed in logits_in_order(slide, segmenter, plan, tiles, store):
        blender.add(tile, logits)
        shape = logits.shape
        if computed:
            yield tile
    for tile in geometry.tiles_of(part):
        if not plan.computed[tile]:
            blender.add(tile, np.full(shape, BACKGROUND, np.float32))
    labels = np.zeros([n.stop - n.start for n in window], np.uint32)
    inside = tuple(
        slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, window, strict=True)
    )
    labels[inside] = to_labels(geometry.probability(blender.result(), part), plan.post)
    return cut_chunk(labels, plan, chunk)


def cut_chunk(labels: Labels, plan: SlidePlan, chunk: int) -> ChunkResult:
    """Keep a chunk's own px of its window, and the frame around them.

    Parameters
    ----------
    labels : ndarray
        (h, w) uint32 of ``plan.window(chunk)``.
    plan : SlidePlan
        The run.
    chunk : int
        Number of the chunk.
    """
    core, window = plan.core(chunk), plan.window(chunk)
    padded = np.pad(labels, 1)  # beyond the slide there is nothing
    rows, columns = (
        slice(c.start - w.start, c.stop - w.start + 2) for c, w in zip(core, window, strict=True)
    )
    around = padded[rows, columns]
    own = around[1:-1, 1:-1]
    if plan.post.output != "mask":
        present = np.zeros(int(labels.max()) + 1, bool)
        present[own] = True
        present[0] = False
        table = np.zeros(present.size, np.uint32)
        table[present] = np.arange(1, int(present.sum()) + 1, dtype=np.uint32)
        around = look_up(table, around.astype(np.int32))
        own = around[1:-1, 1:-1]
    n = int(own.max())
    place = first_pixels(own.astype(np.int32), n + 1)[1:]
    y, x = np.divmod(place, own.shape[1])
    first = (y + core[0].start) * plan.geometry.shape[1] + x + core[1].start
    frame = (around[:2], around[-2:], around[:, :2], around[:, -2:])
    return ChunkResult(
        np.ascontiguousarray(own),
        first,
        tuple(each.copy() for each in frame),  # type: ignore[arg-type]
    )

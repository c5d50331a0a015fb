"""Chunks of a slide on the workers of a cluster."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_espmedsam.batch.cluster_work import NotSeen, Stopped, portable
from napari_espmedsam.batch.models import model_of
from napari_espmedsam.batch.slide_chunk import segment_chunk
from napari_espmedsam.batch.slide_plan import SlidePlan
from napari_espmedsam.batch.slide_source import open_slide
from napari_espmedsam.batch.slide_store import SlideStore
from napari_espmedsam.batch.slide_tiles import TileStore
from napari_espmedsam.errors import ClusterError, InputError
from napari_espmedsam.inference.request import SegmentRequest

if TYPE_CHECKING:
    from napari_espmedsam.batch.cluster import Cluster
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.inference.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class ChunkTask:
    """One chunk, with all that is needed to do it anywhere. Paths are absolute.

    Attributes
    ----------
    path, fingerprint : Path, str
        The slide, and what tells it from another.
    output : Path
        The folder that is made.
    request : SegmentRequest
        Model and settings.
    weights_sha256 : str
        Hash of the weight file.
    plan : SlidePlan
        What all chunks share.
    chunk : int
        Its number.
    """

    path: Path
    fingerprint: str
    output: Path
    request: SegmentRequest
    weights_sha256: str
    plan: SlidePlan
    chunk: int


def chunks_on(
    cluster: Cluster,
) -> Callable[[Slide, Segmenter, SlidePlan, SlideStore, Sequence[int]], Generator[int, None, None]]:
    """Return what computes chunks on a cluster, for ``run_slide(compute=...)``."""

    def compute(
        slide: Slide,
        segmenter: Segmenter,
        plan: SlidePlan,
        store: SlideStore,
        chunks: Sequence[int],
    ) -> Generator[int, None, None]:
        request = portable(plan.request)
        fixed = (slide.path.absolute(), slide.fingerprint(), store.path.absolute(), request)
        items = ((ChunkTask(*fixed, segmenter.sha256, plan, each),) for each in chunks)
        tiles = TileStore(store.tiles, plan, tuple(chunks))
        for event in cluster.stream(do_chunk, items, lambda: False):
            if isinstance(event, int):
                continue
            if event.problem:
                raise ClusterError(f"chunk {chunks[event.index]} of {slide.path}: {event.problem}")
            if isinstance(event.value, NotSeen):
                raise ClusterError(event.value.text())
            tiles.release(chunks[event.index])
            yield chunks[event.index]

    return compute


def do_chunk(task: ChunkTask, stopped: Stopped) -> NotSeen | None:
    """Segment a chunk on a worker, write it into the store and record it as finished.

    Raises
    ------
    InputError
        If the slide is damaged, or another one than where the run was started.
    OutputError
        If the result cannot be written.
    CheckpointError, DeviceError
        If the model cannot be loaded.
    """
    store = SlideStore(task.output)
    for path in (task.path, store.tiles):
        if not path.exists():
            return NotSeen(platform.node(), path)
    if task.chunk in store.done():  # by a worker that was lost right after it
        return None
    slide = open_slide(task.path, task.request)
    if slide.fingerprint() != task.fingerprint:
        raise InputError(f"{task.path} is another slide on {platform.node()} than at the start.")
    tiles = TileStore(store.tiles, task.plan, around(task.plan, task.chunk))
    steps = segment_chunk(slide, model_of(task), task.plan, task.chunk, tiles)
    while not stopped():
        try:
            next(steps)
        except StopIteration as stop:
            store.add(task.chunk, task.plan.core(task.chunk), stop.value)
            break
    return None


def around(plan: SlidePlan, chunk: int) -> tuple[int, ...]:
    """List a chunk and its neighbours: those that may need tiles of it."""
    columns = plan.chunk_rows[1]
    row, column = divmod(chunk, columns)
    near = {(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    return tuple(each for each in plan.chunks if divmod(each, columns) in near)

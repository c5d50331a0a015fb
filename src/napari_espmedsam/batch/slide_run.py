"""A slide from disk to disk, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_espmedsam import __version__
from napari_espmedsam.batch.lock import LOCK, locked
from napari_espmedsam.batch.slide_chunk import segment_chunk
from napari_espmedsam.batch.slide_merge import merge_chunks
from napari_espmedsam.batch.slide_store import SlideStore
from napari_espmedsam.batch.slide_tiles import TileStore
from napari_espmedsam.errors import OutputError

if TYPE_CHECKING:
    from napari_espmedsam.batch.slide_plan import SlidePlan
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.inference.segmenter import Segmenter


Compute = Callable[
    ["Slide", "Segmenter", "SlidePlan", SlideStore, Sequence[int]], Generator[int, None, None]
]


@dataclass(frozen=True)
class SlideStep:
    """How far a run is.

    Attributes
    ----------
    tiles, n_tiles : int
        Tiles that this run has computed, and those that it has to.
    chunks, n_chunks : int
        Chunks that are finished, those of an earlier run included, and all that hold tissue.
    """

    tiles: int
    n_tiles: int
    chunks: int
    n_chunks: int


def run_slide(
    slide: Slide,
    segmenter: Segmenter,
    plan: SlidePlan,
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    order: Sequence[int] | None = None,
    compute: Compute | None = None,
) -> Generator[SlideStep, None, int]:
    """Segment a slide into an OME-Zarr label image.

    Parameters
    ----------
    slide : Slide
        The slide.
    segmenter : Segmenter
        The model.
    plan : SlidePlan
        The settings.
    output : Path
        Folder to make, ``NAME.zarr``. Until it is complete it is called ``NAME.zarr.partial``.
    resume : bool
        Go on with an unfinished run of the same slide, model and settings.
    overwrite : bool
        Replace a result, or begin an unfinished run again (unless `resume` is given too).
    order : sequence of int, optional
        Order of the chunks; it changes nothing in the result.
    compute : callable, optional
        Computes and stores chunks elsewhere, and yields the number of each that is finished:
        ``slide_cluster.chunks_on``.

    Yields
    ------
    SlideStep
        After each tile and each chunk. Close the generator to stop; what is finished stays.

    Returns
    -------
    int
        How many objects there are; for a mask, whether there is any foreground.

    Raises
    ------
    InputError
        If the slide is damaged somewhere. Chunks that are finished stay.
    OutputError
        If the result cannot be written, or another run is writing it.
    DeviceError
        If the device runs out of memory.
    ClusterError
        If `compute` cannot go on. Chunks that are finished stay.
    """
    if output.resolve() == slide.path.resolve():
        raise OutputError(f"the result would replace the slide {output}; choose another name.")
    with locked(output.parent, f".{output.name}{LOCK}"):
        store = SlideStore(output)
        store.check(resume=resume, overwrite=overwrite)
        record = run_record(slide, segmenter, plan)
        store.begin(record, slide.shape, resume=resume)
        if compute is None:
            yield from _compute(slide, segmenter, plan, store, order)
        else:
            yield from _count(compute, slide, segmenter, plan, store)
        n_objects = _number(plan, store)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"input": slide.path.name, "objects": n_objects, "created": created}
        about["device_note"] = segmenter.device.note  # not part of what a resumed run has to meet
        store.finish(record | about, slide.spacing, overwrite=overwrite)
        return n_objects


def run_record(slide: Slide, segmenter: Segmenter, plan: SlidePlan) -> dict[str, Any]:
    """Say what decides the labels, and with what they were made, as plain JSON values."""
    header = segmenter.header
    return {
        "software": "napari-espmedsam",
        "version": __version__,
        "slide": slide.fingerprint(),
        "model": segmenter.name,
        "architecture": header.architecture,
        "weights_sha256": segmenter.sha256,
        "weights_licence": header.licence,
        "device": segmenter.device.device,
        "precision": segmenter.precision,
        "backend": segmenter.computed_by(plan.modality, plan.geometry.grid.tile),
        **plan.record(),
    }


def _compute(
    slide: Slide,
    segmenter: Segmenter,
    plan: SlidePlan,
    store: SlideStore,
    order: Sequence[int] | None,
) -> Generator[SlideStep, None, None]:
    finished = set(store.done())
    left = tuple(i for i in (plan.chunks if order is None else order) if i not in finished)
    tiles = TileStore(store.tiles, plan, left)
    n_tiles, n_chunks = len({tile for i in left for tile in plan.tiles(i)}), len(plan.chunks)
    n_done, computed = len(finished), 0
    for chunk in left:
        steps = segment_chunk(slide, segmenter, plan, chunk, tiles)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result = stop.value
                break
            computed += 1
            yield SlideStep(computed, n_tiles, n_done, n_chunks)
        store.add(chunk, plan.core(chunk), result)
        tiles.release(chunk)
        n_done += 1
        yield SlideStep(computed, n_tiles, n_done, n_chunks)


def _count(
    compute: Compute, slide: Slide, segmenter: Segmenter, plan: SlidePlan, store: SlideStore
) -> Generator[SlideStep, None, None]:
    """Let others compute what is left; tiles are counted with their chunks."""
    finished = set(store.done())
    left = tuple(i for i in plan.chunks if i not in finished)
    n_tiles, n_chunks = len({tile for i in left for tile in plan.tiles(i)}), len(plan.chunks)
    chunks = compute(slide, segmenter, plan, store, left)
    try:
        for n, _ in enumerate(chunks, start=1):
            yield SlideStep(n_tiles * n // len(left), n_tiles, len(finished) + n, n_chunks)
    finally:
        chunks.close()


def _number(plan: SlidePlan, store: SlideStore) -> int:
    """Join objects across chunks and write the final numbers into all levels."""
    records = store.records()
    if plan.post.output == "mask":
        for chunk in records:
            store.number(chunk, plan.core(chunk), np.array([0, 1], np.uint32))
        return int(any(each.first.size for each in records.values()))
    tables, n_objects = merge_chunks(records, plan.chunk_rows[1])
    for chunk, table in tables.items():
        store.number(chunk, plan.core(chunk), table)
    return n_objects

"""The work of a run, tile by tile, once everything about it is settled."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.encoding import Encoding
from napari_espmedsam.inference.intensity import IntensityRange
from napari_espmedsam.inference.plan import RunPlan
from napari_espmedsam.inference.postprocess import to_labels
from napari_espmedsam.inference.prompts import Edits
from napari_espmedsam.inference.results import PlaneResult, TileDone, sigmoid
from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.inference.tile_run import Tile, segment_tiles
from napari_espmedsam.inference.tiling import LogitBlender

Event = TileDone | PlaneResult
Floats = npt.NDArray[np.float32]


def run_planes(
    runner: ModelRunner, plan: RunPlan, intensity: IntensityRange, record: dict[str, Any]
) -> Generator[Event, None, None]:
    """Segment the planes of a plan; see ``Segmenter.iter_segment``.

    Features are not kept, so that a run needs the memory of one tile, or of two batches on a CUDA
    card, whatever the image's size.

    Parameters
    ----------
    runner : ModelRunner
        The model.
    plan : RunPlan
        Image and settings.
    intensity : IntensityRange
        Grey values that become 0 and 1.
    record : dict
        Provenance that goes with each plane.

    Yields
    ------
    TileDone or PlaneResult
        ``TileDone`` after each tile, ``PlaneResult`` after the last tile of each plane.
    """
    n_planes, n_tiles = len(plan.planes), len(plan.geometry.grid)
    n_objects = 0
    results = segment_tiles(
        runner, _tiles(plan, intensity), plan.modality_index, plan.spec, plan.prompt_threshold
    )
    for position, i in enumerate(plan.planes):
        blender = LogitBlender(plan.geometry.grid)
        for tile in range(n_tiles):
            blender.add(tile, next(results))
            yield TileDone(position, n_planes, tile, n_tiles)
        logits = plan.geometry.to_image(blender.result())
        labels = to_labels(sigmoid(logits), plan.post)
        if plan.post.output != "mask":
            count = int(labels.max())
            labels[labels > 0] += np.uint32(n_objects)
            n_objects += count
        yield PlaneResult(position, n_planes, plan.stack.index(i), labels, record)


def _tiles(plan: RunPlan, intensity: IntensityRange) -> Iterator[Tile]:
    """Read and cut the planes of a plan, one after the other."""
    last = len(plan.geometry.grid) - 1
    for i in plan.planes:
        edits = plan.edits.get(i)
        pixels = plan.geometry.to_model(intensity.rescale(plan.stack.plane(i)))
        for tile in range(last):
            yield _cut(plan, pixels, tile, edits)
        final = [_cut(plan, pixels, last, edits)]
        if last:
            final[0] = replace(final[0], pixels=final[0].pixels.copy())
        del pixels  # a large plane need not be held while its labels are made
        yield final.pop()


def _cut(plan: RunPlan, pixels: Floats, tile: int, edits: Edits | None) -> Tile:
    mine = None if edits is None else plan.canvas.tile_edits(tile, edits)
    return Tile(pixels[plan.geometry.grid.slices(tile)], mine)


def encode_plane(
    runner: ModelRunner,
    plan: RunPlan,
    plane: npt.NDArray[Any],
    key: str,
    intensity: IntensityRange,
    on_tile: Callable[[int, int], object] | None = None,
) -> Encoding:
    """Compute the features of one plane; see ``Segmenter.encode``."""
    steps = encode_steps(runner, plan, plane, key, intensity)
    while True:
        try:
            tile = next(steps)
        except StopIteration as stop:
            return cast(Encoding, stop.value)
        if on_tile is not None:
            on_tile(tile, len(plan.geometry.grid))


def encode_steps(
    runner: ModelRunner,
    plan: RunPlan,
    plane: npt.NDArray[Any],
    key: str,
    intensity: IntensityRange,
) -> Generator[int, None, Encoding]:
    """Compute the features of one plane, with a pause after each tile.

    Yields
    ------
    int
        Number of the tile that is done.

    Returns
    -------
    Encoding
        Once all tiles are done.
    """
    grid = plan.geometry.grid
    pixels = plan.geometry.to_model(intensity.rescale(plane))
    features, own, values = [], [], []
    for tile in range(len(grid)):
        part = pixels[grid.slices(tile)]
        features.append(runner.extract(part, plan.modality_index, plan.spec))
        proposal = runner.propose(features[-1], part)
        own.append(proposal[0])
        values.append(proposal[1])
        yield tile
    prompt, prompt_values = np.stack(own), np.stack(values)
    for array in (prompt, prompt_values):
        array.flags.writeable = False  # shared by all who get this encoding from the cache
    return Encoding(
        key=key,
        modality=plan.modality,
        geometry=plan.geometry,
        intensity=intensity,
        prompt_kind=runner.prompt_kind,
        prompt_cell=runner.prompt_cell,
        correction_levels=runner.correction_levels,
        prompt=prompt,
        prompt_values=prompt_values,
        features=tuple(features),
        owner=runner.identity,
    )

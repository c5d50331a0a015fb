"""Tiles to logits: one by one, or on a CUDA card in batches, of which one is always on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.out_of_memory import in_halves
from napari_espmedsam.inference.prompts import Edits, tile_prompt
from napari_espmedsam.inference.runner import ChoosePrompt, ModelRunner
from napari_espmedsam.inference.tile_feed import Feed, StagedBatch, feed_for, fetch

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

Floats = npt.NDArray[np.float32]
Read = Callable[[], Floats]

UNDER_WAY = 2
"""Batches that the card has been given and whose logits have not been asked for."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile of a run.

    Attributes
    ----------
    pixels : ndarray
        (h, w) or (h, w, 3) float32 in [0, 1].
    edits : ndarray or None
        The part of the prompt canvas that lies on it.
    """

    pixels: Floats
    edits: Edits | None = None


def segment_tiles(
    runner: ModelRunner,
    tiles: Iterable[Tile],
    modality: int,
    spec: InputSpec,
    prompt_threshold: float | None = None,
) -> Generator[Floats, None, None]:
    """Compute the logits of tiles, in their order.

    Parameters
    ----------
    runner : ModelRunner
        The model.
    tiles : iterable of Tile
        Each is asked for when it is needed; on a CUDA card up to two batches ahead of its logits.
    modality : int
        Their modality.
    spec : InputSpec
        Its normalisation.
    prompt_threshold : float, optional
        Where the proposed prompt is cut; the model's own when None.

    Yields
    ------
    ndarray
        (h / 4, w / 4) float32.

    Raises
    ------
    DeviceError
        If not even one tile fits into the device's memory.
    """
    if not runner.device.startswith("cuda"):
        for tile in tiles:
            logits = _segment_tile(runner, tile, modality, spec, prompt_threshold)
            del tile  # it may hold the plane that it was cut from
            yield logits
        return
    yield from segment_batches(
        runner, feed_for(runner.device), tiles, modality, spec, prompt_threshold
    )


def segment_batches(
    runner: ModelRunner,
    feed: Feed,
    tiles: Iterable[Tile],
    modality: int,
    spec: InputSpec,
    prompt_threshold: float | None = None,
) -> Generator[Floats, None, None]:
    """Compute the logits of tiles in batches; see :func:`segment_tiles`.

    While the card computes one batch, the next one is made ready and copied. `feed` brings them to
    the device of the runner.
    """
    under_way: deque[Read] = deque()
    source = _Source(tiles)
    runner.batches.ask_again()
    for batch in _batches(runner, source):
        for staged, part in _stage(runner, feed, batch):
            choose = _chooser(runner, part, prompt_threshold)
            for logits in runner.segment(staged.take(), modality, spec, choose):
                under_way.append(fetch(logits))
            while len(under_way) >= UNDER_WAY:
                yield from under_way.popleft()()
    while under_way:
        yield from under_way.popleft()()
    if source.problem is not None:
        raise source.problem


class _Source:
    """Ends where tiles cannot be read: what was read before it is to be handed out first."""

    def __init__(self, tiles: Iterable[Tile]) -> None:
        self._tiles = tiles
        self.problem: Exception | None = None

    def __iter__(self) -> Iterator[Tile]:
        try:
            yield from self._tiles
        except Exception as error:
            self.problem = error


def _batches(runner: ModelRunner, tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
    """Tiles of one shape, as many as the card computes at once."""
    batch: list[Tile] = []
    for tile in tiles:
        if batch and tile.pixels.shape != batch[0].pixels.shape:
            yield batch
            batch = []
        batch.append(tile)
        if len(batch) >= runner.batches.size(tile.pixels.shape[:2]):
            yield batch
            batch = []
    if batch:
        yield batch


def _stage(
    runner: ModelRunner, feed: Feed, batch: list[Tile]
) -> list[tuple[StagedBatch, list[Tile]]]:
    """Send a batch to the device, in parts where it does not fit."""
    shape = batch[0].pixels.shape[:2]

    def put(start: int, stop: int) -> tuple[StagedBatch, list[Tile]]:
        part = batch[start:stop]
        return feed.put([tile.pixels for tile in part]), part

    def too_many(size: int) -> None:
        runner.batches.shrink(shape, size)
        runner.make_room()

    n = len(batch)
    return in_halves(put, n, n, too_many, device=runner.device, shape=shape)


def _chooser(
    runner: ModelRunner, tiles: list[Tile], prompt_threshold: float | None
) -> ChoosePrompt | None:
    """Return what settles the prompts of a batch; None where all are the model's own."""
    if prompt_threshold is None and all(tile.edits is None for tile in tiles):
        return None
    levels = runner.correction_levels
    return lambda i, own, values: tile_prompt(own, values, tiles[i].edits, prompt_threshold, levels)


def _segment_tile(
    runner: ModelRunner, tile: Tile, modality: int, spec: InputSpec, prompt_threshold: float | None
) -> Floats:
    """Compute the logits of one tile, (h / 4, w / 4)."""
    features = runner.extract(tile.pixels, modality, spec)
    choose = _chooser(runner, [tile], prompt_threshold)
    if choose is None:
        return runner.decode(features, modality)
    own, values = runner.propose(features, tile.pixels)
    return runner.decode(features, modality, choose(0, own, values))

"""How time grows: tiles of one image from 1 to 10,000, and a folder of small images.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --tiles 1 --tiles 25 --model espmedsam --images 0

A tiny model makes 10,000 tiles of 64 px take about a minute, and what is around the model weighs
most; the bundled one is measured with few tiles. A folder is segmented by ``segment_folder``, which
reads, hashes, writes and keeps records, in turns with the bare engine: the same arrays through
``Segmenter.segment``.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import tifffile
import torch
import typer
from page import machine, table, write_part
from turns import spread

from napari_espmedsam.batch.api import segment_folder
from napari_espmedsam.inference.live import LivePlane
from napari_espmedsam.inference.prompts import OFF, ON
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
from napari_espmedsam.model.registry import create_model
from napari_espmedsam.samples import nuclei_stack

TINY = "esp_medsam_test"
Clock = Callable[[], float]
Plane = npt.NDArray[np.uint16]


def main(
    tiles: Annotated[
        list[int] | None, typer.Option(help="Numbers of tiles of the tiny model; repeatable.")
    ] = None,
    real_tiles: Annotated[
        list[int] | None, typer.Option(help="Numbers of tiles of the bundled model; repeatable.")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Images of the folder; 0: none.")] = 40,
    size: Annotated[int, typer.Option(min=64, help="Their side in px.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of folder and engine.")] = 3,
    model: Annotated[str, typer.Option(help="The bundled model.")] = "espmedsam",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    cpu_time: Annotated[
        bool, typer.Option(help="Count the processor's time: steadier on a busy machine.")
    ] = False,
    write_docs: Annotated[bool, typer.Option(help="Put it into docs/benchmarks.md.")] = False,
) -> None:
    """Measure and print two Markdown tables."""
    torch.set_num_threads(threads)
    clock = time.process_time if cpu_time else time.perf_counter
    told = machine(threads, ("torch", "tifffile"))
    with tempfile.TemporaryDirectory() as folder:
        tiny = Segmenter.from_checkpoint(tiny_checkpoint(Path(folder)), backend="torch")
        real = Segmenter.from_checkpoint(model, backend="torch")
        rows = tile_rows(tiny, TINY, 64, tiles or (1, 10, 100, 1000, 10_000), clock)
        rows += tile_rows(real, model, 256, real_tiles or (1, 9, 25), clock)
        clock_name = f"{'processor ' * cpu_time}time"
        about = f"Times are {clock_name}; folder and engine took {rounds} turns. {told}"
        parts = [about, table(TILE_HEADER, rows)]
        if images:
            found = folder_rows(Path(folder), model, images, size, rounds, clock)
            parts.append(table(FOLDER_HEADER, found))
    text = "\n\n".join(parts)
    typer.echo(text)
    if write_docs:
        write_part("scaling", text)


TILE_HEADER = (
    "Model, tile",
    "Tiles",
    "ms per tile, all of the run",
    "as a ratio to the fewest",
    "Decoding alone, ms per tile",
    "A stroke in the studio, ms",
)
FOLDER_HEADER = (
    "Folder of small images",
    "Images",
    "Batch, images/s",
    "Engine, images/s",
    "Batch at, % of the engine",
)


def tile_rows(
    segmenter: Segmenter, name: str, side: int, counts: Sequence[int], clock: Clock
) -> list[list[str]]:
    """Segment images of more and more tiles; the first run warms up."""
    rows, first = [], 0.0
    segmenter.segment(_plane(side, side), segmenter.modalities[0], scale=1.0)
    for count in counts:
        across = math.isqrt(count)
        down = count // across
        plane = _plane(across * side, down * side)
        whole = _best(lambda: _run(segmenter, plane, side), count, clock)  # noqa: B023
        decode, stroke = studio(segmenter, plane, side, clock)
        first = first or whole / (across * down)
        rows.append(
            [
                f"{name}, {side} px",
                f"{across * down:,}",
                f"{1000 * whole / (across * down):.2f}",
                f"{whole / (across * down) / first:.2f}",
                f"{1000 * decode / (across * down):.2f}",
                f"{1000 * stroke:.1f}",
            ]
        )
    return rows


def _run(segmenter: Segmenter, plane: Plane, side: int) -> None:
    segmenter.segment(plane, segmenter.modalities[0], scale=1.0, tile=TileSpec(side, 0))


def _best(work: Callable[[], object], count: int, clock: Clock) -> float:
    """Least seconds of several passes; one where a pass is long."""
    seconds = []
    for _ in range(max(1, min(5, 100 // count))):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


def studio(segmenter: Segmenter, plane: Plane, side: int, clock: Clock) -> tuple[float, float]:
    """Seconds of decoding all tiles anew from kept features, and of one stroke's decoding."""
    modality = segmenter.modalities[0]
    encoding = segmenter.encode(plane, modality, scale=1.0, tile=TileSpec(side, 0))
    start = clock()
    live = LivePlane(segmenter, encoding)
    live.refresh()
    decode = clock() - start
    strokes = []
    for value in (ON, OFF) * 3:  # each changes the patch, but perhaps the first
        start = clock()
        live.edit((slice(0, 1), slice(0, 1)), value)
        live.refresh()
        strokes.append(clock() - start)
    return decode, statistics.median(strokes[1:])


def folder_rows(
    folder: Path, model: str, images: int, size: int, rounds: int, clock: Clock
) -> list[list[str]]:
    """Let the batch and the bare engine take turns on the same images."""
    stack = nuclei_stack(shape=(images, size, size))
    source = folder / "images"
    source.mkdir()
    for number, plane in enumerate(stack):
        tifffile.imwrite(source / f"{number:04}.tif", plane)
    rows = []
    segmenter = Segmenter.from_checkpoint(model, backend="torch")
    modality = segmenter.modalities[0]
    for label, scale in (("as enlarged by default", None), ("not enlarged", 1.0)):
        settings = {"checkpoint": model, "modality": modality, "scale": scale, "backend": "torch"}
        segment_folder(source, folder / "warm-up", pattern="0000.tif", overwrite=True, **settings)
        batch, engine = [], []
        for number in range(rounds):
            out = folder / f"results {label} {number}"
            start = clock()
            segment_folder(source, out, **settings)
            batch.append(images / (clock() - start))
            start = clock()
            for plane in stack:
                segmenter.segment(plane, modality, scale=scale)
            engine.append(images / (clock() - start))
        shares = [100 * a / b for a, b in zip(batch, engine, strict=True)]
        name = f"{model}, {size} px, {label}"
        rows.append([name, str(images), spread(batch), spread(engine), f"{spread(shares, '.0f')}"])
    return rows


def _plane(width: int, height: int) -> Plane:
    """Synthetic nuclei, repeated."""
    cell = nuclei_stack(shape=(1, 256, 256))[0]
    reps = (-(-height // 256), -(-width // 256))
    return np.ascontiguousarray(np.tile(cell, reps)[:height, :width])


def tiny_checkpoint(folder: Path) -> Path:
    """Write a tiny model with random weights."""
    torch.manual_seed(0)
    model = create_model(TINY, modalities=("microscopy",))
    header = CheckpointHeader(
        name="tiny",
        architecture=TINY,
        config=model.config.model_dump(),
        modalities=("microscopy",),
        inputs={"microscopy": InputSpec(geometry="tiled", size=64)},
        licence="Apache-2.0",
    )
    return save_checkpoint(folder / "tiny.safetensors", model, header)


if __name__ == "__main__":
    typer.run(main)

"""How long it takes from a stroke on the prompt to changed labels, beside encoding again.

    python benchmarks/prompt_latency.py
    python benchmarks/prompt_latency.py --checkpoint medfastsam --strokes 50

Random weights do as well as trained ones, as the work is the same. What they say is smoothed then
and cut so that a quarter of the plane is foreground: the post-processing gets objects to work on.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import typer

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.inference.encoding import Encoding
from napari_espmedsam.inference.live import SHOWN_ON, SHOWN_ON_BY_USER, LivePlane
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.prompts import OFF, ON, Box
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import create_model
from napari_espmedsam.samples import nuclei_stack

ARCHITECTURES = ("esp_medsam", "med_fastsam")
BRUSH = 32  # model px: one patch of ESP-MedSAM, a dab of the brush on a coarse mask
Plane = npt.NDArray[np.uint16]
Result = TypeVar("Result")


@dataclass
class Timings:
    """Milliseconds of each stroke, by its parts, and of each encoding."""

    decode: list[float] = field(default_factory=list)  # prompt, decoder, blending
    probability: list[float] = field(default_factory=list)  # to the image's pixels, sigmoid
    labels: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)  # pixels whose label is another
    objects: int = 0

    @property
    def stroke(self) -> list[float]:
        """Whole strokes: what users wait for."""
        parts = zip(self.decode, self.probability, self.labels, strict=True)
        return [sum(each) for each in parts]


def main(
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="Model to load instead of random weights; may be repeated."),
    ] = None,
    strokes: Annotated[int, typer.Option(min=4, help="Strokes to measure for each row.")] = 24,
    encodings: Annotated[int, typer.Option(min=1, help="Encodings, spread over them.")] = 3,
    size: Annotated[int, typer.Option(min=64, help="Side of the tile in px: 32 x n.")] = 1024,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0: its default.")] = 0,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "cpu",
) -> None:
    """Measure strokes on one tile and print a Markdown table."""
    if threads:
        torch.set_num_threads(threads)
    plane = nuclei_stack(shape=(1, size, size))[0]
    lines = _heading(size)
    try:
        for segmenter in _segmenters(checkpoint, size, device):
            for output in ("objects", "split"):
                timings = measure(segmenter, plane, output, strokes, encodings)
                lines.append(_row(segmenter, output, timings))
    except EspMedSamError as error:
        raise typer.BadParameter(str(error)) from error
    for line in lines:
        typer.echo(line)


def measure(
    segmenter: Segmenter, plane: Plane, output: str, strokes: int, encodings: int
) -> Timings:
    """Encode a plane several times, and after each time toggle some of its patches one by one.

    So both are measured under the same conditions, whatever else the machine does meanwhile.
    """
    timings, generator = Timings(), np.random.default_rng(0)
    for block in np.array_split(np.arange(strokes), encodings):
        plane[0, 0] += 1  # another plane for the cache, and the same work
        encoding, milliseconds = _timed(lambda: _encode(segmenter, plane))
        timings.encode.append(milliseconds)
        live = LivePlane(segmenter, encoding)
        post = PostProcess(output=output)
        if not segmenter.sha256:
            post = _for_random_weights(live, post)
        for k in range(-1, len(block)):  # the first stroke warms up
            before = live.labels(post)
            parts = _stroke(live, generator, post)
            if k >= 0:
                for kept, part in zip(
                    (timings.decode, timings.probability, timings.labels), parts, strict=True
                ):
                    kept.append(part)
                timings.changed.append(int((live.labels(post) != before).sum()))
        timings.objects = int(live.labels(post).max())
    return timings


def _for_random_weights(live: LivePlane, post: PostProcess) -> PostProcess:
    cut = float(np.quantile(live.probability, 0.75))
    return replace(post, threshold=min(max(cut, 0.01), 0.99), smoothing=3.0)


def _stroke(
    live: LivePlane, generator: np.random.Generator, post: PostProcess
) -> tuple[float, float, float]:
    box = _some_patch(live, generator)
    is_on = np.isin(live.prompt_shown[box], (SHOWN_ON, SHOWN_ON_BY_USER)).mean() >= 0.5

    def decode() -> None:
        live.edit(box, OFF if is_on else ON)
        live.refresh()

    return (
        _timed(decode)[1],
        _timed(lambda: live.probability)[1],
        _timed(lambda: live.labels(post))[1],
    )


def _some_patch(live: LivePlane, generator: np.random.Generator) -> Box:
    side = max(1, BRUSH // live.canvas.cell)
    top, left = (int(generator.integers(0, n - side + 1)) for n in live.canvas.shape)
    return slice(top, top + side), slice(left, left + side)


def _encode(segmenter: Segmenter, plane: Plane) -> Encoding:
    tiled = [m for m in segmenter.modalities if segmenter.input_spec(m).geometry == "tiled"]
    if not tiled:
        return segmenter.encode(plane, segmenter.modalities[0])
    modality = "microscopy" if "microscopy" in tiled else tiled[0]
    tile = TileSpec(max(plane.shape), 0)
    return segmenter.encode(plane, modality, scale=1.0, tile=tile)


def _segmenters(checkpoints: list[str] | None, size: int, device: str) -> Iterator[Segmenter]:
    for name in checkpoints or ():
        yield Segmenter.from_checkpoint(name, device=device, backend="torch")
    for name in () if checkpoints else ARCHITECTURES:
        torch.manual_seed(0)
        model = create_model(name, modalities=("microscopy",))
        header = CheckpointHeader(
            name="random weights",
            architecture=name,
            config=model.config.model_dump(),
            modalities=("microscopy",),
            inputs={"microscopy": InputSpec(geometry="tiled", size=size)},
            licence="Apache-2.0",
        )
        yield Segmenter(model, header, device=device)


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = work()
    return result, 1000 * (time.perf_counter() - start)


def _heading(size: int) -> list[str]:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return [
        f"One tile of {size} x {size} px. {_machine()}, {os.cpu_count()} cores{load}; torch "
        f"{torch.__version__} with {torch.get_num_threads()} threads. Times in ms.",
        "",
        "| Model | Device | Labels | Objects | Stroke, median | Stroke, p90 | Decoding | To image "
        "| Labelling | Encoding again, median | Ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]


def _row(segmenter: Segmenter, output: str, timings: Timings) -> str:
    stroke, again = np.median(timings.stroke), np.median(timings.encode)
    parts = (timings.decode, timings.probability, timings.labels)
    cells: list[Any] = [
        f"{segmenter.header.architecture}, {segmenter.name}",
        segmenter.device.device,
        output,
        timings.objects,
        f"**{stroke:.0f}**",
        f"{np.quantile(timings.stroke, 0.9):.0f}",
        *(f"{np.median(part):.0f}" for part in parts),
        f"{again + stroke:.0f}",
        f"{(again + stroke) / stroke:.0f}",
    ]
    if not any(timings.changed):
        raise EspMedSamError("No stroke changed a label: nothing has been measured.")
    return f"| {' | '.join(map(str, cells))} |"


def _machine() -> str:
    """Name of the processor, as well as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    typer.run(main)

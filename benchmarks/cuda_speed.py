"""How fast a CUDA card segments, beside the authors' way of computing on the same card.

    python benchmarks/cuda_speed.py
    python benchmarks/cuda_speed.py --size 512 --precision float32 --rounds 20
    python benchmarks/cuda_speed.py --images 2000 --batch 16

Ours is what the plugin runs: float32 tiles in the memory of the host, in batches through
``segment_tiles`` (sized to the card, fed by pinned memory, replayed as CUDA graphs) to logits in
the memory of the host. "One" is a tile that is waited for before the next one, as a user does. The
authors' way is ``published_forward.py`` in float32 with the same weights on tiles that lie on the
card already, once for one image and once for a batch. Forms take turns, a round of each after the
other, and ratios are taken within a round.

(It is not called ``cuda.py``: torch imports a package ``cuda``, and a script's folder comes first.)
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
import typer
from engine import spread
from published_forward import published_forward

from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.inference.tile_run import Tile, segment_tiles
from napari_espmedsam.model.header import InputSpec
from napari_espmedsam.model.registry import create_model

ARCHITECTURE = "esp_medsam_published"
WARM_UP = 5  # rounds: sizes are measured, graphs captured
Form = Callable[[], int]  # computes some images to their end, and says how many


def main(
    size: Annotated[int, typer.Option(min=64, help="Side of the images in px: 32 x n.")] = 1024,
    precision: Annotated[str, typer.Option(help="Of ours.")] = "bfloat16",
    images: Annotated[int, typer.Option(min=1, help="Images of a round in batches.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Images of a batch of the authors' way.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to measure.")] = 10,
    device: Annotated[str, typer.Option(help="Card.")] = "cuda:0",
) -> None:
    """Measure and print a Markdown table."""
    refuse_without_cuda()
    forms = make_forms(size, precision, images, batch, device)
    for form in forms.values():
        for _ in range(WARM_UP):
            form()
    seconds = alternate(forms, rounds)
    typer.echo(header(device, size, precision, rounds))
    for line in table(seconds):
        typer.echo(line)


def refuse_without_cuda() -> None:
    """End with exit code 2 where there is no card."""
    if torch.cuda.is_available():
        return
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA build"
    typer.echo(
        f"Error: PyTorch {torch.__version__} ({build}) finds no CUDA card here, and there is "
        "nothing else to measure. Run this on a machine with an NVIDIA GPU and its driver; "
        "benchmarks/engine.py measures processors.",
        err=True,
    )
    raise typer.Exit(2)


def make_forms(size: int, precision: str, images: int, batch: int, device: str) -> dict[str, Form]:
    """All forms with the same random weights, each ready to be called."""
    torch.manual_seed(0)
    model: Any = create_model(ARCHITECTURE)
    spread(model)
    runner = ModelRunner(model, device, precision)
    spec = InputSpec(geometry="whole", size=size)
    rng = np.random.default_rng(0)
    pictures = [rng.random((size, size, 3), dtype=np.float32) for _ in range(8)]
    theirs = model.to(device)

    def ours(n: int) -> int:
        given = (Tile(pictures[i % len(pictures)]) for i in range(n))
        return sum(1 for _ in segment_tiles(runner, given, 0, spec))

    def alone() -> int:
        runner.decode(runner.extract(pictures[0], 0, spec), 0)
        return 1

    def published(n: int) -> Form:
        tensor = torch.rand(n, 3, size, size, device=device)

        def run() -> int:
            with torch.inference_mode():
                published_forward(theirs, tensor, 0)
            torch.cuda.synchronize(device)
            return n

        return run

    return {
        "authors' way, one": published(1),
        "ours, one": alone,
        f"authors' way, batches of {batch}": published(batch),
        "ours, batches sized to the card": lambda: ours(images),
    }


def alternate(forms: dict[str, Form], rounds: int) -> dict[str, list[float]]:
    """Seconds per image of each form in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start = time.perf_counter()
            n = form()
            seconds[name].append((time.perf_counter() - start) / n)
    return seconds


def header(device: str, size: int, precision: str, rounds: int) -> str:
    """Say what was measured, and on what."""
    free, total = torch.cuda.mem_get_info(device)
    return (
        f"{torch.cuda.get_device_name(device)}, {total / 2**30:.0f} GiB ({free / 2**30:.0f} free), "
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, python "
        f"{sys.version.split()[0]}\n{ARCHITECTURE}, {size} px, ours in {precision}, authors' way "
        f"in float32, {rounds} rounds\n\n"
        "| Form | ms an image, median | Images a second "
        "| Times as fast as the authors' way: median (range) |\n|---|---:|---:|---:|"
    )


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Rows of the table: each form of ours beside that of the authors before it."""
    rows, first = [], ""
    for name, own in seconds.items():
        if name.startswith("authors'"):
            first = name
        ratios = [a / b for a, b in zip(seconds[first], own, strict=True)]
        middle = statistics.median(own)
        rows.append(
            f"| {name} | {1000 * middle:.2f} | {1 / middle:.1f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return rows


if __name__ == "__main__":
    typer.run(main)

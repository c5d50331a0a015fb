"""What whole slides take: time per megapixel of tissue, and memory on top of the loaded program.

    python benchmarks/slides.py                       # 10,000 and 50,000 px, a threshold as model
    python benchmarks/slides.py --side 20000 --checkpoint medfastsam

The slides are made here, tile by tile: white with blobs of tissue and nuclei, 4 per cent of the
area at every size. A threshold stands for the model, so the figures are those of all that is around
one: reading, blending, labels, writing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tifffile
import typer

TILE = 512
TISSUE = 0.04
# px; radius of a blob of tissue: four per 10,000 x 10,000 px. With a single one, how it happens to
# lie on the grids of tiles and chunks would weigh more than the size of the slide.
_BLOB = 564
Tile = npt.NDArray[np.uint8]


def make_slide(path: Path, side: int, seed: int = 0) -> None:
    """Write a pyramidal RGB TIFF of side x side px; at most a row of tiles is in memory."""
    blobs = place_blobs(side, seed)
    texture = make_texture(seed)
    blank = np.full((TILE, TILE, 3), 243, np.uint8)
    levels = [1]
    while side // levels[-1] > 1024:
        levels.append(levels[-1] * 4)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for step in levels:
            n = -(-side // step)
            options: dict[str, Any] = (
                {"subifds": len(levels) - 1} if step == 1 else {"subfiletype": 1}
            )
            tif.write(
                tiles(n, step, blobs, texture, blank),
                shape=(n, n, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                **options,
            )


def place_blobs(side: int, seed: int) -> npt.NDArray[np.float64]:
    """Centres (y, x) and radii of the tissue: the same share of the area at every size."""
    rng = np.random.default_rng(seed)
    radius = min(float(_BLOB), side / 6)
    n = max(1, round(TISSUE * side**2 / (np.pi * radius**2)))
    radius = np.sqrt(TISSUE * side**2 / (np.pi * n))
    per_row = int(np.ceil(np.sqrt(n)))
    cells = rng.permutation(per_row**2)[:n]
    centres = (np.stack(np.divmod(cells, per_row), 1) + 0.5) * side / per_row
    return np.column_stack([centres, np.full(n, radius)])


def make_texture(seed: int) -> Tile:
    """Pink tissue with dark nuclei that repeats every tile."""
    import cv2

    rng = np.random.default_rng(seed)
    tile = rng.normal((225, 170, 200), 4, (TILE, TILE, 3)).clip(0, 255).astype(np.uint8)
    for y, x in rng.integers(12, TILE - 12, (120, 2)).tolist():
        cv2.circle(tile, (x, y), int(rng.integers(5, 10)), (95, 50, 130), -1)
    return tile


def tiles(
    n: int, step: int, blobs: npt.NDArray[np.float64], texture: Tile, blank: Tile
) -> Iterator[bytes]:
    """Make the compressed tiles of one level, row by row; those that are alike only once."""
    import imagecodecs

    small = texture[::step, ::step]
    full = np.tile(small, (-(-TILE // small.shape[0]), -(-TILE // small.shape[1]), 1))[:TILE, :TILE]
    encoded = {True: imagecodecs.zlib_encode(full), False: imagecodecs.zlib_encode(blank)}
    for y in range(0, n, TILE):
        for x in range(0, n, TILE):
            inside = in_blobs(y, x, step, blobs)
            if inside.all() or not inside.any():
                yield encoded[bool(inside.any())]
            else:
                yield imagecodecs.zlib_encode(np.where(inside[..., None], full, blank))


def in_blobs(y: int, x: int, step: int, blobs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Say which px of a tile, (TILE, TILE), are tissue."""
    middle = np.array([(y + TILE / 2) * step, (x + TILE / 2) * step])
    away = np.hypot(*(blobs[:, :2] - middle).T)
    near = blobs[away < blobs[:, 2] + TILE * step]
    inside = np.zeros((TILE, TILE) if len(near) else (1, 1), bool)
    rows = (np.arange(y, y + TILE) * step)[:, None]
    columns = (np.arange(x, x + TILE) * step)[None]
    for cy, cx, radius in near:
        inside |= np.hypot(rows - cy, columns - cx) < radius
    return inside


def measure(slide: Path, output: Path, checkpoint: str) -> dict[str, float]:
    """Segment one slide in this process; say what it took."""
    import resource

    from napari_espmedsam.batch.slide_plan import plan_slide
    from napari_espmedsam.batch.slide_run import run_slide
    from napari_espmedsam.batch.slide_source import open_slide
    from napari_espmedsam.inference.request import SegmentRequest

    request = SegmentRequest(checkpoint=checkpoint, modality="microscopy", output="split")
    segmenter = load(checkpoint)
    warm_up(segmenter, request)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    opened = open_slide(slide, request)
    plan = plan_slide(opened, segmenter.header, request)
    plan_cpu = time.process_time() - cpu
    wall, cpu = time.perf_counter(), time.process_time()
    steps = run_slide(opened, segmenter, plan, output, overwrite=True)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            n_objects = stop.value
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "megapixels": opened.shape[0] * opened.shape[1] / 1e6,
        "tissue": plan.tissue.share,
        "tiles": int(plan.computed.sum()),
        "chunks": len(plan.chunks),
        "objects": n_objects,
        "plan_cpu_s": plan_cpu,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "loaded_MB": loaded / 1024,
        "extra_MB": (peak - loaded) / 1024,
        "file_MB": slide.stat().st_size / 1e6,
    }


def warm_up(segmenter: Any, request: Any) -> None:
    """Segment a small slide, so that all that is imported late belongs to the loaded program."""
    from napari_espmedsam.batch.slide_plan import plan_slide
    from napari_espmedsam.batch.slide_run import run_slide
    from napari_espmedsam.batch.slide_source import open_slide

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tif"
        make_slide(path, 1024)
        slide = open_slide(path, request)
        plan = plan_slide(slide, segmenter.header, request)
        for _ in run_slide(slide, segmenter, plan, Path(folder) / "small.zarr"):
            pass


def load(checkpoint: str) -> Any:
    """Load a checkpoint; "threshold" calls foreground what is darker than a half."""
    import torch
    import torch.nn.functional as F

    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.model.header import CheckpointHeader, InputSpec
    from napari_espmedsam.model.output import Features

    if checkpoint != "threshold":
        return Segmenter.from_checkpoint(checkpoint, device="cpu")

    class Threshold(torch.nn.Module):
        prompt_kind = "grid"

        def extract(self, images: Any, modality: Any, unnormalised: Any = None) -> Features:
            logits = 20.0 * (0.5 - F.avg_pool2d(images.mean(1, keepdim=True), 4))
            return Features(logits, F.max_pool2d(logits, 8))

        def decode_features(self, features: Any, modality: Any, prompt: Any = None) -> Any:
            return features.embedding

    header = CheckpointHeader(
        name="threshold",
        architecture="threshold",
        config={"modalities": ("microscopy",)},
        modalities=("microscopy",),
        inputs={
            "microscopy": InputSpec(
                geometry="tiled", size=512, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3
            )
        },
        licence="CC0-1.0",
    )
    return Segmenter(Threshold(), header, "0" * 64, device="cpu")


def main(
    side: Annotated[list[int] | None, typer.Option(help="Side of a slide in px.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Weights, or threshold.")] = "threshold",
    one: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make slides, segment each in a process of its own, and print a table."""
    if one is not None:
        typer.echo(json.dumps(measure(one, one.with_suffix(".zarr"), checkpoint)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for n in side or [10_000, 50_000]:
            path = Path(folder) / f"{n}.tif"
            make_slide(path, n)
            command = [sys.executable, __file__, "--one", str(path), "--checkpoint", checkpoint]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            row |= {f"{k}_per_Mpx": row[f"{k}_s"] / row["megapixels"] for k in ("wall", "cpu")}
            typer.echo(json.dumps({"side": n} | row))


if __name__ == "__main__":
    typer.run(main)

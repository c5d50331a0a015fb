"""What bfloat16 costs in Dice and gains in time, with a trained model on labelled images.

    python benchmarks/precision.py --pack dsb2018
    python benchmarks/precision.py --pack busbra --checkpoint six.safetensors --limit 20

Each image is segmented by each way of computing in turn, so that other jobs of the machine slow all
of them down; the first way is float32 in torch, and all differences are from it.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from napari_espmedsam.inference.backends.choice import can_compute
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.weights import DEFAULT_CHECKPOINT

sys.path.append(str(Path(__file__).parents[1]))  # training is in the checkout, not installed
from training.data import read_pair
from training.evaluate import LabelledSet, predict
from training.metrics import agreement

WAYS = (
    ("float32", "torch"),
    ("float32", "onnx"),
    ("float32", "openvino"),
    ("bfloat16", "torch"),
    ("bfloat16", "openvino"),
)
Way = tuple[str, str]  # precision, backend


def main(
    pack: Annotated[str, typer.Option(help="Folder below ESPMEDSAM_DATA.")] = "dsb2018",
    split: Annotated[str, typer.Option(help="One of its splits.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="Name or file.")] = DEFAULT_CHECKPOINT,
    limit: Annotated[int, typer.Option(min=0, help="Images at most; 0: all.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0: its default.")] = 0,
) -> None:
    """Segment a test split in each precision and print a Markdown table."""
    if threads:
        torch.set_num_threads(threads)
    labelled = LabelledSet.from_pack(pack, split)
    samples = labelled.samples[: limit or None]
    segmenters = {
        way: Segmenter.from_checkpoint(checkpoint, device="cpu", precision=way[0], backend=way[1])
        for way in WAYS
        if way[1] == "torch" or can_compute(way[1], way[0])
    }
    seconds: dict[Way, list[float]] = {way: [] for way in segmenters}
    dice: dict[Way, list[float]] = {way: [] for way in segmenters}
    changed: dict[Way, list[float]] = {way: [] for way in segmenters}
    first = next(iter(segmenters))
    for way in segmenters:
        segment(segmenters[way], *read_pair(samples[0]), samples[0].modality)  # graphs are made
    for sample in samples:
        image, truth = read_pair(sample)
        masks = {}
        for way, segmenter in segmenters.items():
            start = time.perf_counter()
            masks[way], score = segment(segmenter, image, truth, sample.modality)
            seconds[way].append(time.perf_counter() - start)
            dice[way].append(score)
            changed[way].append(float(np.mean(masks[way] != masks[first])))
    typer.echo(
        f"{checkpoint} on {pack} ({split}, n={len(samples)}), {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}\n\n"
        "| Precision | Backend | Mean Dice | Difference | Largest of an image | Pixels changed, "
        "per mille | Times as fast |\n|---|---|---:|---:|---:|---:|---:|"
    )
    for way in segmenters:
        off = np.subtract(dice[way], dice[first])
        ratio = statistics.median(np.divide(seconds[first], seconds[way]).tolist())
        typer.echo(
            f"| {way[0]} | {way[1]} | {np.mean(dice[way]):.4f} | {off.mean():+.4f} "
            f"| {abs(off).max():.4f} | {1000 * np.mean(changed[way]):.2f} | {ratio:.2f} |"
        )


def segment(
    segmenter: Segmenter, image: np.ndarray, truth: np.ndarray, modality: str
) -> tuple[np.ndarray, float]:
    """Mask of an image as users get it, and its Dice."""
    cut = segmenter.header.threshold_for(modality)
    mask = predict(segmenter, image, modality, (cut,))[cut]
    return mask, agreement(mask, truth).dice


if __name__ == "__main__":
    typer.run(main)

"""Measure a checkpoint on a labelled split, through the same path that users run."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from napari_espmedsam.inference.postprocess import PostProcess, to_labels
from napari_espmedsam.inference.segmenter import Segmenter
from training.data import data_root, list_samples, read_pair
from training.metrics import overlap


@dataclass(frozen=True)
class ImageScore:
    """Agreement on one image."""

    name: str
    colour: bool
    dice: float
    iou: float


def evaluate(
    segmenter: Segmenter,
    pack: str,
    split: str,
    *,
    modality: str | None = None,
    thresholds: Sequence[float] = (),
    report: Callable[[str], None] = lambda line: None,
) -> dict[float, list[ImageScore]]:
    """Segment every image of a split and compare the masks at the images' own resolution.

    Parameters
    ----------
    segmenter : Segmenter
        The checkpoint to measure.
    pack, split : str
        Folder below the data root, and one of its splits.
    modality : str, optional
        May be left out where the checkpoint has one.
    thresholds : sequence of float
        Probability thresholds to score; the checkpoint's own when empty.
    report : callable
        Receives one line per image.

    Returns
    -------
    dict of float to list of ImageScore
        For each threshold one score per image, in the order of the split.
    """
    cuts = tuple(thresholds) or (segmenter.header.threshold,)
    scores: dict[float, list[ImageScore]] = {cut: [] for cut in cuts}
    for sample in list_samples(data_root() / pack, split):
        image, truth = read_pair(sample)
        probability = segmenter.decode(segmenter.encode(image, modality)).array
        for cut in cuts:
            mask = to_labels(probability, PostProcess(output="mask", threshold=cut)) > 0
            result = overlap(mask, truth)
            scores[cut].append(ImageScore(sample.name, image.ndim == 3, result.dice, result.iou))
        report(f"{sample.name} Dice {scores[cuts[0]][-1].dice:.4f}")
    return scores


def summarise(scores: list[ImageScore]) -> list[str]:
    """Lines of a small table: all images, then grey and colour ones."""
    groups = {
        "all": scores,
        "grey": [s for s in scores if not s.colour],
        "colour": [s for s in scores if s.colour],
    }
    lines = ["| images | n | mean Dice | median Dice | mean IoU | worst Dice |"]
    lines.append("|---|---|---|---|---|---|")
    for name, group in groups.items():
        if group:
            dice = [s.dice for s in group]
            iou = mean(s.iou for s in group)
            cells = (mean(dice), median(dice), iou, min(dice))
            lines.append(
                f"| {name} | {len(group)} | " + " | ".join(f"{c:.4f}" for c in cells) + " |"
            )
    return lines


def write_scores(path: Path, scores: list[ImageScore]) -> None:
    """Write one CSV row per image."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "colour", "dice", "iou"])
        writer.writerows([s.name, s.colour, f"{s.dice:.6f}", f"{s.iou:.6f}"] for s in scores)

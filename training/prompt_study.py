"""Prompt types compared: what the decoder makes of grids drawn from the ground truth.

ESP-MedSAM's figure 4 (right). Each type is put on the grid that the decoder takes, one cell per
16 * 2^L px, so the encoder runs once per image and each type costs one decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.encoding import Encoding
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.sppg import prompt_target
from training.data import Sample, read_pair
from training.evaluate import LabelledSet
from training.metrics import overlap
from training.scores import result_file
from training.tables import markdown

Mask = NDArray[np.bool_]

#: Types in the order of the table, and what they are.
PROMPTS = {
    "own": "the model's own grid: no ground truth",
    "patch": "every cell that holds any foreground (what SPPG learns, eq. 6)",
    "point": "the cell of each object's centroid",
    "box": "all cells that each object's bounding box meets",
    "mask": "every cell that is foreground for at least half: the mask at the grid's resolution",
    "none": "no cell",
}


@dataclass(frozen=True)
class PromptScore:
    """Dice of one image under one type of prompt, and the share of cells that are on."""

    dataset: str
    name: str
    modality: str
    prompt: str
    dice: float
    cells_on: float


@dataclass(frozen=True)
class Objects:
    """Connected components of a mask.

    Attributes
    ----------
    centroids : ndarray
        (n, 2) float64: y, x in px. Of a bent object it may lie outside.
    boxes : ndarray
        (n, 4) int64: top, left, bottom, right in px; bottom and right are the first px outside.
    """

    centroids: NDArray[np.float64]
    boxes: NDArray[np.int64]

    @classmethod
    def of(cls, mask: Mask) -> Objects:
        """Find the objects of a mask (H, W); px that touch by a corner belong together."""
        _, _, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        left, top, width, height = stats[1:, :4].astype(np.int64).T
        boxes = np.stack([top, left, top + height, left + width], axis=1)
        return cls(np.asarray(centroids[1:, ::-1], np.float64), boxes)


def prompt_grid(
    kind: str, mask: Mask, objects: Objects, origin: tuple[int, int], cell: int
) -> Mask:
    """Draw the prompt of one tile.

    Parameters
    ----------
    kind : str
        "patch", "point", "box", "mask" or "none".
    mask : ndarray of bool
        (h, w) ground truth of the tile.
    objects : Objects
        Of the whole plane, in its px.
    origin : tuple of int
        Where the tile begins in the plane (y, x).
    cell : int
        Side of a cell in px.

    Returns
    -------
    ndarray of bool
        (ceil(h / cell), ceil(w / cell)).
    """
    tile = torch.from_numpy(mask.astype(np.float32))[None, None]
    if kind == "patch":
        return np.asarray(prompt_target(tile, cell)[0, 0].numpy() > 0)
    if kind == "mask":
        covered = F.avg_pool2d(tile, cell, cell, ceil_mode=True, count_include_pad=False)
        return np.asarray(covered[0, 0].numpy() >= 0.5)
    grid = np.zeros([-(-side // cell) for side in mask.shape], bool)
    if kind == "point":
        places = np.floor((objects.centroids - origin) / cell).astype(np.int64)
        inside = ((places >= 0) & (places < grid.shape)).all(axis=1)
        grid[tuple(places[inside].T)] = True
    if kind == "box":
        for top, left, bottom, right in objects.boxes - [*origin, *origin]:
            rows = slice(max(0, top // cell), max(0, -(-bottom // cell)))
            grid[rows, max(0, left // cell) : max(0, -(-right // cell))] = True
    return grid


def draw_prompts(kind: str, truth: Mask, encoding: Encoding, cell: int) -> Mask:
    """Draw a prompt for every tile of an encoding: (n_tiles, gh, gw).

    Parameters
    ----------
    kind : str
        One of :data:`PROMPTS`.
    truth : ndarray of bool
        (H, W) in px of the image.
    encoding : Encoding
        Of the same image.
    cell : int
        Side of a cell in model px.
    """
    if kind == "own":
        return encoding.prompt
    plane = encoding.geometry.to_model(truth.astype(np.float32)) >= 0.5
    objects = Objects.of(plane)
    grids = []
    for i in range(len(encoding.geometry.grid)):
        rows, columns = encoding.geometry.grid.slices(i)
        tile = plane[rows, columns]
        grids.append(prompt_grid(kind, tile, objects, (rows.start, columns.start), cell))
    return np.stack(grids)


def prompt_cell(segmenter: Segmenter) -> int:
    """Side of a prompt cell in model px.

    Raises
    ------
    InputError
        If the model takes no prompt grid.
    """
    config = segmenter.header.config
    if "prompt_levels" not in config or config.get("prompt") == "none":
        raise InputError(
            f"{segmenter.name} ({segmenter.header.architecture}) takes no prompt grid. Compare "
            "prompt types with an esp_medsam checkpoint."
        )
    return 16 * 2 ** int(config["prompt_levels"])


def score_prompts(
    segmenter: Segmenter, sample: Sample, modality: str, *, dataset: str = ""
) -> list[PromptScore]:
    """Decode one image under every type of prompt; masks are thresholded, nothing is cleaned up."""
    image, truth = read_pair(sample)
    cell = prompt_cell(segmenter)
    encoding = segmenter.encode(image, modality)
    threshold = segmenter.header.threshold_for(modality)
    scores = []
    for kind in PROMPTS:
        grids = draw_prompts(kind, truth, encoding, cell)
        answer = segmenter.decode(encoding, prompt=None if kind == "own" else grids).array
        dice = overlap(answer >= threshold, truth).dice
        scores.append(PromptScore(dataset, sample.name, modality, kind, dice, float(grids.mean())))
    return scores


def prompt_study(
    segmenter: Segmenter,
    sets: Sequence[LabelledSet],
    *,
    modality: str | None = None,
    limit: int | None = None,
    table: Path | None = None,
    csv: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[PromptScore]:
    """Compare the types of prompt on labelled images.

    Parameters
    ----------
    segmenter : Segmenter
        An ESP-MedSAM checkpoint.
    sets : sequence of LabelledSet
        Images and masks; their samples name the modality.
    modality : str, optional
        Instead of the samples' own.
    limit : int, optional
        At most this many images of each set, evenly spaced.
    table, csv : Path, optional
        Markdown and one row per image and prompt.
    report : callable
        Receives one line per image.

    Returns
    -------
    list of PromptScore
        For every image one per type.

    Raises
    ------
    InputError
        If the model takes no prompt grid, or an image cannot be read.
    """
    prompt_cell(segmenter)
    scores: list[PromptScore] = []
    for dataset, sample, place in studied(sets, limit):
        wanted = modality or sample.modality or segmenter.modalities[0]
        new = score_prompts(segmenter, sample, wanted, dataset=dataset)
        scores += new
        report(f"{place}: {', '.join(f'{s.prompt} {s.dice:.3f}' for s in new)}")
    if csv is not None:
        _write_csv(csv, scores)
    if table is not None:
        with result_file(table) as temporary:
            temporary.write_text(prompt_table(scores), encoding="utf-8")
    return scores


def evenly_spaced(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most ``limit`` samples, spread over the whole sequence."""
    if limit is None or len(samples) <= limit:
        return list(samples)
    return [samples[i * len(samples) // limit] for i in range(limit)]


def studied(sets: Sequence[LabelledSet], limit: int | None) -> Iterator[tuple[str, Sample, str]]:
    """Yield the samples of a study: name of the set, sample, and where that is, for a report."""
    for labelled in sets:
        chosen = evenly_spaced(labelled.samples, limit)
        for number, sample in enumerate(chosen, start=1):
            yield labelled.name, sample, f"{labelled.name} {number}/{len(chosen)} {sample.name}"


def prompt_table(scores: Sequence[PromptScore]) -> str:
    """Mean Dice by type of prompt and set, as Markdown."""
    sets = list(dict.fromkeys((s.dataset, s.modality) for s in scores))
    counts = {key: len({s.name for s in scores if (s.dataset, s.modality) == key}) for key in sets}
    header = ["prompt", *(f"{m}: {d}, n = {counts[d, m]}" for d, m in sets), "mean", "cells on"]
    rows = []
    for kind in PROMPTS:
        of_kind = [s for s in scores if s.prompt == kind]
        means = [mean(s.dice for s in of_kind if (s.dataset, s.modality) == key) for key in sets]
        on = mean(s.cells_on for s in of_kind)
        cells = [f"{100 * value:.2f}" for value in (*means, mean(means))]
        rows.append([kind, *cells, f"{100 * on:.0f} %"])
    lines = ["Dice (%) by type of prompt, decoded from the same features.", ""]
    lines += [*markdown(header, rows), "", *(f"- {k}: {text}" for k, text in PROMPTS.items())]
    lines += [
        "",
        "The paper prints no numbers (its figure 4, right): with prompts from the ground truth, "
        "patches do better than points and boxes, and a low-resolution mask tells more still. It "
        "does not say whether the model was trained anew for each type. Here the decoder is the "
        "one that was trained on its own patches.",
        "",
    ]
    return "\n".join(lines)


def _write_csv(path: Path, scores: Sequence[PromptScore]) -> None:
    with result_file(path) as temporary:
        lines = ["dataset,name,modality,prompt,dice,cells_on"]
        lines += [
            f"{s.dataset},{s.name},{s.modality},{s.prompt},{s.dice:.6f},{s.cells_on:.6f}"
            for s in scores
        ]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

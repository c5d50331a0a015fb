"""How well the mask follows a user who corrects the prompt, object by object.

The model's own objects are switched off one at a time, as with the eraser; objects of the ground
truth that it missed are switched on, as with the brush. Nothing but the cells changes: the encoder
runs once per image. Beyond the papers; it says what the prompt editor can promise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from napari_espmedsam.inference.encoding import Encoding
from napari_espmedsam.inference.prompts import OFF, ON, PromptCanvas
from napari_espmedsam.inference.segmenter import Segmenter
from training.corrections import BRUSH
from training.data import Sample, read_pair
from training.evaluate import LabelledSet
from training.prompt_study import studied
from training.scores import result_file
from training.tables import markdown

Mask = NDArray[np.bool_]

#: At most this many objects of an image are corrected each way, evenly spaced in reading order.
OBJECTS = 5
#: Specks are nobody's object: the least area in px of the image.
MIN_AREA = 16
#: An object is gone, or missed, where less than this share of its px is foreground.
GONE = 0.1
#: A missed object is found where at least this share of its px is foreground.
FOUND = 0.5


@dataclass(frozen=True)
class Correction:
    """What one correction did.

    Attributes
    ----------
    dataset, name, modality : str
        The image.
    kind : str
        "off" or "on".
    covered : float
        Share of the object's px that are foreground after the correction, 0 to 1.
    changed : float
        Share of the px outside the object and the cells that were set that changed, 0 to 1.
    """

    dataset: str
    name: str
    modality: str
    kind: str
    covered: float
    changed: float

    @property
    def followed(self) -> bool:
        """Whether the mask did as it was told."""
        return self.covered < GONE if self.kind == "off" else self.covered >= FOUND


def cells_of_object(part: Mask, canvas: PromptCanvas) -> Mask:
    """Cells that hold any of an object: the stroke of a user who covers it.

    Parameters
    ----------
    part : ndarray of bool
        (H, W) in px of the image.
    canvas : PromptCanvas
        Of the same image.

    Returns
    -------
    ndarray of bool
        (rows, columns) of the canvas. A mask prompt is brushed a little beyond the object.
    """
    height, width = canvas.geometry.model_shape
    plane = cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0
    if canvas.cell == 1:
        plane = cv2.dilate(plane.astype(np.uint8), np.ones((2 * BRUSH + 1,) * 2, np.uint8)) > 0
    tensor = torch.from_numpy(plane.astype(np.float32))[None, None]
    cells = F.max_pool2d(tensor, canvas.cell, canvas.cell, ceil_mode=True)
    return np.asarray(cells[0, 0].numpy() > 0)


def objects_to_correct(mask: Mask, other: Mask) -> list[Mask]:
    """Objects of a mask that another mask lacks, at most :data:`OBJECTS`, evenly spaced."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    parts = []
    for i in range(1, count):
        part = labels == i
        if stats[i, cv2.CC_STAT_AREA] >= MIN_AREA and other[part].mean() < GONE:
            parts.append(part)
    n = min(OBJECTS, len(parts))
    return [parts[k * len(parts) // n] for k in range(n)]


def correct_image(
    segmenter: Segmenter, sample: Sample, modality: str, *, dataset: str = ""
) -> list[Correction]:
    """Correct one image's objects, each by itself and from the model's own prompt."""
    image, truth = read_pair(sample)
    encoding = segmenter.encode(image, modality)
    threshold = segmenter.header.threshold_for(modality)
    own = segmenter.decode(encoding).array >= threshold
    wanted = [("off", part, OFF) for part in objects_to_correct(own, np.zeros_like(own))]
    wanted += [("on", part, ON) for part in objects_to_correct(truth, own)]
    found = []
    for kind, part, state in wanted:
        edits = np.where(cells_of_object(part, encoding.canvas), state, -1).astype(np.int8)
        after = segmenter.decode(encoding, edits=edits).array >= threshold
        elsewhere = ~part & ~_on_image(edits >= 0, encoding)
        changed = (own ^ after)[elsewhere]
        found.append(
            Correction(
                dataset,
                sample.name,
                modality,
                kind,
                float(after[part].mean()),
                float(changed.mean()) if changed.size else 0.0,
            )
        )
    return found


def _on_image(cells: Mask, encoding: Encoding) -> Mask:
    """Pixels of the image that lie in cells."""
    height, width = encoding.geometry.image_shape
    (sy, sx), (ty, tx) = encoding.canvas.image_affine()
    rows = np.clip(np.round((np.arange(height) - ty) / sy), 0, cells.shape[0] - 1).astype(int)
    columns = np.clip(np.round((np.arange(width) - tx) / sx), 0, cells.shape[1] - 1).astype(int)
    return cells[np.ix_(rows, columns)]


def correction_study(
    segmenter: Segmenter,
    sets: Sequence[LabelledSet],
    *,
    modality: str | None = None,
    limit: int | None = None,
    table: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Correction]:
    """Correct objects of labelled images.

    Parameters
    ----------
    segmenter : Segmenter
        A checkpoint whose prompt can be edited.
    sets : sequence of LabelledSet
        Images and masks; their samples name the modality.
    modality : str, optional
        Instead of the samples' own.
    limit : int, optional
        At most this many images of each set, evenly spaced.
    table : Path, optional
        Markdown.
    report : callable
        Receives one line per image.

    Returns
    -------
    list of Correction
        One per object.

    Raises
    ------
    InputError
        If the model takes no prompt, or an image cannot be read.
    """
    corrections: list[Correction] = []
    for dataset, sample, place in studied(sets, limit):
        wanted = modality or sample.modality or segmenter.modalities[0]
        new = correct_image(segmenter, sample, wanted, dataset=dataset)
        corrections += new
        followed = sum(c.followed for c in new)
        report(f"{place}: {followed} of {len(new)} corrections followed")
    if table is not None:
        with result_file(table) as temporary:
            temporary.write_text(correction_table(corrections), encoding="utf-8")
    return corrections


def correction_table(corrections: Sequence[Correction]) -> str:
    """Share of corrections that the mask followed, by set, as Markdown."""
    rows = []
    for key in dict.fromkeys((c.modality, c.dataset) for c in corrections):
        of_set = [c for c in corrections if (c.modality, c.dataset) == key]
        row = [*key]
        for kind in ("off", "on"):
            of_kind = [c for c in of_set if c.kind == kind]
            row.append(_share(of_kind))
        row.append(f"{100 * mean(c.changed for c in of_set):.2f} %")
        rows.append(row)
    header = ["modality", "set", "switched off: gone", "switched on: found", "changed elsewhere"]
    notes = [
        f"Gone: less than {100 * GONE:.0f} % of the object's px stay foreground. Found: at least "
        f"{100 * FOUND:.0f} % of a missed object's px become foreground. At most {OBJECTS} objects "
        "of an image each way. Changed elsewhere: share of the px outside the object and its "
        "cells.",
    ]
    return "\n".join([*markdown(header, rows), "", *notes, ""])


def _share(corrections: Sequence[Correction]) -> str:
    if not corrections:
        return "none"
    followed = sum(c.followed for c in corrections)
    return f"{100 * followed / len(corrections):.0f} % (n = {len(corrections)})"

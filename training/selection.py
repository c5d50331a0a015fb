"""Choosing a threshold, and what it must not be chosen by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from napari_espmedsam.errors import InputError
from training.data import Sample
from training.scores import ImageScore

#: What the figures of each split are good for.
SPLIT_NOTES = {
    "train": "trained models have seen these images: no measure of quality",
    "val": "weights and thresholds are selected on these images: no final score",
    "test": "held out, for the final score alone: select nothing by it",
}


def check_selection(samples: Sequence[Sample]) -> None:
    """Refuse to select anything by images that are kept for the final score.

    Parameters
    ----------
    samples : sequence of Sample
        What a threshold, a recipe or weights would be selected by.

    Raises
    ------
    InputError
        If a sample belongs to the split "test", or lies in a pack whose ``splits.json`` puts it
        there, whatever the sample itself says. Packs of unseen domains have all images in "test".
    """
    held: dict[Path, set[str]] = {}
    for sample in samples:
        pack = sample.image.resolve().parent.parent
        if pack not in held:
            index = pack / "splits.json"
            splits = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
            held[pack] = set(splits.get("test", ()))
        if sample.split == "test" or sample.image.stem in held[pack]:
            raise InputError(
                f"{sample.name} of {pack.name} is a test image, kept for the final score: no "
                "threshold may be chosen by it. Compare thresholds on the split 'val', then "
                "measure 'test' once, at one threshold."
            )


@dataclass(frozen=True)
class Choice:
    """The best of several thresholds, the mean Dice there, and of how many images."""

    threshold: float
    dice: float
    n: int


def choose_thresholds(scores: Sequence[ImageScore]) -> dict[str, Choice]:
    """Choose for each modality the threshold with the highest mean Dice.

    Parameters
    ----------
    scores : sequence of ImageScore
        Of one model on validation images, each image at every threshold.

    Returns
    -------
    dict of str to Choice
        By modality. Of equal thresholds the one nearest to 0.5 is taken.

    Raises
    ------
    InputError
        If a score is of the split "test".
    """
    if any(s.split == "test" for s in scores):
        raise InputError("No threshold may be chosen on the split 'test'. Choose it on 'val'.")
    choices: dict[str, Choice] = {}
    for cut in sorted({s.threshold for s in scores}, key=lambda c: (abs(c - 0.5), c)):
        for modality in dict.fromkeys(s.modality for s in scores):
            dice = [s.dice for s in scores if (s.threshold, s.modality) == (cut, modality)]
            if dice and (modality not in choices or mean(dice) > choices[modality].dice):
                choices[modality] = Choice(cut, mean(dice), len(dice))
    return choices

"""What was measured: one row per image, one summary per set, and the CSV file between them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from napari_espmedsam.errors import InputError, OutputError
from training.metrics import bootstrap_interval
from training.run import whole_file


@dataclass(frozen=True)
class ImageScore:
    """Agreement on one image, and all that says which image, model and threshold it was.

    Attributes
    ----------
    name, modality : str
        Of the sample; the modality is "" where the checkpoint has one and none was named.
    colour : bool
        Whether the image has colours.
    dice, iou, dice_1024, iou_1024, hd_1024, empty_prediction, empty_truth
        See :class:`training.metrics.Agreement`.
    group : str
        Patient, slide or source image.
    model, dataset, split : str
        What was measured on what.
    threshold : float
        Probability from which a pixel counted as foreground.
    """

    name: str
    modality: str
    colour: bool
    dice: float
    iou: float
    dice_1024: float
    iou_1024: float
    hd_1024: float | None
    empty_prediction: bool
    empty_truth: bool
    group: str
    model: str
    dataset: str
    split: str
    threshold: float


@dataclass(frozen=True)
class Summary:
    """Scores of several images.

    Attributes
    ----------
    n : int
        Number of images.
    mean, median, worst : float
        Dice at the images' own resolution.
    sd : float or None
        Its standard deviation; None for a single image.
    interval : tuple of float or None
        95 % bootstrap interval of the mean Dice, groups drawn as a whole; None for a single group.
    iou, dice_1024, iou_1024 : float
        Means.
    hd_1024 : float or None
        Mean over the images where it is defined; None if it is nowhere.
    undefined_hd : int
        Images whose Hausdorff distance is undefined because a mask is empty.
    empty_predictions, empty_truths : int
        Images with such a mask.
    """

    n: int
    mean: float
    median: float
    sd: float | None
    worst: float
    interval: tuple[float, float] | None
    iou: float
    dice_1024: float
    iou_1024: float
    hd_1024: float | None
    undefined_hd: int
    empty_predictions: int
    empty_truths: int

    @classmethod
    def of(cls, scores: Sequence[ImageScore]) -> Summary:
        """Summarise at least one score."""
        dice = [s.dice for s in scores]
        groups = [(s.dataset, s.group or s.name) for s in scores]
        distances = [s.hd_1024 for s in scores if s.hd_1024 is not None]
        return cls(
            n=len(scores),
            mean=mean(dice),
            median=median(dice),
            sd=stdev(dice) if len(dice) > 1 else None,
            worst=min(dice),
            interval=bootstrap_interval(dice, groups) if len(set(groups)) > 1 else None,
            iou=mean(s.iou for s in scores),
            dice_1024=mean(s.dice_1024 for s in scores),
            iou_1024=mean(s.iou_1024 for s in scores),
            hd_1024=mean(distances) if distances else None,
            undefined_hd=len(scores) - len(distances),
            empty_predictions=sum(s.empty_prediction for s in scores),
            empty_truths=sum(s.empty_truth for s in scores),
        )


_COLUMNS = [field.name for field in fields(ImageScore)]
_PARSERS: dict[Any, Callable[[str], Any]] = {
    "str": str,
    "bool": lambda text: {"True": True, "False": False}[text],
    "float": float,
    "float | None": lambda text: float(text) if text else None,
}


@contextmanager
def result_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name that becomes ``path`` when the block has succeeded.

    Raises
    ------
    OutputError
        If the file cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            yield temporary
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error}). Name another file.") from error


def write_scores(path: Path, scores: Sequence[ImageScore]) -> None:
    """Write one CSV row per image, complete or not at all; an undefined distance stays empty."""
    with result_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for score in scores:
            writer.writerow(f"{v:.6f}" if isinstance(v, float) else v for v in astuple(score))


def read_scores(path: Path) -> list[ImageScore]:
    """Read what :func:`write_scores` wrote.

    Raises
    ------
    InputError
        If the file is missing or is no such table.
    """
    if not path.is_file():
        raise InputError(f"There is no file of scores {path}. Make it with evaluate --csv.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return [
            ImageScore(**{f.name: _PARSERS[f.type](row[f.name]) for f in fields(ImageScore)})
            for row in rows
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no table that evaluate --csv wrote ({error!r}); it needs the columns "
            f"{', '.join(_COLUMNS)}. Write it again."
        ) from error

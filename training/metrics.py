"""Agreement of two masks: Dice, IoU and Hausdorff distance, and their mean over images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

#: Side in px of the square grid on which the papers compare masks.
PAPER_SIDE = 1024

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Agreement of a predicted and a true mask."""

    dice: float
    iou: float


def overlap(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Overlap:
    """Dice and IoU of two masks of the same shape; both are 1 where both masks are empty."""
    both = int(np.count_nonzero(prediction & truth))
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    if total == 0:
        return Overlap(1.0, 1.0)
    return Overlap(2 * both / total, both / (total - both))


def hausdorff(prediction: Mask, truth: Mask) -> float | None:
    """Hausdorff distance between the outlines of two masks.

    Parameters
    ----------
    prediction, truth : ndarray of bool, (H, W)
        An outline is the mask's pixels that have a neighbour outside it among the four, or lie at
        the image border.

    Returns
    -------
    float or None
        The largest distance in px from a pixel of one outline to the nearest one of the other.
        None if a mask is empty: the distance is then undefined.
    """
    one, other = _outline(prediction), _outline(truth)
    if not len(one) or not len(other):
        return None
    there = cKDTree(other).query(one)[0].max()
    back = cKDTree(one).query(other)[0].max()
    return float(max(there, back))


def _outline(mask: Mask) -> NDArray[np.intp]:
    return np.argwhere(mask & ~binary_erosion(mask))


def on_grid(mask: Mask, side: int = PAPER_SIDE) -> Mask:
    """Resize a mask (H, W) to (side, side), each pixel taking the value of the nearest one."""
    resized = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
    return resized > 0


@dataclass(frozen=True)
class Agreement:
    """What is measured on one image.

    Attributes
    ----------
    dice, iou : float
        At the image's own resolution, 0 to 1.
    dice_1024, iou_1024 : float
        With both masks resized to 1024 x 1024, as in the papers.
    hd_1024 : float or None
        Hausdorff distance in px of that grid; None where a mask is empty.
    empty_prediction, empty_truth : bool
        Which mask holds no foreground at the image's own resolution.
    """

    dice: float
    iou: float
    dice_1024: float
    iou_1024: float
    hd_1024: float | None
    empty_prediction: bool
    empty_truth: bool


def agreement(prediction: Mask, truth: Mask) -> Agreement:
    """Compare two masks (H, W), at their own resolution and at 1024 x 1024."""
    own = overlap(prediction, truth)
    large = on_grid(prediction), on_grid(truth)
    paper = overlap(*large)
    return Agreement(
        dice=own.dice,
        iou=own.iou,
        dice_1024=paper.dice,
        iou_1024=paper.iou,
        hd_1024=hausdorff(*large),
        empty_prediction=not prediction.any(),
        empty_truth=not truth.any(),
    )


def bootstrap_interval(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : sequence of float
        One per image, at least one.
    groups : sequence, optional
        Patient, slide or source image of every value. Whole groups are drawn, because images of
        one group are no independent evidence; every value is its own group when None.
    level : float
        Coverage.
    resamples, seed : int
        Number of bootstrap samples and their seed.
    """
    labels = range(len(values)) if groups is None else groups
    members: dict[Hashable, list[float]] = {}
    for label, value in zip(labels, values, strict=True):
        members.setdefault(label, []).append(value)
    sums = np.array([sum(part) for part in members.values()])
    counts = np.array([len(part) for part in members.values()])
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

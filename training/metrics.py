"""Overlap of masks, per image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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

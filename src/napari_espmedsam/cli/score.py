"""How well labels fit the truth: what the demo prints about its samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MATCH_IOU = 0.5


class Score(NamedTuple):
    """Result of `score_labels`.

    Attributes
    ----------
    planted : int
        Objects of the truth, counted on every plane.
    found : int
        How many of them have an object of their own that overlaps by an IoU above 0.5.
    extra : int
        Objects that fit none.
    dice : float
        Overlap of the foreground, 0 to 1; 1 where both are empty.
    """

    planted: int
    found: int
    extra: int
    dice: float


def score_labels(labels: NDArray[Any], truth: NDArray[Any]) -> Score:
    """Compare labels with the truth, plane by plane.

    Parameters
    ----------
    labels, truth : ndarray of integer, (..., Y, X)
        Ids; 0 is background.

    Returns
    -------
    Score
        Above an IoU of 0.5 no object can fit two others, so no assignment has to be chosen.
    """
    planted = found = objects = 0
    for index in np.ndindex(truth.shape[:-2]):
        n_truth, n_labels, n_found = _match(labels[index], truth[index])
        planted, objects, found = planted + n_truth, objects + n_labels, found + n_found
    both = int(np.count_nonzero((labels > 0) & (truth > 0)))
    total = int(np.count_nonzero(labels)) + int(np.count_nonzero(truth))
    return Score(planted, found, objects - found, 2 * both / total if total else 1.0)


def _match(labels: NDArray[Any], truth: NDArray[Any]) -> tuple[int, int, int]:
    """Count the objects of the truth, those of the labels, and the pairs."""
    truth_ids, t = np.unique(truth, return_inverse=True)
    label_ids, p = np.unique(labels, return_inverse=True)
    overlap = np.zeros((len(truth_ids), len(label_ids)), np.int64)
    np.add.at(overlap, (t.ravel(), p.ravel()), 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0, keepdims=True) - overlap
    iou = (overlap / union)[truth_ids > 0][:, label_ids > 0]
    return iou.shape[0], iou.shape[1], int(np.count_nonzero(iou > MATCH_IOU))

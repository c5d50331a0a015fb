"""How far a result can be trusted: per pixel, per object, and against another modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.overlap import (
    Labels,
    as_labels,
    check_same_shape,
    compact,
    find_runs,
    sum_by_index,
)

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Scores = dict[str, npt.NDArray[Any]]

MARGIN = 0.15
"""How much more decisive another modality has to be before it is suggested."""

DECISIVE = 0.6
"""Decisiveness below which no modality is suggested at all."""


def confidence(probability: Floats) -> Floats:
    """Tell how sure each pixel is of being foreground or background.

    Parameters
    ----------
    probability : ndarray
        Any shape, float, 0 to 1.

    Returns
    -------
    ndarray
        Same shape, float32: ``|2 p - 1|``, 0 where the model cannot tell (p = 0.5), 1 where it is
        certain.
    """
    return np.abs(2 * np.asarray(probability, dtype=np.float32) - 1)


def object_scores(
    labels: Labels,
    probability: Floats,
    prompt_on: Mask | None = None,
    other: Mask | None = None,
) -> Scores:
    """Score every object of a plane.

    Parameters
    ----------
    labels : ndarray
        (H, W) integer, 0 is background.
    probability : ndarray
        (H, W) float, 0 to 1.
    prompt_on : ndarray, optional
        (H, W) bool: pixels under prompt cells that are on.
    other : ndarray, optional
        (H, W) bool: what another model marks as foreground.

    Returns
    -------
    dict
        Columns of length n, ordered by label:

        - ``label``: int64.
        - ``mean_probability``: float64, over the object's pixels.
        - ``prompt_agreement``: share of the object's pixels under cells that are on; NaN where
          `prompt_on` is None.
        - ``agreement_with_other``: share of its pixels that the other model marks too; NaN where
          `other` is None.
        - ``doubt``: 0 (sure) to 1,
          ``1 - max(0, 2 mean_probability - 1) * (1 + prompt_agreement) / 2
          * (1 + agreement_with_other) / 2``,
          with 1 for what is not given. So an object at p = 0.5 is wholly doubtful, and a prompt
          or a model that contradicts takes away up to half of the trust.

    Raises
    ------
    InputError
        If shapes differ or labels are no ids.
    """
    labels, probability = as_labels(labels), np.asarray(probability)
    given = {"prompt_on": prompt_on, "other": other}
    masks = {k: np.asarray(v, dtype=bool) for k, v in given.items() if v is not None}
    check_same_shape(labels=labels, probability=probability, **masks)
    runs = find_runs(labels, *masks.values())
    inside = runs.values[0] > 0
    ids, index = compact(runs.values[0][inside])
    length = runs.length[inside]
    pixels = sum_by_index(index, length, ids.size)
    sums = _sum_of_runs(probability, runs.start)[inside]
    mean = sum_by_index(index, sums, ids.size) / pixels
    agreement = {"prompt_on": np.full(ids.size, np.nan), "other": np.full(ids.size, np.nan)}
    for name, run in zip(masks, runs.values[1:], strict=True):
        agreement[name] = sum_by_index(index, length * run[inside], ids.size) / pixels
    trust = np.clip(2 * mean - 1, 0, 1)
    for share in agreement.values():
        trust = trust * (1 + np.nan_to_num(share, nan=1.0)) / 2
    return {
        "label": ids.astype(np.int64),
        "mean_probability": mean,
        "prompt_agreement": agreement["prompt_on"],
        "agreement_with_other": agreement["other"],
        "doubt": 1 - trust,
    }


def review_order(scores: Scores) -> npt.NDArray[np.int64]:
    """List labels for a review, the most doubtful first.

    Parameters
    ----------
    scores : dict
        Columns ``label`` and ``doubt``, as :func:`object_scores` makes them.

    Returns
    -------
    ndarray
        (n,) int64 labels; equally doubtful ones by their number.
    """
    return scores["label"][np.lexsort((scores["label"], -scores["doubt"]))]


def decisiveness(probability: Floats) -> float:
    """Tell how clear-cut a decoding is.

    The Dice coefficient between the probability and its own mask (p of 0.5 and above), for the
    foreground and for the background; the smaller of the two. Mean confidence would not do: it is
    highest where a model sees nothing at all.

    Parameters
    ----------
    probability : ndarray
        Any shape, float, 0 to 1.

    Returns
    -------
    float
        0 (vague, or nothing set apart: no pixel of foreground, or of background) to 1.
    """
    p = np.asarray(probability)
    if not p.size:
        return 0.0
    marked = p >= 0.5
    total, n_marked = float(p.sum(dtype=np.float64)), int(marked.sum())
    inside = float(p.sum(where=marked, dtype=np.float64))
    if n_marked in (0, p.size):
        return 0.0
    outside = (p.size - n_marked) - (total - inside)  # of 1 - p, where it is not marked
    foreground = 2 * inside / (total + n_marked)
    background = 2 * outside / ((p.size - total) + (p.size - n_marked))
    return min(foreground, background)


def suggest_modality(probabilities: Mapping[str, Floats], current: str) -> str | None:
    """Name a modality that is clearly more sure of an image than the current one.

    Parameters
    ----------
    probabilities : Mapping of str to ndarray
        What the decoder of each modality says about the same plane, (H, W), 0 to 1.
    current : str
        The modality in use; one of them.

    Returns
    -------
    str or None
        The modality of the highest :func:`decisiveness`, of equal ones the first, if that is at
        least 0.6 and exceeds that of `current` by at least 0.15; None otherwise.

    Raises
    ------
    InputError
        If `current` is not among the modalities.
    """
    if current not in probabilities:
        raise InputError(
            f"The modality {current!r} has no probability. Give that of {current!r} beside those "
            f"of {', '.join(probabilities) or 'others'}."
        )
    clear = {name: decisiveness(p) for name, p in probabilities.items()}
    best = max(clear, key=lambda name: clear[name])
    enough = clear[best] >= DECISIVE and clear[best] - clear[current] >= MARGIN
    return best if enough else None


def _sum_of_runs(plane: npt.NDArray[Any], start: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    if not start.size:
        return np.zeros(0)
    return np.add.reduceat(plane.ravel(), start, dtype=np.float64)

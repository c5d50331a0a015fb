"""Run-length coding: a canvas as [value, count, value, count, ...], row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError


def encode_runs(canvas: npt.NDArray[Any]) -> list[int]:
    """Code an array of integers; equal neighbours (also across line ends) become one run."""
    flat = canvas.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    counts = np.diff(starts, append=flat.size)
    runs: list[int] = np.stack([flat[starts].astype(np.int64), counts], axis=1).ravel().tolist()
    return runs


def decode_runs(
    runs: Sequence[int], shape: tuple[int, int], dtype: type[np.integer[Any]]
) -> npt.NDArray[Any]:
    """Give a canvas back; nothing is allocated before values and counts fit.

    Raises
    ------
    InputError
        If the runs do not fill the shape, or hold what the type cannot.
    """
    total, limits = math.prod(shape), np.iinfo(dtype)
    try:
        pairs = np.array(runs, np.int64).reshape(-1, 2)
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError(f"The runs are no pairs of value and count ({error}).") from error
    values, counts = pairs.T
    if not len(counts) or counts.min() < 1 or counts.max() > total or counts.sum() != total:
        raise InputError(
            f"{len(counts)} runs do not fill {shape[0]} x {shape[1]} cells; each count has to be 1 "
            f"or more, and all of them {total} together."
        )
    if values.min() < limits.min or values.max() > limits.max:
        raise InputError(
            f"The runs hold values of {values.min()} to {values.max()}; {limits.min} to "
            f"{limits.max} can be."
        )
    return np.repeat(values.astype(dtype), counts).reshape(shape)

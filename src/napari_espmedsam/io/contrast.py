"""Which pixel values to show as black and white, from few pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.arrays import read_array

Range = tuple[float, float]

PERCENTILES = (0.1, 99.9)
WINDOW = 2048  # side in px of what is looked at where even the smallest level is large
SAMPLE = 2**20  # px of each channel that the percentiles are taken of
CHANNELS = 16  # of more the window is smaller: all of them are looked at


def display_ranges(level: Any, axes: str) -> tuple[Range, ...]:
    """Choose contrast limits for each channel.

    Parameters
    ----------
    level : array-like
        The smallest level of a pyramid. At most the middle 2048 x 2048 px of the middle plane of
        each channel are read, fewer of more than 16 channels; nothing at all of 8-bit images.
    axes : str
        A letter for each dimension of `level`.

    Returns
    -------
    tuple of (float, float)
        One pair per channel, low < high: the whole range of 8-bit and boolean pixels, the
        percentiles 0.1 and 99.9 of others. Empty for colours (axis S).
    """
    if axes.endswith("S"):
        return ()
    n = level.shape[axes.index("C")] if "C" in axes else 1
    dtype = np.dtype(level.dtype)
    if dtype == np.bool_:
        return ((0.0, 1.0),) * n
    if dtype.itemsize == 1:
        info = np.iinfo(dtype)
        return ((float(info.min), float(info.max)),) * n
    sample = read_middle(level, axes)
    channels = np.moveaxis(sample, _kept(axes).index("C"), 0) if "C" in axes else sample[None]
    return tuple(_range(channel) for channel in channels)


def read_middle(level: Any, axes: str) -> NDArray[Any]:
    """Read the middle 2048 x 2048 px at most of the middle plane, with all channels and colours."""
    return read_array(level[_middle(level.shape, axes)])


def _middle(shape: Sequence[int], axes: str) -> tuple[Any, ...]:
    index: list[Any] = []
    channels = math.prod(n for n, axis in zip(shape, axes, strict=True) if axis in "CS")
    window = int(WINDOW * min(1.0, math.sqrt(CHANNELS / max(1, channels)))) or 1
    for n, axis in zip(shape, axes, strict=True):
        if axis in "CS":
            index.append(slice(None))
        elif axis in "YX":
            start = max(0, (n - window) // 2)
            index.append(slice(start, start + window))
        else:
            index.append(n // 2)
    return tuple(index)


def _kept(axes: str) -> str:
    return "".join(axis for axis in axes if axis in "CYX")


def _range(values: NDArray[Any]) -> Range:
    step = math.ceil(math.sqrt(values.size / SAMPLE)) or 1
    low, high = _percentiles(values[::step, ::step])
    if low < high:
        return (low, high)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, above(low))


def _percentiles(values: NDArray[Any]) -> Range:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (0.0, 0.0)
    low, high = (float(v) for v in np.percentile(finite, PERCENTILES))
    return (low, high)


def above(low: float) -> float:
    """Return the white that goes with the black of a flat image: 1 more, as far as that is more."""
    return low + max(1.0, abs(low) * 2.0**-22)  # a step that float32 has, too

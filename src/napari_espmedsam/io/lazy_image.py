"""An image that has been opened but not read: its levels, axes, sizes and channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class LazyImage:
    """An opened image; pixels are read where a level is sliced and computed.

    Attributes
    ----------
    source : Path
        The file or folder.
    name : str
        What to call it: the file's name without its ending.
    levels : tuple of dask.array.Array
        The same image at falling size, the whole one first; one level where there is no pyramid.
        The file's own dtype. All have the axes of `axes` and differ in Y and X (and Z) only.
        Computing a part raises InputError if the file was changed or cannot be decoded there.
    axes : str
        One letter per dimension, out of ``TZCYX`` and ``S`` (colour samples: red, green, blue;
        always last and always three). Axes of length one are dropped.
    spacing : Mapping of str to float
        Size of one step of level 0 along ``Z``, ``Y``, ``X`` in micrometres and along ``T`` in
        seconds. Holds only the axes for which the file states a size.
    channel_names : tuple of str
        One for each channel; empty where there is no axis C or the file does not name them.
    contrast_limits : tuple of (float, float)
        Black and white of each channel (one pair where there is no axis C), in pixel values;
        empty for colours.
    n_series : int
        Images in the file, of which this is one.
    warnings : tuple of str
        What is wrong with the file although the rest of it can be used; sentences for users.
    """

    source: Path
    name: str
    levels: tuple[Any, ...]
    axes: str
    spacing: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    contrast_limits: tuple[Range, ...] = ()
    n_series: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of level 0, colour samples included."""
        return tuple(self.levels[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return np.dtype(self.levels[0].dtype)

    @property
    def rgb(self) -> bool:
        """True where the last axis holds red, green and blue."""
        return self.axes.endswith("S")

    @property
    def n_channels(self) -> int:
        """Number of channels: 1 where there is no axis C."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else 1

    @property
    def units(self) -> Mapping[str, str]:
        """Unit of each axis but C and S: micrometer, second, or pixel where unstated."""
        known = {a: "second" if a == "T" else "micrometer" for a in self.spacing}
        return {a: known.get(a, "pixel") for a in self.axes if a not in "CS"}

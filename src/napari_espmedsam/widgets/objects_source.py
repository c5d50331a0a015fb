"""Labels layer -> plain arrays that a worker can measure, and the image that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import InputError
from napari_espmedsam.widgets.layers import (
    METADATA_KEY,
    axes_from_labels,
    geometry_of,
    level_zero,
)

ROLE = "role"
"""Key in our record that marks layers to work with, e.g. ``{"role": "prompts"}``."""

STACK = "TZYX"
_MAX_SEARCH = 2**24  # px that may be looked through in the GUI thread
_GUESSED = {2: "YX", 3: "ZYX", 4: "TZYX"}
Spacing = dict[str, tuple[float, str]]


@dataclass(frozen=True, eq=False)
class ObjectSource:
    """What is measured: arrays as lazy as those of the layers, and no layer.

    Attributes
    ----------
    data : array-like
        Ids, as the layer holds them.
    data_axes : str
        One letter out of ``TZCYX`` for each axis of `data`; C has length 1.
    spacing : dict
        Step between two samples along T, Z, Y and X, and its unit: ``(0.5, "micrometer")``.
    image : array-like or None
        The image that the objects were found in.
    image_axes : str
        One letter out of ``TZCYX`` for each of its axes.
    channel : int, slice or None
        What was segmented along C: a channel, or the three colours.
    """

    data: Any
    data_axes: str
    spacing: Spacing
    image: Any = None
    image_axes: str = ""
    channel: int | slice | None = None

    @property
    def axes(self) -> str:
        """Axes of the arrays that are read: letters out of ``TZYX``, in that order."""
        return "".join(letter for letter in STACK if letter in self.data_axes)

    @property
    def leading_axes(self) -> str:
        """Axes over which planes are counted: T and Z in the order of the layer."""
        return "".join(letter for letter in self.data_axes if letter in "TZ")

    def read_labels(self) -> Any:
        """Return ids with axes `axes`: a view, or as lazy as the data where that can be."""
        return _ordered(self.data, self.data_axes, self.axes, 0)

    def read_image(self) -> Any | None:
        """Return the image with axes `axes`, colours as a last axis; None where it is unknown."""
        if self.image is None:
            return None
        axes = self.axes + "C" if isinstance(self.channel, slice) else self.axes
        return _ordered(self.image, self.image_axes, axes, self.channel)

    def pixel_of(self, label: int, start: Sequence[int], stop: Sequence[int]) -> list[float]:
        """Find a data coordinate of the layer in the thick of an object.

        Parameters
        ----------
        label : int
            The object.
        start, stop : sequence of int
            Bounding box, half open, one number for each letter of `axes`; nothing else is read,
            and of a huge box nothing at all: the point is its middle then.
        """
        if math.prod(np.subtract(stop, start).tolist()) > _MAX_SEARCH:
            return self.layer_point([(a + b) // 2 for a, b in zip(start, stop, strict=True)])
        box = dict(zip(self.axes, zip(start, stop, strict=True), strict=True))
        key = tuple(slice(*box.get(letter, (0, 1))) for letter in self.data_axes)
        inside = _ordered(read_array(self.data[key]), self.data_axes, self.axes, 0) == label
        found = pixel_within(inside).tolist()
        return self.layer_point([a + b for a, b in zip(found, start, strict=True)])

    def layer_point(self, point: Sequence[float]) -> list[float]:
        """Turn a coordinate along `axes` into one in the data of the layer."""
        place = dict(zip(self.axes, point, strict=True))
        return [float(place.get(letter, 0)) for letter in self.data_axes]

    def stack_point(self, point: Sequence[float]) -> list[float]:
        """Turn a coordinate in the data of the layer into one along `axes`."""
        place = dict(zip(self.data_axes, point, strict=True))
        return [float(place[letter]) for letter in self.axes]


def our_record(layer: Any) -> dict[str, Any] | None:
    """Return what we wrote into the metadata of a result of ours; None for all other layers."""
    record = layer.metadata.get(METADATA_KEY)
    return record if isinstance(record, dict) and ROLE not in record else None


def is_tool(layer: Any) -> bool:
    """Whether a layer of ours is there to work with, such as the prompts, and is no result."""
    record = layer.metadata.get(METADATA_KEY)
    return isinstance(record, dict) and ROLE in record


def source_of(layer: Any, image: Any | None = None) -> ObjectSource:
    """Describe the objects of a labels layer; nothing is read.

    Parameters
    ----------
    layer
        A ``napari.layers.Labels``.
    image
        The image layer that belongs to it, see :func:`find_image`.

    Raises
    ------
    InputError
        If the layer has too many axes.
    """
    axes, record = axes_of(layer), our_record(layer)
    geometry = geometry_of(layer)
    steps = np.linalg.norm(geometry.world_matrix()[:-1, :-1], axis=0)
    spacing = {
        letter: (float(step), unit)
        for letter, step, unit in zip(axes, steps, geometry.units, strict=True)
        if letter != "C"
    }
    source = ObjectSource(level_zero(layer), axes, spacing)
    if image is None or record is None:
        return source
    return _with_image(source, level_zero(image), record)


def axes_of(layer: Any) -> str:
    """Return one letter out of ``TZCYX`` for each axis of a labels layer; C has length 1.

    Raises
    ------
    InputError
        If there are more axes than letters, or channels.
    """
    record = our_record(layer) or {}
    shape = tuple(int(n) for n in level_zero(layer).shape)
    axes = str(record.get("axes", "")).replace("S", "C")
    if len(axes) > len(shape):  # a channel axis that the labels do not have
        axes = axes.replace("C", "")
    if len(axes) != len(shape):
        axes = axes_from_labels(layer.axis_labels) or ""
    if len(axes) != len(shape):
        axes = _GUESSED.get(len(shape), "")
    if len(axes) != len(shape) or ("C" in axes and shape[axes.index("C")] != 1):
        raise InputError(
            f"'{layer.name}' has {len(shape)} axes {tuple(layer.axis_labels)}. The table takes up "
            "to four: T, Z, Y and X. Split the layer along the others."
        )
    return axes


def find_image(viewer: Any, layer: Any) -> Any | None:
    """Return the image layer that a layer of ours was made from.

    It is known by the name, shape and data type that the run wrote into the metadata; None where
    no image layer has all three.
    """
    record = our_record(layer)
    if record is None:
        return None
    for other in viewer.layers:
        if other.name == record.get("image") and _fits(other, record):
            return other
    return None


def _fits(layer: Any, record: dict[str, Any]) -> bool:
    if not hasattr(layer, "rgb"):  # only images have colours
        return False
    data = level_zero(layer)
    shape = [int(n) for n in data.shape]
    return shape == list(record.get("shape", ())) and str(data.dtype) == record.get("dtype")


def _with_image(source: ObjectSource, data: Any, record: dict[str, Any]) -> ObjectSource:
    """Add the channel that was segmented, or the colours; nothing where that is unclear."""
    axes = str(record.get("axes", "")).replace("S", "C")
    channel = slice(0, 3) if record.get("rgb") else record.get("channel")
    known = len(axes) == len(data.shape) and set(axes) - {"C"} == set(source.axes)
    if not known or ("C" in axes and channel is None):
        return source
    return replace(source, image=data, image_axes=axes, channel=channel)


def _ordered(data: Any, axes: str, wanted: str, picked: int | slice | None) -> Any:
    """Return a view with axes in the order of `wanted`; of C only what is picked."""
    if axes == wanted:
        return data
    if not hasattr(data, "transpose"):  # zarr and alike
        data = read_array(data)
    if "C" in axes:
        data = data[tuple(picked if letter == "C" else slice(None) for letter in axes)]
        axes = axes if "C" in wanted else axes.replace("C", "")
    return data.transpose([axes.index(letter) for letter in wanted])


def pixel_within(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Find a pixel in the thick of an object.

    The middle of a bounding box may lie beside a curved object, on a plane without it, or where
    it was at another time. So the plane on which most of it lies is taken, then the pixel of the
    object that is nearest to its centre there.

    Parameters
    ----------
    inside : ndarray
        (..., H, W) bool, the object within its bounding box.

    Returns
    -------
    ndarray
        (inside.ndim,) int64, index into it; the middle where the object is gone.
    """
    if not inside.any():
        return np.array(inside.shape, np.int64) // 2
    counts = inside.sum(axis=(-2, -1))
    plane = np.unravel_index(int(counts.argmax()), counts.shape)
    pixels = np.argwhere(inside[plane])
    nearest = pixels[np.square(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()]
    return np.array([*plane, *nearest], np.int64)

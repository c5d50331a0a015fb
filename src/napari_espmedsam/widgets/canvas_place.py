"""Where the grid of prompt cells lies on an image layer, and which cells lie under what is drawn.

A layer of cells has no sliders: it always shows the plane that the viewer shows. So it needs no
position along them, only the place of the plane's rows and columns, as napari shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_espmedsam.widgets.layers import Geometry, ImageDescription, Vector

Box = tuple[slice, slice]


class GridView(Protocol):
    """What is needed of ``studio.events.PromptView``."""

    @property
    def scale(self) -> tuple[float, float]:
        """Height and width of a cell in px of the image."""

    @property
    def translate(self) -> tuple[float, float]:
        """Centre of the first cell in px of the image."""

    @property
    def state(self) -> npt.NDArray[np.uint8]:
        """(rows, cols): one value for each cell."""


@dataclass(frozen=True)
class CanvasPlace:
    """Axes and place of a layer that shows one picture of cells.

    Attributes
    ----------
    axes
        One letter per axis of the layer: Y and X in the order of the image, and other axes of
        length 1 where they stand behind one of the two.
    geometry
        Place of the layer.
    """

    axes: str
    geometry: Geometry

    def to_layer(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return (rows, cols) as the layer has it: transposed, with axes of length 1; a view."""
        swapped = picture if self.axes.index("Y") < self.axes.index("X") else picture.T
        others = tuple(i for i, letter in enumerate(self.axes) if letter not in "YX")
        return np.expand_dims(swapped, others)

    def to_picture(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the layer's data as (rows, cols): a view that can be written to."""
        index = tuple(slice(None) if letter in "YX" else 0 for letter in self.axes)
        view = data[index]
        return view if self.axes.index("Y") < self.axes.index("X") else view.T

    def cell_at(self, position: npt.ArrayLike) -> tuple[int, int]:
        """Return row and column under a position in the layer's data; they may lie outside."""
        rounded = np.round(np.asarray(position, dtype=float)).astype(int)
        return int(rounded[self.axes.index("Y")]), int(rounded[self.axes.index("X")])


def place_canvas(image: ImageDescription, axes: str, view: GridView) -> CanvasPlace:
    """Place a layer of cells on an image.

    Parameters
    ----------
    image
        Description of the image layer.
    axes
        One letter of ``TZCYX`` per axis of the layer.
    view
        Size and place of the cells in px of the image.
    """
    first = min(axes.index("Y"), axes.index("X"))
    kept = axes[first:]
    geometry = _last_axes(image.geometry, first)
    for i, letter in enumerate(kept):
        if letter not in "YX":
            geometry = geometry.stretch(i, image.shape[first + i])
    scale = dict(zip("YX", view.scale, strict=True))
    shift = dict(zip("YX", view.translate, strict=True))
    return CanvasPlace(
        kept,
        _resample(
            geometry,
            tuple(scale.get(letter, 1.0) for letter in kept),
            tuple(shift.get(letter, 0.0) for letter in kept),
        ),
    )


def cells_under(view: GridView, corners: npt.ArrayLike) -> Box | None:
    """Find the cells that a rectangle of the image touches.

    Parameters
    ----------
    view
        The cells.
    corners
        (n, 2) rows and columns in px of the image, where centres of pixels are whole numbers: two
        or more corners, or one point.

    Returns
    -------
    tuple of slice or None
        Rows and columns of the cells, at least one; None where the rectangle meets none.
    """
    cells = (np.atleast_2d(corners) - view.translate) / view.scale + 0.5
    parts = []
    for low, high, n in zip(cells.min(axis=0), cells.max(axis=0), view.state.shape, strict=True):
        start = max(math.floor(low), 0)
        stop = min(max(math.ceil(high), math.floor(low) + 1), n)
        if start >= stop:
            return None
        parts.append(slice(start, stop))
    return parts[0], parts[1]


def set_place(layer: Any, geometry: Geometry) -> None:
    """Move a layer to another place."""
    arguments = geometry.layer_arguments()
    for name in ("units", "axis_labels"):
        if tuple(map(str, getattr(layer, name))) == arguments[name]:
            del arguments[name]
    for name, value in arguments.items():
        before = layer.affine.affine_matrix if name == "affine" else getattr(layer, name)
        if name in ("units", "axis_labels") or not np.array_equal(before, value):
            setattr(layer, name, value)  # each costs a look at all layers


def _last_axes(geometry: Geometry, first: int) -> Geometry:
    """Return the place of the last axes, as napari shows a slice.

    Where the leading axes are turned or sheared against the last ones, napari leaves out what
    they would add to a plane's place, and so does this: the cells lie on the picture on the
    screen.
    """
    keep = slice(first, None)
    names = {"units": geometry.units[keep], "axis_labels": geometry.axis_labels[keep]}
    affine = np.asarray(geometry.affine)
    rotate, shear = np.asarray(geometry.rotate), np.asarray(geometry.shear)
    if _is_apart(rotate, first) and _is_apart(shear, first) and _is_apart(affine[:-1, :-1], first):
        return replace(
            geometry,
            scale=geometry.scale[keep],
            translate=geometry.translate[keep],
            rotate=_tuples(rotate[keep, keep]),
            shear=_tuples(shear[keep, keep]),
            affine=_tuples(affine[keep, keep]),
            **names,
        )
    n = geometry.ndim - first
    identity = _tuples(np.eye(n))
    whole = _tuples(geometry.world_matrix()[keep, keep])
    return Geometry((1.0,) * n, (0.0,) * n, identity, identity, whole, **names)


def _resample(geometry: Geometry, scale: Vector, shift: Vector) -> Geometry:
    """Return the place of a coarser grid: its index i lies at ``scale * i + shift`` of the fine."""
    linear = np.asarray(geometry.rotate) @ np.asarray(geometry.shear) @ np.diag(geometry.scale)
    moved = np.asarray(geometry.translate) + linear @ np.asarray(shift)
    return replace(
        geometry,
        scale=tuple(a * b for a, b in zip(geometry.scale, scale, strict=True)),
        translate=tuple(float(t) for t in moved),
    )


def _is_apart(matrix: npt.NDArray[np.float64], first: int) -> bool:
    mixed = np.concatenate([matrix[:first, first:].ravel(), matrix[first:, :first].ravel()])
    return bool(np.abs(mixed).max(initial=0.0) < 1e-9)


def _tuples(matrix: npt.NDArray[np.float64]) -> tuple[Vector, ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)

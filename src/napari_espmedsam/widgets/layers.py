"""napari layer -> frozen description, and the transform that its labels need. No Qt, no torch.

napari aligns layers from their *last* axis. So a channel axis that comes first can simply be
dropped from the result, while one that stands between the sliders and the plane (``ZCYX``) has
to stay as one sample stretched over all channels: without it the Z slider of the image would
move the channel of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError

METADATA_KEY = "napari-espmedsam"
"""Key of our record in ``layer.metadata``."""

_LETTER_OF_LABEL = {
    **dict.fromkeys(("t", "time", "frame", "frames", "timepoint"), "T"),
    **dict.fromkeys(("z", "slice", "slices", "depth", "plane"), "Z"),
    **dict.fromkeys(("c", "ch", "channel", "channels", "band"), "C"),
    **dict.fromkeys(("y", "row", "rows", "height"), "Y"),
    **dict.fromkeys(("x", "col", "column", "columns", "width"), "X"),
}

Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """Where a layer of n axes stands in the world, as napari keeps it.

    Attributes
    ----------
    scale, translate
        n floats, in world units per data pixel and in world units.
    rotate, shear
        (n, n) matrices; ``data -> physical`` is ``rotate @ shear @ diag(scale) + translate``.
    affine
        (n + 1, n + 1) homogeneous matrix, ``physical -> world``.
    units, axis_labels
        n names, e.g. ``"micrometer"`` and ``"z"``.
    """

    scale: Vector
    translate: Vector
    rotate: Matrix
    shear: Matrix
    affine: Matrix
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.scale)

    def layer_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that put a new layer at this place."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": np.asarray(self.rotate),
            "shear": np.asarray(self.shear),
            "affine": np.asarray(self.affine),
            "units": self.units,
            "axis_labels": self.axis_labels,
        }

    def world_matrix(self) -> FloatArray:
        """Return the (n + 1, n + 1) homogeneous matrix from data to world coordinates."""
        physical = np.eye(self.ndim + 1)
        physical[:-1, :-1] = self._linear()
        physical[:-1, -1] = self.translate
        world: FloatArray = np.asarray(self.affine) @ physical
        return world

    def drop(self, axis: int, index: int) -> Geometry:
        """Return the geometry of the hyperplane at ``index`` of ``axis``, with that axis gone.

        The remaining axes keep their world positions, also when rotation, shear or affine shift
        every channel (as a chromatic registration does).
        """
        keep = [i for i in range(self.ndim) if i != axis]
        names = {
            "units": tuple(self.units[i] for i in keep),
            "axis_labels": tuple(self.axis_labels[i] for i in keep),
        }
        rotate, shear = np.asarray(self.rotate), np.asarray(self.shear)
        if _is_coupled(rotate, axis) or _is_coupled(shear, axis):
            # No rotation or shear of the remaining axes alone does the same: compose them.
            return _from_affine(_at(self.world_matrix(), keep, axis, index), names)
        position = self.translate[axis] + self._linear()[axis, axis] * index
        return replace(
            self,
            scale=tuple(self.scale[i] for i in keep),
            translate=tuple(self.translate[i] for i in keep),
            rotate=_tuples(rotate[np.ix_(keep, keep)]),
            shear=_tuples(shear[np.ix_(keep, keep)]),
            affine=_tuples(_at(np.asarray(self.affine), keep, axis, position)),
            **names,
        )

    def stretch(self, axis: int, count: int) -> Geometry:
        """Return the geometry in which one sample of ``axis`` covers ``count`` samples of it."""
        shift = self._linear()[:, axis] * (count - 1) / 2
        scale = list(self.scale)
        scale[axis] *= count
        return replace(
            self,
            scale=tuple(scale),
            translate=tuple(float(t) for t in np.asarray(self.translate) + shift),
        )

    def _linear(self) -> FloatArray:
        linear: FloatArray = np.asarray(self.rotate) @ np.asarray(self.shear) @ np.diag(self.scale)
        return linear


@dataclass(frozen=True)
class ImageDescription:
    """What the form and the worker need to know of an image layer.

    Attributes
    ----------
    name
        Name of the layer.
    shape
        Shape of level 0 as the layer's axes see it: without the colour samples of an RGB image.
    dtype
        Name of the data type.
    rgb
        Whether each pixel holds 3 or 4 colour samples.
    multiscale
        Whether the layer is a pyramid; level 0 is the one that is segmented.
    geometry
        Place of the layer in the world.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    rgb: bool
    multiscale: bool
    geometry: Geometry

    @property
    def ndim(self) -> int:
        """Number of axes, without the colour samples."""
        return len(self.shape)


@dataclass(frozen=True)
class ResultPlan:
    """Shape and place of the labels of one image.

    Attributes
    ----------
    shape
        Shape of the labels; length 1 at a channel axis that had to stay.
    axes
        One letter of ``TZCYX`` per axis of the labels.
    geometry
        Place of the labels.
    """

    shape: tuple[int, ...]
    axes: str
    geometry: Geometry

    def plane_of(self, labels: Any, plane: dict[str, int]) -> Any:
        """Return a writable (H, W) view of one plane, e.g. ``{"Z": 3}``, of the labels array."""
        index = tuple(
            slice(None) if letter in "YX" else plane.get(letter, 0) for letter in self.axes
        )
        view = labels[index]
        return view if self.axes.index("Y") < self.axes.index("X") else view.T


def level_zero(layer: Any) -> Any:
    """Return the full-resolution array of an image layer, still lazy where it was."""
    return layer.data[0] if layer.multiscale else layer.data


def describe(layer: Any) -> ImageDescription:
    """Describe a napari image layer; nothing of it is read or changed.

    Parameters
    ----------
    layer
        A ``napari.layers.Image``.
    """
    data = level_zero(layer)
    shape = tuple(int(n) for n in data.shape)
    return ImageDescription(
        name=str(layer.name),
        shape=shape[:-1] if layer.rgb else shape,
        dtype=str(data.dtype),
        rgb=bool(layer.rgb),
        multiscale=bool(layer.multiscale),
        geometry=geometry_of(layer),
    )


def geometry_of(layer: Any) -> Geometry:
    """Read the place of any napari layer in the world."""
    return Geometry(
        scale=tuple(float(s) for s in layer.scale),
        translate=tuple(float(t) for t in layer.translate),
        rotate=_tuples(np.asarray(layer.rotate)),
        shear=_tuples(_shear_matrix(np.asarray(layer.shear), layer.ndim)),
        affine=_tuples(np.asarray(layer.affine.affine_matrix)),
        units=tuple(str(unit) for unit in layer.units),
        axis_labels=tuple(str(label) for label in layer.axis_labels),
    )


def axes_from_labels(axis_labels: Sequence[str]) -> str | None:
    """Turn axis labels such as ``("t", "channel", "y", "x")`` into ``"TCYX"``.

    Returns None where a label says nothing (napari's default ``"-1"``), or two say the same.
    """
    letters = [_LETTER_OF_LABEL.get(label.strip().lower()) for label in axis_labels]
    known = [letter for letter in letters if letter is not None]
    if len(known) != len(letters) or len(set(known)) != len(known):
        return None
    return "".join(known) if {"Y", "X"} <= set(known) else None


def plan_result(image: ImageDescription, axes: str, channel: int | None) -> ResultPlan:
    """Return shape and place of the labels of an image.

    Parameters
    ----------
    image
        Description of the image layer.
    axes
        One letter of ``TZCYX`` per axis of the layer.
    channel
        Index along ``C`` that is segmented; needed when ``C`` is in ``axes``.
    """
    if "C" not in axes:
        return ResultPlan(image.shape, axes, image.geometry)
    position = axes.index("C")
    if position == 0:
        return ResultPlan(image.shape[1:], axes[1:], image.geometry.drop(0, channel or 0))
    shape = (*image.shape[:position], 1, *image.shape[position + 1 :])
    return ResultPlan(shape, axes, image.geometry.stretch(position, image.shape[position]))


def plane_at(layer: Any, point: Sequence[float], axes: str) -> dict[str, int]:
    """Return the plane of a layer that a viewer shows.

    Parameters
    ----------
    layer
        The image layer.
    point
        World coordinates of the sliders, ``viewer.dims.point``; it may have more axes than the
        layer, which stands at the last of them.
    axes
        One letter per axis of the layer.

    Returns
    -------
    dict
        Index of each axis other than Y, X and C, e.g. ``{"T": 0, "Z": 7}``.

    Raises
    ------
    InputError
        If the sliders stand outside of the layer, where the viewer shows nothing of it.
    """
    position = np.asarray(layer.world_to_data(np.asarray(point, dtype=float)))
    shape = level_zero(layer).shape
    plane = {}
    for i, letter in enumerate(axes):
        if letter in "YXC":
            continue
        index, count = int(np.round(position[i])), int(shape[i])
        if not 0 <= index < count:
            raise InputError(
                f"The {letter} slider stands outside of '{layer.name}': plane {index}, the image "
                f"has 0 to {count - 1}. Move the slider onto the image or choose all planes."
            )
        plane[letter] = index
    return plane


def _at(matrix: FloatArray, keep: list[int], axis: int, position: float) -> FloatArray:
    """Fix one input coordinate of a homogeneous matrix and drop its output row."""
    last = matrix.shape[0] - 1
    rows = [*keep, last]
    fixed = matrix[np.ix_(rows, rows)].copy()
    fixed[:-1, -1] += matrix[keep, axis] * position
    return fixed


def _from_affine(matrix: FloatArray, names: dict[str, tuple[str, ...]]) -> Geometry:
    n = matrix.shape[0] - 1
    identity = _tuples(np.eye(n))
    return Geometry((1.0,) * n, (0.0,) * n, identity, identity, _tuples(matrix), **names)


def _is_coupled(matrix: FloatArray, axis: int) -> bool:
    off_diagonal = matrix - np.diag(np.diag(matrix))
    coupling = np.abs(np.concatenate([off_diagonal[axis], off_diagonal[:, axis]])).max()
    return bool(coupling > 1e-9)


def _shear_matrix(shear: FloatArray, ndim: int) -> FloatArray:
    """Expand napari's vector of upper triangular values; a matrix is returned as it is."""
    if shear.ndim == 2:
        return shear
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, 1)] = shear
    return matrix


def _tuples(matrix: FloatArray) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in matrix)

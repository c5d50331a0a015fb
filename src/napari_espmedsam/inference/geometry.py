"""Between the pixels of an image and those of a model: scale, padding, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.options import check_values
from napari_espmedsam.inference.request import (
    MAX_SCALE,
    MIN_SCALE,
    SegmentRequest,
    check_one_scale,
)
from napari_espmedsam.inference.tiling import GRID, TileGrid, TileSpec, make_grid

if TYPE_CHECKING:
    from napari_espmedsam.model.checkpoint import InputSpec

MIN_MODEL_SIDE = 16
MAX_MODEL_PIXELS = 2**28  # 16384 x 16384: 1 GB of float32 grey, 3 GB of RGB

Floats = npt.NDArray[np.float32]


def resolve_scale(
    spec: InputSpec,
    *,
    scale: float | None = None,
    diameter: float | None = None,
    pixel_size: float | None = None,
) -> float:
    """Say how many model pixels one image pixel becomes.

    Parameters
    ----------
    spec : InputSpec
        What the checkpoint was trained for.
    scale : float, optional
        The answer itself.
    diameter : float, optional
        Typical object diameter in image px: ``spec.diameter / diameter``.
    pixel_size : float, optional
        Micrometres per image px: ``pixel_size / spec.pixel_size``.

    Returns
    -------
    float
        From 0.05 to 20; ``spec.scale`` when nothing is given.

    Raises
    ------
    InputError
        If more than one is given, the checkpoint does not know the object diameter or pixel size
        of its training, or the scale is out of range.
    """
    named = {"scale": scale, "diameter": diameter, "pixel_size": pixel_size}
    check_values(SegmentRequest, **named)
    check_one_scale(**named)
    if diameter is not None:
        return _within_limits(_trained(spec.diameter, "diameter") / diameter, "diameter", diameter)
    if pixel_size is not None:
        factor = pixel_size / _trained(spec.pixel_size, "pixel_size")
        return _within_limits(factor, "pixel_size", pixel_size)
    return spec.scale if scale is None else float(scale)


def _within_limits(scale: float, name: str, value: float) -> float:
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise InputError(
            f"{name}={value:g} gives a scale of {scale:.3g}, outside {MIN_SCALE} to "
            f"{MAX_SCALE:g}. Check the value and its unit."
        )
    return float(scale)


def _trained(value: float | None, name: str) -> float:
    if value is None:
        raise InputError(
            f"{name} is given, and this checkpoint does not say which {name} it was trained for. "
            "Set scale= instead."
        )
    return value


@dataclass(frozen=True)
class PlaneGeometry:
    """How one plane becomes tiles of model pixels, and how logits come back.

    Attributes
    ----------
    image_shape : tuple of int
        (H, W) of the plane in image px.
    model_shape : tuple of int
        (h, w) of the resized plane in model px, before padding.
    scale : float or None
        Model px per image px; None where the whole plane is squeezed into a square.
    tile : TileSpec or None
        Tile size and halo; None for one tile.
    grid : TileGrid
        The tiles on the padded plane.
    """

    image_shape: tuple[int, int]
    model_shape: tuple[int, int]
    scale: float | None
    tile: TileSpec | None
    grid: TileGrid

    def to_model(self, plane: Floats) -> Floats:
        """Resize a plane, (H, W) or (H, W, 3), and pad it by reflection to the tile grid."""
        resized = resize(plane, self.model_shape)
        padding = [
            (0, full - used) for full, used in zip(self.grid.plane, self.model_shape, strict=True)
        ]
        if not any(after for _, after in padding):
            return resized
        return np.pad(resized, padding + [(0, 0)] * (plane.ndim - 2), mode="reflect")

    def to_image(self, logits: Floats) -> Floats:
        """Bring blended logits, (h / s, w / s) of the padded plane, to the image's pixels."""
        height, width = self.grid.plane
        full = _cv2_resize(logits, (height, width), cv2.INTER_LINEAR)
        used = np.ascontiguousarray(full[: self.model_shape[0], : self.model_shape[1]])
        return _cv2_resize(used, self.image_shape, cv2.INTER_LINEAR)


def plan_geometry(
    image_shape: tuple[int, int],
    spec: InputSpec,
    *,
    scale: float | None = None,
    diameter: float | None = None,
    pixel_size: float | None = None,
    tile: TileSpec | None = None,
) -> PlaneGeometry:
    """Plan how planes of one shape go through a checkpoint.

    Parameters
    ----------
    image_shape : tuple of int
        (H, W) in image px.
    spec : InputSpec
        The checkpoint's geometry, size and scale.
    scale, diameter, pixel_size : float, optional
        See :func:`resolve_scale`. For tiled checkpoints only.
    tile : TileSpec, optional
        Tile size and halo instead of the trained size with the default halo. For tiled
        checkpoints only.

    Raises
    ------
    InputError
        If an option does not suit the checkpoint, or the plane becomes too small or too large.
    """
    if spec.geometry == "whole":
        _refuse_for_whole(spec, scale=scale, diameter=diameter, pixel_size=pixel_size, tile=tile)
        square = (spec.size, spec.size)
        return PlaneGeometry(image_shape, square, None, None, make_grid(_padded(square), None))
    factor = resolve_scale(spec, scale=scale, diameter=diameter, pixel_size=pixel_size)
    model_shape = (round(image_shape[0] * factor), round(image_shape[1] * factor))
    _check_model_shape(image_shape, model_shape, factor)
    tile = TileSpec.of_size(spec.size) if tile is None else tile
    return PlaneGeometry(
        image_shape, model_shape, factor, tile, make_grid(_padded(model_shape), tile)
    )


def resize(plane: Floats, shape: tuple[int, int]) -> Floats:
    """Resize a plane, (H, W) or (H, W, 3): area averages to shrink, linear to enlarge."""
    shrunk = (min(shape[0], plane.shape[0]), min(shape[1], plane.shape[1]))
    return _cv2_resize(_cv2_resize(plane, shrunk, cv2.INTER_AREA), shape, cv2.INTER_LINEAR)


def _cv2_resize(plane: Floats, shape: tuple[int, int], method: int) -> Floats:
    if plane.shape[:2] == shape:
        return plane
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=method), dtype=np.float32)


def _padded(shape: tuple[int, int]) -> tuple[int, int]:
    return -(-shape[0] // GRID) * GRID, -(-shape[1] // GRID) * GRID


def _refuse_for_whole(spec: InputSpec, **options: float | TileSpec | None) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(
            f"{given[0]} is given, and this checkpoint sees each plane as a whole, resized to "
            f"{spec.size} x {spec.size} px, so it has no effect. Leave it out."
        )


def _check_model_shape(
    image_shape: tuple[int, int], model_shape: tuple[int, int], scale: float
) -> None:
    text = (
        f"A plane of {image_shape[0]} x {image_shape[1]} px becomes {model_shape[0]} x "
        f"{model_shape[1]} px at scale {scale:.3g}"
    )
    if min(model_shape) < MIN_MODEL_SIDE:
        raise InputError(
            f"{text}; the smallest side is {MIN_MODEL_SIDE} px. Use a larger scale (a smaller "
            "diameter, a larger pixel size)."
        )
    if math.prod(model_shape) > MAX_MODEL_PIXELS:
        raise InputError(
            f"{text}, {math.prod(model_shape) / 1e6:.0f} million pixels; the limit is "
            f"{MAX_MODEL_PIXELS / 1e6:.0f} million. Use a smaller scale (a larger diameter), or "
            "crop the image."
        )

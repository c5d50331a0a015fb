"""Between the pixels of an image and those of a model: scale, padding, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.scale import check_used, resolve_scale
from napari_espmedsam.inference.tiling import GRID, TileGrid, TileSpec, make_grid

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

MIN_MODEL_SIDE = 16
MAX_MODEL_PIXELS = 2**28  # 16384 x 16384: 1 GB of float32 grey, 3 GB of RGB

Floats = npt.NDArray[np.float32]


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
        See :func:`~napari_espmedsam.inference.scale.resolve_scale`. For tiled input only.
    tile : TileSpec, optional
        Tile size and halo instead of the trained size with the default halo. For tiled
        input only.

    Raises
    ------
    InputError
        If an option does not suit the checkpoint, or the plane becomes too small or too large.
    """
    if spec.geometry == "whole":
        check_used(spec, scale=scale, diameter=diameter, pixel_size=pixel_size, tile=tile)
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

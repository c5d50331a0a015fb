"""Which part of each plane to work on: all of it, what the viewer shows, or a drawn shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.region import Region
from napari_espmedsam.widgets.layers import METADATA_KEY, level_zero
from napari_espmedsam.widgets.navigation import world_factors

WHOLE, VIEW, SHAPE = "whole plane", "current view", "selected shape"
CHOICES = (WHOLE, VIEW, SHAPE)
_ROUNDING = 1e-6  # px: transforms are not exact


def find_region(viewer: Any, layer: Any, axes: str, choice: str) -> Region | None:
    """Find the region that a user means.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    layer
        The image layer.
    axes
        One letter of ``TZCYX`` per axis of the layer.
    choice
        One of :data:`CHOICES`.

    Returns
    -------
    Region or None
        Rows and columns in px of the image; None for the whole plane. Of a shape or a view that is
        turned against the image it is the rectangle around it.

    Raises
    ------
    InputError
        If there is no such region on the image.
    """
    if choice == WHOLE:
        return None
    corners = _view_corners(viewer, layer, axes) if choice == VIEW else _shape(viewer, layer)
    places = [axes.index("Y"), axes.index("X")]
    size = [level_zero(layer).shape[i] for i in places]
    edges = corners[:, places] + 0.5  # pixel 0 reaches from 0 to 1
    low = np.clip(np.floor(edges.min(axis=0) + _ROUNDING), 0, size).astype(int)
    high = np.clip(np.ceil(edges.max(axis=0) - _ROUNDING), 0, size).astype(int)
    if (low >= high).any():
        raise InputError(f"The {choice} does not meet '{layer.name}'. Choose another region.")
    return Region(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _view_corners(viewer: Any, layer: Any, axes: str) -> npt.NDArray[np.float64]:
    """First and last pixel of the image on the screen, (2, ndim), in px of level 0."""
    missing = viewer.dims.ndim - layer.ndim
    shown = {axes[axis - missing] for axis in viewer.dims.displayed if axis >= missing}
    if shown != {"Y", "X"}:
        raise InputError(
            "The viewer does not show planes of the image face on. Show Y and X in 2D, or choose "
            "another region."
        )
    corners = np.asarray(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])
    if (corners[0] == corners[1]).all():
        raise InputError(f"Nothing of '{layer.name}' is on the screen. Move the view onto it.")
    return corners


def _shape(viewer: Any, layer: Any) -> npt.NDArray[np.float64]:
    """Corners of the shape that the user means, (n, ndim), in px of the image."""
    shapes, number = _find_shape(viewer)
    vertices = np.asarray(shapes.data[number], dtype=float)
    world = np.stack([np.asarray(shapes.data_to_world(each)) for each in vertices])
    world = world * world_factors(viewer, shapes)
    missing = layer.ndim - shapes.ndim
    if missing > 0:  # the shape is on every plane
        sliders = np.asarray(viewer.dims.point, dtype=float)[-layer.ndim :][:missing]
        world = np.hstack([np.tile(sliders, (len(world), 1)), world])
    world = world[:, -layer.ndim :] / world_factors(viewer, layer)
    return np.stack([np.asarray(layer.world_to_data(each)) for each in world])


def _find_shape(viewer: Any) -> tuple[Any, int]:
    """Return the layer and the number of the selected shape, or of the only one."""
    from napari.layers import Shapes

    active = viewer.layers.selection.active
    layers = [
        each
        for each in viewer.layers
        if isinstance(each, Shapes) and len(each.data) and METADATA_KEY not in each.metadata
    ]
    layers.sort(key=lambda each: each is not active)
    for each in layers:
        if len(each.selected_data) == 1:
            return each, next(iter(each.selected_data))
    only = [each for each in layers if len(each.data) == 1]
    if len(only) == 1 or (only and only[0] is active):
        return only[0], 0
    raise InputError(
        "No shape is selected. Add a shapes layer, draw a rectangle on the image, and select it."
    )

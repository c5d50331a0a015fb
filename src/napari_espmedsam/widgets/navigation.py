"""Moving the sliders and the camera of a viewer to a place in a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def world_factors(viewer: Any, layer: Any) -> Floats:
    """Return what one unit of each axis of a layer is in the units of the viewer.

    Layers in micrometres beside layers in nanometres share one world in one of the two units
    (since napari 0.7); the transforms of a layer stay in its own.

    Parameters
    ----------
    viewer, layer
        Of napari.

    Returns
    -------
    ndarray
        (layer.ndim,) float64; 1 where the units are the same or have nothing in common.
    """
    units = getattr(viewer.dims, "units", None)
    if units is None or len(units) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, units[-layer.ndim :], strict=True)
    return np.array([_ratio(own, world) for own, world in pairs])


def data_to_viewer(viewer: Any, layer: Any, point: Sequence[float]) -> Floats:
    """Return where a data coordinate of a layer lies, (layer.ndim,) in the units of the viewer."""
    world: Floats = np.asarray(layer.data_to_world(np.asarray(point, dtype=float)), dtype=float)
    return world * world_factors(viewer, layer)


def slider_position(viewer: Any, layer: Any) -> Floats:
    """Return where the sliders of a viewer stand in the data of a layer, (layer.ndim,) in px."""
    world = np.asarray(viewer.dims.point, dtype=float)[-layer.ndim :]
    data: Floats = np.asarray(layer.world_to_data(world / world_factors(viewer, layer)))
    return data


def go_to(viewer: Any, layer: Any, point: Sequence[float]) -> None:
    """Move the sliders to the plane of a data coordinate and centre the camera there.

    The zoom stays, and so do the axes that the layer does not have.

    Parameters
    ----------
    viewer, layer
        Of napari.
    point : sequence of float
        Data coordinate of the layer, (layer.ndim,) in pixels.
    """
    missing = viewer.dims.ndim - layer.ndim
    if missing < 0:  # the layer is not in this viewer any more
        return
    world = data_to_viewer(viewer, layer, point)
    displayed = tuple(viewer.dims.displayed)
    sliders = [axis for axis in range(missing, viewer.dims.ndim) if axis not in displayed]
    if sliders:
        viewer.dims.set_point(sliders, [float(world[axis - missing]) for axis in sliders])
    scene = getattr(viewer, "scene", viewer)  # napari 0.9 moved the camera there
    centre = list(scene.camera.center)
    for place, axis in enumerate(reversed(displayed), start=1):
        if axis >= missing:
            centre[-place] = float(world[axis - missing])
    scene.camera.center = tuple(centre)


def _ratio(own: Any, world: Any) -> float:
    if own == world:
        return 1.0
    try:
        return float((1 * own).to(world).magnitude)
    except Exception:  # pint: no common dimension; napari then takes the numbers as they are
        return 1.0

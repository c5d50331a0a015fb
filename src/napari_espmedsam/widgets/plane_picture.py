"""A layer that shows one picture of the plane on the screen, such as how sure the model is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.widgets.canvas_place import CanvasPlace, place_canvas, set_place
from napari_espmedsam.widgets.layers import METADATA_KEY, ImageDescription


@dataclass(frozen=True, eq=False)
class _Pixels:
    """The pixels of a region as a grid of cells of 1 px."""

    state: npt.NDArray[Any]
    translate: tuple[float, float]
    scale: tuple[float, float] = (1.0, 1.0)


class PlanePicture:
    """Shows pictures of a region of planes, one at a time, on an image layer.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    image
        Description of the image layer.
    axes
        One letter of ``TZCYX`` per axis of the image layer.
    add
        Makes the layer: ``viewer.add_image`` or ``viewer.add_labels``.
    name
        Name of the layer.
    empty
        Value of a pixel that shows nothing.
    **arguments
        Of `add`.
    """

    def __init__(
        self,
        viewer: Any,
        image: ImageDescription,
        axes: str,
        add: Callable[..., Any],
        name: str,
        empty: float = 0,
        **arguments: Any,
    ) -> None:
        self._viewer, self._image, self._axes = viewer, image, axes
        self._add, self._name, self._arguments = add, name, arguments
        self._empty = empty
        self._layer: Any = None
        self._pixels: _Pixels | None = None

    @property
    def layer(self) -> Any | None:
        """The layer; None before the first picture and where the user has deleted it."""
        return self._layer if self._layer in self._viewer.layers else None

    @property
    def is_deleted(self) -> bool:
        """Whether the user has deleted the layer."""
        return self._layer is not None and self.layer is None

    def show(self, picture: npt.NDArray[Any], offset: tuple[int, int]) -> None:
        """Show (H, W) of a region that begins at a row and a column of the plane."""
        pixels = _Pixels(picture, (float(offset[0]), float(offset[1])))
        before, self._pixels = self._pixels, pixels
        place = self._place(pixels)
        data = place.to_layer(picture)
        layer = self.layer
        if self._layer is None:
            self._make(data, place)
        elif layer is None or before is None:
            return
        elif layer.data.shape == data.shape and layer.data.dtype == data.dtype:
            layer.data[...] = data
            layer.refresh(thumbnail=False, highlight=False, extent=False)
        else:
            layer.data = data.copy()
        if before is not None and before.translate != pixels.translate and layer is not None:
            set_place(layer, place.geometry)

    def blank(self) -> None:
        """Show nothing until the next :meth:`show`."""
        if self._pixels is not None and (self._pixels.state != self._empty).any():
            top, left = self._pixels.translate
            self.show(np.full_like(self._pixels.state, self._empty), (int(top), int(left)))

    def place_on(self, image: ImageDescription) -> None:
        """Follow an image that was moved or scaled."""
        self._image = image
        layer = self.layer
        if layer is not None and self._pixels is not None:
            set_place(layer, self._place(self._pixels).geometry)

    def remove(self) -> None:
        """Take the layer away."""
        layer = self.layer
        self._layer = self._pixels = None
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _place(self, pixels: _Pixels) -> CanvasPlace:
        return place_canvas(self._image, self._axes, pixels)

    def _make(self, data: npt.NDArray[Any], place: CanvasPlace) -> None:
        active = self._viewer.layers.selection.active
        self._layer = self._add(
            data.copy(),
            name=self._name,
            metadata={METADATA_KEY: {"role": "view"}},
            **self._arguments,
            **place.geometry.layer_arguments(),
        )
        if active is not None:
            self._viewer.layers.selection.active = active

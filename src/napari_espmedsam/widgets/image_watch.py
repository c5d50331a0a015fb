"""What happens to an image layer that is being worked on: the sliders, its place, its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.widgets.layer_end import LayerEnd
from napari_espmedsam.widgets.layers import level_zero
from napari_espmedsam.widgets.navigation import data_to_viewer, slider_position

_MOVES = ("scale", "translate", "rotate", "shear", "affine", "units")

Index = tuple[int, ...]


class ImageWatch(QObject):
    """Watches an image layer in a viewer.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    layer
        The image layer.
    axes
        One letter of ``TZCYX`` per axis of the layer.
    parent
        Qt parent: without one, Python's garbage collector might delete the object in any thread.

    Attributes
    ----------
    plane_changed : Signal(object)
        The sliders show another plane: its index along the leading axes.
    moved : Signal()
        The layer has another place in the world.
    gone : Signal(str)
        The layer was removed, or its pixels are others: which, as a sentence.
    """

    plane_changed = Signal(object)
    moved = Signal()
    gone = Signal(str)

    def __init__(self, viewer: Any, layer: Any, axes: str, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._layer, self._axes = viewer, layer, axes
        self._places = [i for i, letter in enumerate(axes) if letter in "TZ"]
        self._index = self.index
        self._connections = [
            (viewer.dims.events.current_step, self._on_slider),
            (layer.events.data, self._on_data),
            *((getattr(layer.events, name), self._on_moved) for name in _MOVES),
        ]
        for emitter, slot in self._connections:
            emitter.connect(slot)
        self._end = LayerEnd(viewer, layer, self._on_removed)

    @property
    def letters(self) -> str:
        """The axes over which planes are counted, in the image's order."""
        return "".join(self._axes[i] for i in self._places)

    @property
    def index(self) -> Index | None:
        """Index along these axes of the plane that the viewer shows, None for none."""
        if self._viewer.dims.ndim < self._layer.ndim:  # it is not in this viewer any more
            return None
        position = slider_position(self._viewer, self._layer)
        shape = level_zero(self._layer).shape
        index = tuple(int(np.round(position[i])) for i in self._places)
        inside = all(0 <= k < shape[i] for k, i in zip(index, self._places, strict=True))
        return index if inside else None

    def go_to(self, index: Index) -> None:
        """Move the sliders to a plane; the camera stays where it is."""
        position = np.array(slider_position(self._viewer, self._layer))
        position[self._places] = index
        world = data_to_viewer(self._viewer, self._layer, position.tolist())
        missing = self._viewer.dims.ndim - self._layer.ndim
        hidden = [i for i in self._places if missing + i not in self._viewer.dims.displayed]
        if hidden:
            self._viewer.dims.set_point(
                [missing + i for i in hidden], [float(world[i]) for i in hidden]
            )

    def close(self) -> None:
        """Watch no longer."""
        self._end.close()
        while self._connections:
            emitter, slot = self._connections.pop()
            emitter.disconnect(slot)

    def _on_slider(self, _event: Any = None) -> None:
        self._end.check()
        index = self.index
        if index is not None and index != self._index:
            self._index = index
            self.plane_changed.emit(index)

    def _on_moved(self, _event: Any = None) -> None:
        self.moved.emit()

    def _on_data(self, _event: Any = None) -> None:
        self.gone.emit(f"The pixels of '{self._layer.name}' have changed.")

    def _on_removed(self) -> None:
        self.gone.emit(f"'{self._layer.name}' was removed.")

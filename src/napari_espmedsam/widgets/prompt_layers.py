"""The prompts of the plane on the screen as two layers: a heat map, and cells to paint on.

What the user does to the cells, with any tool of napari, is found by comparing them with what was
shown. So nothing depends on how a tool works, and what is written here never comes back as an
edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_espmedsam.studio.events import PromptView
from napari_espmedsam.widgets.canvas_place import CanvasPlace, place_canvas, set_place
from napari_espmedsam.widgets.layer_end import LayerEnd, take_away
from napari_espmedsam.widgets.layers import METADATA_KEY, ImageDescription
from napari_espmedsam.widgets.prompt_cells import (
    MODEL_OFF,
    MODEL_ON,
    USER_OFF,
    USER_ON,
    PromptCells,
    States,
)
from napari_espmedsam.widgets.undo_keys import bind_undo, unbind_undo

COLOURS: dict[int | None, str] = {
    None: "#2ee66b",  # any other number that somebody paints with means on
    MODEL_OFF: "transparent",
    MODEL_ON: "#38b6ff",
    USER_ON: "#2ee66b",
    USER_OFF: "#ff4d5e",
}
# The model's part is blue: how likely a cell is on, and what is on.
_HEAT = {"colors": [[0.22, 0.71, 1.0, 0.0], [0.22, 0.71, 1.0, 1.0]], "name": "espmedsam heat"}
_TOUCHES = ("labels_update", "paint", "data", "set_data")
_DRAG = 5  # px on the screen; a press that moves further is no click


class PromptLayers(QObject):
    """Two layers on an image that always show the prompts of the current plane.

    Layers that the user deletes stay away until :meth:`remove` and the next :meth:`show`; names
    mean nothing.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    image
        Description of the image layer.
    axes
        One letter of ``TZCYX`` per axis of the image layer.
    parent
        Qt parent: without one, Python's garbage collector might delete the object in any thread.

    Attributes
    ----------
    edited : Signal(object, object, int)
        The user has changed cells: the box (rows, columns), the edits in it (int8 of -1, 0 and 1,
        those that were there before included), and the number of the stroke. Once per mouse move
        at most.
    undo_wanted, redo_wanted : Signal()
        The keys were pressed.
    deleted : Signal()
        The user has deleted the layer of cells.
    """

    edited = Signal(object, object, int)
    undo_wanted = Signal()
    redo_wanted = Signal()
    deleted = Signal()

    def __init__(self, viewer: Any, image: ImageDescription, axes: str, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._image, self._axes = viewer, image, axes
        self._shown: PromptCells | None = None
        self._heat: Any = None
        self._cells: Any = None
        self._ends: list[LayerEnd] = []
        self._stroke, self._stroke_ended = 0, False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.collect)

    @property
    def cells(self) -> Any | None:
        """The layer of cells; None where there is none."""
        return self._cells

    @property
    def heat(self) -> Any | None:
        """The heat map; None where there is none."""
        return self._heat

    @property
    def view(self) -> PromptView | None:
        """What was shown last; None before the first :meth:`show`."""
        return None if self._shown is None else self._shown.view

    def show(self, view: PromptView) -> None:
        """Show the prompts of a plane; the first call makes the layers.

        What the user has painted since is reported first and then overwritten: call
        :meth:`collect` before deciding whether a view is recent enough.
        """
        for end in self._ends:
            end.check()
        self.collect()
        before = self._shown
        if before is None:
            self._shown = PromptCells(view, self._place(view))
            self._add(self._shown)
            return
        if before.is_on_grid_of(view):
            self._shown = PromptCells(view, before.place)
        else:
            self._shown = PromptCells(view, self._place(view))
            self._move(self._shown.place)
        if not np.array_equal(before.view.heat, view.heat):
            self._write(self._heat, view.heat)
        self._write(self._cells, view.state)

    def blank(self) -> None:
        """Show no prompts until the next :meth:`show`: those of a new plane are not there yet."""
        if self._shown is not None:
            heat, state = self._shown.view.heat, self._shown.view.state
            nothing = replace(
                self._shown.view, heat=np.zeros_like(heat), state=np.zeros_like(state)
            )
            self.show(nothing)

    def collect(self) -> None:
        """Report what the user has changed since the last call, if anything."""
        self._timer.stop()
        painted = self._painted()
        if painted is None or self._shown is None:
            return
        painting = self._shown.take(painted)
        if painting is not None and painting.corrected:
            _refresh(self._cells)
        if painting is not None and painting.edits is not None:
            self.edited.emit(painting.box, painting.edits, self._stroke)
        self._stroke, self._stroke_ended = self._stroke + self._stroke_ended, False

    def place_on(self, image: ImageDescription) -> None:
        """Follow an image that was moved or scaled."""
        self._image = image
        if self._shown is not None:
            self._shown.place = self._place(self._shown.view)
            self._move(self._shown.place)

    def remove(self) -> None:
        """Take the layers away; nothing is reported any more."""
        self._timer.stop()
        if self._shown is None:
            return
        self._shown = None
        while self._ends:
            self._ends.pop().close()
        layers = (self._heat, self._cells)
        self._heat = None
        self._let_go_of_cells()
        take_away(self._viewer, layers)

    def _place(self, view: PromptView) -> CanvasPlace:
        return place_canvas(self._image, self._axes, view)

    def _add(self, shown: PromptCells) -> None:
        """Make both layers; that of the cells is the active one, so a click toggles a cell."""
        where = shown.place.geometry.layer_arguments()
        self._heat = self._viewer.add_image(
            shown.place.to_layer(shown.view.heat).copy(),
            name=f"Prompt heat map of {self._image.name}",
            rgb=False,
            colormap=_HEAT,
            contrast_limits=(0.0, 1.0),
            interpolation2d="nearest",
            blending="translucent",
            opacity=0.25,
            metadata={METADATA_KEY: {"role": "prompts"}},
            **where,
        )
        self._cells = self._viewer.add_labels(
            shown.place.to_layer(shown.state).copy(),
            name=f"Prompts of {self._image.name}",
            colormap=COLOURS,
            opacity=0.35,
            metadata={METADATA_KEY: {"role": "prompts"}},
            **where,
        )
        self._cells.brush_size = 1
        self._cells.selected_label = USER_ON
        for name in _TOUCHES:
            getattr(self._cells.events, name).connect(self._on_touched)
        self._cells.mouse_drag_callbacks.append(self._on_press)
        bind_undo(self._cells, self._on_undo, self._on_redo)
        self._ends = [
            LayerEnd(self._viewer, self._heat, self._on_heat_gone),
            LayerEnd(self._viewer, self._cells, self._on_cells_gone),
        ]

    def _move(self, place: CanvasPlace) -> None:
        for layer in (self._heat, self._cells):
            if layer is not None:
                set_place(layer, place.geometry)

    def _write(self, layer: Any, picture: npt.NDArray[Any]) -> None:
        """Show another picture: in place where it fits, which is faster."""
        if layer is None or self._shown is None:
            return
        data = self._shown.place.to_layer(picture)
        if layer.data.shape != data.shape or layer.data.dtype != data.dtype:
            layer.data = data.copy()
            return
        layer.data[...] = data
        _refresh(layer)

    def _painted(self) -> States | None:
        """Return the cells as they are in the layer, to be written to; None where none fit."""
        if self._cells is None or self._shown is None:
            return None
        return self._shown.in_layer(self._cells.data)

    def _on_touched(self, event: Any = None) -> None:
        """Look at the layer soon, but once for all the events of one mouse move."""
        if event is not None and event.type == "paint":
            self._stroke_ended = True  # napari says so before it paints, or after a drag
        if not self._timer.isActive():
            self._timer.start(0)

    def _on_press(self, layer: Any, event: Any) -> Iterator[None]:
        """Toggle the cell under a click, where no tool of napari is chosen."""
        plain = layer.mode == "pan_zoom" and event.button == 1 and not event.modifiers
        start, way = np.asarray(event.pos), 0.0
        yield
        while event.type == "mouse_move":
            way = max(way, float(np.linalg.norm(np.asarray(event.pos) - start)))
            yield
        # A fast drag may have come without a move: where the button was released counts as well.
        way = max(way, float(np.linalg.norm(np.asarray(event.pos) - start)))
        if plain and way <= _DRAG and len(event.dims_displayed) == 2:
            self._toggle(layer.world_to_data(event.position))

    def _toggle(self, position: Any) -> None:
        self.collect()
        painted = self._painted()
        if painted is None or self._shown is None:
            return
        cell = self._shown.place.cell_at(position)
        value = self._shown.toggled(cell)
        if value is not None:
            painted[cell] = value
            _refresh(self._cells)
            self._stroke_ended = True
            self.collect()

    def _on_undo(self, _layer: Any) -> None:
        self.collect()
        self.undo_wanted.emit()

    def _on_redo(self, _layer: Any) -> None:
        self.collect()
        self.redo_wanted.emit()

    def _on_heat_gone(self) -> None:
        self._heat = None

    def _on_cells_gone(self) -> None:
        self._let_go_of_cells()
        self.deleted.emit()

    def _let_go_of_cells(self) -> None:
        if self._cells is None:
            return
        cells, self._cells = self._cells, None
        for name in _TOUCHES:
            getattr(cells.events, name).disconnect(self._on_touched)
        cells.mouse_drag_callbacks.remove(self._on_press)
        unbind_undo(cells)


def _refresh(layer: Any) -> None:
    layer.refresh(thumbnail=False, highlight=False, extent=False)

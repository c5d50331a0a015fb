"""Points and boxes that set the prompt cells under them: a convenience on the way of the brush.

A marker is no state of its own. It sets its cells once, and it goes when they are something else.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED
from napari_espmedsam.studio.events import PromptView
from napari_espmedsam.widgets.canvas_place import Box, cells_under
from napari_espmedsam.widgets.layer_end import LayerEnd, take_away
from napari_espmedsam.widgets.layers import METADATA_KEY, Geometry, ResultPlan
from napari_espmedsam.widgets.marker_layer import MarkerLayer, new_boxes, new_points
from napari_espmedsam.widgets.prompt_cells import USER_OFF, USER_ON
from napari_espmedsam.widgets.undo_keys import bind_undo

TOOLS = ("+ point", "- point", "+ box", "- box")

Index = tuple[int, ...]
_CELL_OF = {ON: USER_ON, OFF: USER_OFF}


class Markers(QObject):
    """A points layer and a shapes layer on an image, made when their tool is first used.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    plan
        Shape, axes and place of the labels of the image.
    name
        Name of the image.
    parent
        Qt parent: without one, Python's garbage collector might delete the object in any thread.

    Attributes
    ----------
    marked : Signal(object, object, int, str)
        A marker sets cells, or no longer does: index of the plane along the leading axes, box of
        cells, the edit (-1, 0 or 1), and what was done in words.
    tool_changed : Signal(str)
        The tool that is in the user's hand now; "" for none of these.
    undo_wanted, redo_wanted : Signal()
        The keys were pressed on one of the layers.
    """

    marked = Signal(object, object, int, str)
    tool_changed = Signal(str)
    undo_wanted = Signal()
    redo_wanted = Signal()

    def __init__(self, viewer: Any, plan: ResultPlan, name: str, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._plan, self._name = viewer, plan, name
        self._view: PromptView | None = None
        self._layers: dict[str, MarkerLayer] = {}
        self._ends: dict[str, LayerEnd] = {}
        self._tool, self._is_switching = "", False
        viewer.layers.selection.events.active.connect(self._on_tool)

    @property
    def tool(self) -> str:
        """The tool in the user's hand: one of `TOOLS`, or ""."""
        active = self._viewer.layers.selection.active
        for kind, marker in self._layers.items():
            if marker.layer is active and marker.is_drawing:
                return f"{'+' if marker.sign == ON else '-'} {kind}"
        return ""

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers that there are."""
        return tuple(marker.layer for marker in self._layers.values())

    def use(self, tool: str) -> None:
        """Put one of `TOOLS` into the user's hand; nothing happens before :meth:`show`."""
        if self._view is None:
            return
        self._notice_missing()
        sign, kind = (ON if tool[0] == "+" else OFF), tool[2:]
        self._is_switching = True
        try:
            if kind not in self._layers:
                self._layers[kind] = self._make(kind, self._view)
            self._layers[kind].draw(sign)
            self._viewer.layers.selection.active = self._layers[kind].layer
        finally:
            self._is_switching = False
            self._on_tool()

    def put_down(self) -> None:
        """Take the tool out of the user's hand."""
        for marker in self._layers.values():
            marker.layer.mode = "pan_zoom"

    def show(self, index: Index, view: PromptView) -> None:
        """Take note of the cells of a plane; markers go of which no cell is as they set it."""
        self._view = view
        self._notice_missing()
        for marker in self._layers.values():
            if marker.is_growing:
                continue
            gone = [
                i
                for i in range(len(marker))
                if marker.index(i, self._plan.axes) == index and not self._holds(marker, i, view)
            ]
            marker.remove(gone)

    def place_on(self, geometry: Geometry) -> None:
        """Follow an image that was moved or scaled."""
        self._plan = ResultPlan(self._plan.shape, self._plan.axes, geometry)
        for marker in self._layers.values():
            marker.place_on(geometry)

    def remove(self) -> None:
        """Take the layers away; nothing is reported any more."""
        self._viewer.layers.selection.events.active.disconnect(self._on_tool)
        layers = self.layers
        for kind in list(self._layers):
            self._let_go(kind)
        take_away(self._viewer, layers)

    def _make(self, kind: str, view: PromptView) -> MarkerLayer:
        """Add the layer of a kind to the viewer."""
        new = new_points if kind == "point" else new_boxes
        layer = new(
            f"Prompt {'points' if kind == 'point' else 'boxes'} of {self._name}",
            len(self._plan.axes),
            min(view.scale),
            metadata={METADATA_KEY: {"role": "prompts"}},
            **self._plan.geometry.layer_arguments(),
        )
        self._viewer.add_layer(layer)
        self._ends[kind] = LayerEnd(self._viewer, layer, partial(self._on_deleted, kind))
        marker = MarkerLayer(layer)
        marker.added, marker.removed, marker.mode_changed = (
            self._on_added,
            self._on_gone,
            self._on_tool,
        )
        bind_undo(layer, self._on_undo, self._on_redo)
        return marker

    def _box(self, marker: MarkerLayer, i: int, view: PromptView) -> Box | None:
        return cells_under(view, marker.corners(i, self._plan.axes))

    def _holds(self, marker: MarkerLayer, i: int, view: PromptView) -> bool:
        box = self._box(marker, i, view)
        return box is not None and bool((view.state[box] == _CELL_OF[marker.sign_of(i)]).any())

    def _on_added(self, marker: MarkerLayer, numbers: list[int]) -> None:
        for i in numbers:
            sign = marker.sign_of(i)
            self._report(marker, i, sign, f"{'Add' if sign == ON else 'Exclude'} {marker.word}")

    def _on_gone(self, marker: MarkerLayer, numbers: list[int]) -> None:
        """Take the cells of markers back that the user is about to remove."""
        for i in numbers:
            self._report(marker, i, UNTOUCHED, f"Remove {marker.word}")

    def _report(self, marker: MarkerLayer, i: int, value: int, what: str) -> None:
        index = marker.index(i, self._plan.axes)
        lengths = [n for n, a in zip(self._plan.shape, self._plan.axes, strict=True) if a in "TZ"]
        if self._view is None or not np.all(
            [0 <= k < n for k, n in zip(index, lengths, strict=True)]
        ):
            return
        box = self._box(marker, i, self._view)
        if box is not None:
            self.marked.emit(index, box, value, what)

    def _on_tool(self, _event: Any = None) -> None:
        tool = self.tool
        if tool != self._tool and not self._is_switching:
            self._tool = tool
            self.tool_changed.emit(tool)

    def _on_undo(self, _layer: Any) -> None:
        self.undo_wanted.emit()

    def _on_redo(self, _layer: Any) -> None:
        self.redo_wanted.emit()

    def _notice_missing(self) -> None:
        for end in list(self._ends.values()):
            end.check()

    def _on_deleted(self, kind: str) -> None:
        self._let_go(kind)
        self._on_tool()

    def _let_go(self, kind: str) -> None:
        self._ends.pop(kind).close()
        self._layers.pop(kind).let_go()

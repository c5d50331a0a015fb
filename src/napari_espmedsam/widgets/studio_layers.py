"""The layers of a live session together: what is painted on any of them, and what follows it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.studio.events import PlaneReady, PromptView
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.image_watch import ImageWatch, Index
from napari_espmedsam.widgets.layers import describe, plan_result
from napari_espmedsam.widgets.live_labels import LiveLabels
from napari_espmedsam.widgets.markers import Markers
from napari_espmedsam.widgets.prompt_layers import PromptLayers
from napari_espmedsam.widgets.side_views import SideViews


class StudioLayers(QObject):
    """Labels, prompts, markers and side views on one image layer.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    prepared
        Image layer, settings, and the place of its labels.
    parent
        Qt parent: without one, Python's garbage collector might delete the object in any thread.

    Attributes
    ----------
    labels, prompts, markers, side, watch
        The parts.
    edited : Signal(object, object, object, str, object)
        Prompt cells are to be changed: index of the plane, box, edits, what was done in words, and
        the stroke that it belongs to (or None).
    painted : Signal(object, object, object)
        Labels were painted: index of the plane, its labels before and after.
    plane_changed : Signal(object)
        The viewer shows another plane. What was painted before has been reported, and no prompts
        are shown until they come.
    undo_wanted, redo_wanted : Signal()
        The keys were pressed on a layer of prompts.
    gone : Signal(str)
        The image is not what it was any more; why.
    """

    edited = Signal(object, object, object, str, object)
    painted = Signal(object, object, object)
    plane_changed = Signal(object)
    undo_wanted = Signal()
    redo_wanted = Signal()
    gone = Signal(str)

    def __init__(self, viewer: Any, prepared: Prepared, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._prepared = viewer, prepared
        self.axes = (prepared.request.axes or "").replace("S", "")
        image, plan = prepared.image, prepared.plan
        self._index: Index | None = None
        self.labels = LiveLabels(viewer, plan, f"{image.name} - espmedsam live", self)
        self.prompts = PromptLayers(viewer, image, self.axes, self)
        self.markers = Markers(viewer, plan, image.name, self)
        self.side = SideViews(viewer, image, self.axes)
        self.watch = ImageWatch(viewer, prepared.layer, self.axes, self)
        self.prompts.edited.connect(self._on_edited)
        self.markers.marked.connect(self._on_marked)
        for layers in (self.prompts, self.markers):
            layers.undo_wanted.connect(self.undo_wanted)
            layers.redo_wanted.connect(self.redo_wanted)
        self.labels.painted.connect(self.painted)
        self.watch.plane_changed.connect(self._on_plane)
        self.watch.moved.connect(self._on_moved)
        self.watch.gone.connect(self.gone)

    def begin(self, index: Index) -> None:
        """Say which plane is on the screen at first."""
        self._index = index
        self.labels.show(index)

    def collect(self, *, everywhere: bool = False) -> None:
        """Report at once what was painted; `everywhere` looks at planes off the screen, too."""
        self.prompts.collect()
        self.labels.collect(everywhere=everywhere)

    def write(self, event: PlaneReady) -> None:
        """Show labels. What was painted on prompts is reported before."""
        self.prompts.collect()
        self.labels.write(event)

    def show_prompts(self, index: Index, view: PromptView) -> None:
        """Show the prompts of the plane on the screen, below its labels."""
        is_new = self.prompts.view is None
        self.prompts.show(view)
        if is_new and self.labels.layer is not None:
            layers = self._viewer.layers
            layers.move(layers.index(self.labels.layer), len(layers))
        self.markers.show(index, view)

    def close(self) -> None:
        """Take all layers away but the labels, which stay with the user.

        Where somebody's handler raises on the way, that is raised once all is done.
        """
        parts = self.watch.close, self.markers.remove, self.prompts.remove, self.side.remove
        with ExitStack() as stack:
            for part in (self.labels.release, *reversed(parts)):
                stack.callback(part)

    def _on_edited(self, box: Any, values: Any, stroke: int) -> None:
        if self._index is not None:
            self.edited.emit(self._index, box, values, "Paint prompts", ("paint", stroke))

    def _on_marked(self, index: Index, box: Any, value: int, what: str) -> None:
        self.prompts.collect()
        self.edited.emit(index, box, value, what, None)

    def _on_plane(self, index: Index) -> None:
        self.prompts.blank()  # after a report of what was painted, which is of the plane before
        self._index = index
        self.labels.show(index)
        self.side.blank()
        self.plane_changed.emit(index)

    def _on_moved(self) -> None:
        image = describe(self._prepared.layer)
        geometry = plan_result(image, self.axes, self._prepared.request.channel).geometry
        self.prompts.place_on(image)
        self.side.place_on(image)
        self.labels.place_on(geometry)
        self.markers.place_on(geometry)

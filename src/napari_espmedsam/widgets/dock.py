"""What the plugin docks into a viewer: one tab for each part of the work."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_espmedsam.widgets.objects_tab import ObjectsTab
from napari_espmedsam.widgets.prompts_tab import PromptsTab
from napari_espmedsam.widgets.segment import SegmentWidget
from napari_espmedsam.widgets.studio_link import StudioLink
from napari_espmedsam.widgets.worker import Loader, load_segmenter


class Dock(QWidget):
    """The tabs of one viewer. Two viewers have one each and share nothing.

    Closing the dock stops what goes on and gives the viewer its keys back; opening it again goes
    on where it was.

    Parameters
    ----------
    napari_viewer
        The ``napari.Viewer`` that it is docked in.
    loader
        Gives the model of a request; another one for tests.

    Attributes
    ----------
    segment : SegmentWidget
        Runs over planes.
    prompts : PromptsTab
        Where the model looks, to be corrected live.
    objects : ObjectsTab
        What was found.
    """

    def __init__(self, napari_viewer: Any, *, loader: Loader = load_segmenter) -> None:
        super().__init__()
        self.segment = SegmentWidget(napari_viewer, loader=loader)
        self.prompts = PromptsTab(napari_viewer, self.segment.form.prepare, loader)
        self.objects = ObjectsTab(napari_viewer)
        self._link = StudioLink(self.prompts, self.objects)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.segment, "Segment")
        self.tabs.addTab(self.prompts, "Prompts")
        self.tabs.addTab(self.objects, "Objects")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        self.segment.done.connect(self.objects.show_layer)

    def event(self, event: QEvent | None) -> bool:
        """Stop everything when the dock that holds the tabs is closed."""
        done = super().event(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and not self.parent():
            self.segment.cancel()
            self.prompts.close_session()
            self.objects.set_open(False)
        return done

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Go on after the dock was opened or shown again."""
        super().showEvent(event)
        self.prompts.reopen()
        self.objects.set_open(True)

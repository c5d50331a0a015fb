"""What the plugin docks into a viewer: one tab for each part of the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_espmedsam.widgets.batch_tab import BatchTab
from napari_espmedsam.widgets.memory import Memory
from napari_espmedsam.widgets.objects_tab import ObjectsTab
from napari_espmedsam.widgets.prompts_tab import PromptsTab
from napari_espmedsam.widgets.segment import SegmentWidget
from napari_espmedsam.widgets.studio_link import StudioLink
from napari_espmedsam.widgets.worker import Loader, load_segmenter


class Dock(QWidget):
    """The tabs of one viewer. Two viewers have one each and share nothing.

    Closing the dock stops what goes on, lets go of the models, and gives the viewer its keys back;
    opening it again goes on where it was.

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
    batch : BatchTab
        Many files.
    memory : Memory
        Brings the settings of both forms back next time.
    """

    def __init__(self, napari_viewer: Any, *, loader: Loader = load_segmenter) -> None:
        super().__init__()
        self.segment = SegmentWidget(napari_viewer, loader=loader)
        self.prompts = PromptsTab(napari_viewer, self.segment.form.prepare, loader)
        self.objects = ObjectsTab(napari_viewer)
        self.batch = BatchTab(napari_viewer, self.segment.form, self.prompts)
        self._link = StudioLink(self.prompts, self.objects)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.segment, "Segment")
        self.tabs.addTab(self.prompts, "Prompts")
        self.tabs.addTab(self.objects, "Objects")
        self.tabs.addTab(self.batch, "Batch")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)  # napari's title of a dock hangs a little over it
        layout.addWidget(self.tabs)
        self.segment.done.connect(self.objects.show_layer)
        self.prompts.tuned.connect(self._on_tuned)
        self.memory = Memory(self.segment.form, self.batch.fields)

    def event(self, event: QEvent | None) -> bool:
        """Stop everything when the dock that holds the tabs is closed."""
        done = super().event(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and not self.parent():
            self.memory.save()
            self.segment.release()
            self.prompts.close_session()
            self.objects.set_open(False)
            self.batch.release()
        return done

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Go on after the dock was opened or shown again."""
        super().showEvent(event)
        self.prompts.reopen()
        self.objects.set_open(True)
        self.objects.set_keys(True)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Give the keys back while another dock lies in front, and write settings down."""
        super().hideEvent(event)
        self.memory.save()
        if event is not None and not event.spontaneous():  # not if the window is minimised
            self.objects.set_keys(False)

    def _on_tuned(self, settings: Mapping[str, Any]) -> None:
        """Keep in the form what was found out live: for the next run and the next session."""
        if not self.segment.is_running:  # until its end the form shows what is computed
            self.segment.form.take(settings)

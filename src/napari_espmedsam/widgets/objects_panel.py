"""The editors of the tab "Objects" and where they stand; usable from 320 px on."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_espmedsam.widgets.keys import KeysPart
from napari_espmedsam.widgets.labels_picker import LabelsPicker
from napari_espmedsam.widgets.objects_model import ObjectsModel
from napari_espmedsam.widgets.objects_view import LinkPart, ObjectsView
from napari_espmedsam.widgets.rows import new_note
from napari_espmedsam.widgets.score_part import ScorePart

_BAD = "color: #e8a33d;"  # as in the tab "Segment"
_NO_LOCK = "Objects can be locked while the prompts of their image are shown."


class ObjectsPanel(QWidget):
    """All that the tab shows; what it does is up to `ObjectsTab`.

    Parameters
    ----------
    viewer
        The ``napari.Viewer`` whose labels layers are offered.
    parent
        Qt parent.
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.picker = LabelsPicker(viewer)
        self.refresh_button = QToolButton()
        self.status = new_note()
        self.model = ObjectsModel(self)
        self.view = ObjectsView(self.model)
        self.review_note = new_note()
        self.previous_button = QPushButton("◀ Previous")
        self.next_button = QPushButton("Next ▶")
        self.lock_button = QPushButton("Lock")
        self.score_part = ScorePart()
        self.link_part = LinkPart()
        self.save_button = QPushButton("Save table…")
        self.keys_part = KeysPart()
        self._lay_out()

    def say(self, text: str, *, bad: bool = False) -> None:
        """Say how things are."""
        self.status.setText(text)
        self.status.setStyleSheet(_BAD if bad else "")

    def show_lock(self, *, possible: bool, chosen: bool, locked: bool) -> None:
        """Set what the lock button does.

        Parameters
        ----------
        possible : bool
            Whether objects of the layer can be locked at all.
        chosen : bool
            Whether any is selected.
        locked : bool
            Whether all of them are locked.
        """
        self.lock_button.setEnabled(possible and chosen)
        self.lock_button.setText("Unlock" if locked else "Lock")
        tip = "Finish the selected objects: nothing is drawn over them any more."
        if locked:
            tip = "Let the selected objects change again."
        self.lock_button.setToolTip(tip if possible else _NO_LOCK)

    def show_count(self, count: int) -> None:
        """Turn on what needs objects."""
        for button in (self.previous_button, self.next_button, self.save_button):
            button.setEnabled(count > 0)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addLayout(_row(QLabel("Labels"), self.picker, self.refresh_button))
        layout.addWidget(self.status)
        layout.addWidget(self.view, stretch=1)
        layout.addWidget(self.review_note)
        layout.addLayout(_row(self.previous_button, self.next_button, self.lock_button))
        layout.addWidget(self.score_part)
        layout.addWidget(self.save_button)
        layout.addWidget(self.link_part)
        layout.addWidget(self.keys_part)
        self._explain()

    def _explain(self) -> None:
        expanding = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.picker.setSizePolicy(expanding)
        self.picker.setToolTip("The labels layer whose objects are listed.")
        self.refresh_button.setText("⟳")
        self.refresh_button.setToolTip("Measure the objects again.")
        self.next_button.setToolTip("Go to the next object that has not been looked at.")
        self.previous_button.setToolTip("Go back to the object before.")
        self.save_button.setToolTip("Write the table as a CSV file, with bounding boxes.")
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for button in (self.previous_button, self.next_button, self.lock_button):
            button.setSizePolicy(expanding)
            button.setMinimumWidth(40)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row

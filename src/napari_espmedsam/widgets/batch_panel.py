"""The tab "Batch" and where its parts stand; usable from 320 px on."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_espmedsam.widgets.batch_form import BatchForm
from napari_espmedsam.widgets.batch_model import BatchModel
from napari_espmedsam.widgets.rows import new_note
from napari_espmedsam.widgets.scroll import Scroll

_BAD = "color: #e8a33d;"  # as in the tab "Segment"
_STEPS = 1000  # of the progress bar
_LEAST_ROWS, _USUAL_ROWS = 4, 8
_WIDTHS = (84, 88, 72, 56)  # px of all columns but the last


class FileTable(QTableView):
    """The images of a job."""

    def __init__(self, model: BatchModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(model)
        self.setToolTip("Double-click a row to open its image and its labels.")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows: Any = self.verticalHeader()
        columns: Any = self.horizontalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        columns.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        columns.setStretchLastSection(True)
        for number, width in enumerate(_WIDTHS):
            self.setColumnWidth(number, width)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the height of some rows; the width is up to the dock."""
        return QSize(200, self._height(_USUAL_ROWS))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the height of a few rows."""
        return QSize(120, self._height(_LEAST_ROWS))

    def _height(self, rows: int) -> int:
        header: Any = self.verticalHeader()
        return (rows + 2) * int(header.defaultSectionSize())


class BatchPanel(QWidget):
    """All that the tab shows; what it does is up to `BatchTab`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fields = BatchForm()
        self.note = new_note()
        self.dry_button, self.run_button = QPushButton("Dry run"), QPushButton("Run")
        self.pause_button, self.cancel_button = QPushButton("Pause"), QPushButton("Cancel")
        self.progress_bar = QProgressBar()
        self.status = new_note()
        self.model = BatchModel(self)
        self.table = FileTable(self.model)
        self.open_button = QPushButton("Open image")
        self.write_button = QPushButton("Write labels of this file")
        self.report_button = QPushButton("Open report")
        self._explain()
        self._lay_out()

    def say(self, text: str, bad: bool = False) -> None:
        """Say how things are."""
        self.status.setText(text)
        self.status.setStyleSheet(_BAD if bad else "")

    def show_running(self, running: bool, paused: bool = False) -> None:
        """Turn on what a job needs that is going on, or is not."""
        self.fields.setEnabled(not running)
        self.dry_button.setEnabled(not running)
        self.run_button.setEnabled(not running)
        self.pause_button.setEnabled(running)
        self.cancel_button.setEnabled(running)
        self.pause_button.setText("Resume" if paused else "Pause")
        self.progress_bar.setVisible(running)

    def show_progress(self, fraction: float | None, text: str) -> None:
        """Show the share that is done, 0 to 1, and what it means; None while nothing is known."""
        self.progress_bar.setRange(0, 0 if fraction is None else _STEPS)
        self.progress_bar.setValue(int((fraction or 0) * _STEPS))
        self.progress_bar.setFormat(text)

    def _explain(self) -> None:
        self.note.setToolTip("Change model, modality and settings in the tab Segment.")
        self.dry_button.setToolTip("Look what would be done with each image; nothing is written.")
        self.run_button.setToolTip("Segment all images, with a record for each and a report.")
        self.pause_button.setToolTip("Wait after the tile that is being computed, or go on.")
        self.cancel_button.setToolTip(
            "Stop after the tile that is being computed. Run goes on from there later."
        )
        self.open_button.setToolTip(
            "Open the image of the selected row and its labels; the tab Prompts then works on it."
        )
        self.write_button.setToolTip(
            "Write the labels that the tab Prompts shows in place of those of the job, with their "
            "prompts beside them; no other file is touched."
        )
        self.report_button.setToolTip("Open the report of the job in the browser.")
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 4, 0)
        layout.addWidget(self.fields)
        layout.addWidget(self.note)
        layout.addLayout(
            _row(self.dry_button, self.run_button, self.pause_button, self.cancel_button)
        )
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.status)
        layout.addWidget(self.table, stretch=1)
        layout.addLayout(_row(self.open_button, self.report_button))
        layout.addWidget(self.write_button)
        outer = QVBoxLayout(self)
        outer.addWidget(Scroll(content))


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        widget.setMinimumWidth(40)
        row.addWidget(widget)
    return row

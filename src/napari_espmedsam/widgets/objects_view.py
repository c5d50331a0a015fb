"""The table of objects on the screen, and the folded part that links them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from qtpy.QtCore import (  # type: ignore[attr-defined]
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QSignalBlocker,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHeaderView,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_espmedsam.inference.linking import MIN_OVERLAP
from napari_espmedsam.widgets.fields import ignore_wheel
from napari_espmedsam.widgets.objects_model import ObjectsModel
from napari_espmedsam.widgets.rows import form_layout, tight

_LEAST_ROWS, _USUAL_ROWS = 4, 12
_SELECT = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows


class ObjectsView(QTableView):
    """Rows of objects; a click on a heading sorts.

    Attributes
    ----------
    row_chosen : Signal(int)
        The user has moved to a row: its number in the data.
    selection_changed : Signal()
        Other rows are selected, by the user or not.
    """

    row_chosen = Signal(int)
    selection_changed = Signal()

    def __init__(self, model: ObjectsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = model
        self._silent = False
        self.setModel(model)
        self.setToolTip("Choose a row to go to its object; click a heading to sort.")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._style_headers()
        choice: Any = self.selectionModel()
        self._choice = choice
        self._choice.currentRowChanged.connect(self._on_current)
        self._choice.selectionChanged.connect(self._on_selection)
        self.clicked.connect(self._on_clicked)

    def select_row(self, number: int | None) -> None:
        """Select a row by its number in the data and bring it into view; this is no choice."""
        self._silent = True
        try:
            if number is None:
                self.clearSelection()
                self.setCurrentIndex(QModelIndex())
                return
            (row,) = self._model.rows_on_screen([number])
            index = self._model.index(row, 0)
            self._choice.setCurrentIndex(index, _SELECT)
            self.scrollTo(index)
        finally:
            self._silent = False

    def select_rows(self, numbers: Iterable[int]) -> None:
        """Select several rows without choosing any."""
        self._silent = True
        try:
            selection = QItemSelection()
            rows = np.sort(np.array(self._model.rows_on_screen(numbers), dtype=np.int64))
            for part in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                if part.size:  # a range for each stretch: thousands of single rows take seconds
                    first, last = (self._model.index(int(row), 0) for row in part[[0, -1]])
                    selection.select(first, last)
            self._choice.select(selection, _SELECT)
        finally:
            self._silent = False

    def selected_rows(self) -> list[int]:
        """Return the numbers of the selected rows, in the order of the screen."""
        parts = self._choice.selection()  # ranges; an index for each row takes a second for many
        rows = {row for part in parts for row in range(part.top(), part.bottom() + 1)}
        return [self._model.number_at(row) for row in sorted(rows)]

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the height of some rows; the width is up to the dock."""
        return QSize(200, self._height(_USUAL_ROWS))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the height of a few rows."""
        return QSize(120, self._height(_LEAST_ROWS))

    def _height(self, rows: int) -> int:
        header: Any = self.verticalHeader()
        return (rows + 2) * int(header.defaultSectionSize())

    def _style_headers(self) -> None:
        rows: Any = self.verticalHeader()
        columns: Any = self.horizontalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        columns.setResizeContentsPrecision(50)  # rows that are looked at for the width
        columns.setHighlightSections(False)
        columns.setSectionsMovable(True)
        self.setSortingEnabled(True)
        columns.setSortIndicatorClearable(True)
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)

    def _on_current(self, current: QModelIndex, _before: QModelIndex) -> None:
        if current.isValid() and not self._silent:
            self.row_chosen.emit(self._model.number_at(current.row()))

    def _on_selection(self, *_: object) -> None:
        self.selection_changed.emit()

    def _on_clicked(self, index: QModelIndex) -> None:
        """Go back to a row that is current already."""
        if len(self.selected_rows()) == 1:
            self.row_chosen.emit(self._model.number_at(index.row()))


class LinkPart(QCollapsible):
    """How to link the objects of a stack.

    Attributes
    ----------
    wanted : Signal(str, float, bool)
        Along what, the least overlap, and whether with tracks.
    """

    wanted = Signal(str, float, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(
            "Link objects through the stack", parent, expandedIcon="▾", collapsedIcon="▸"
        )
        self.along = QComboBox()
        self.overlap = QDoubleSpinBox()
        self.tracks = QCheckBox("Add tracks")
        self.button = QPushButton("Link into a new layer")
        self._lay_out()
        self.along.currentIndexChanged.connect(self._on_along)
        self.button.clicked.connect(self._on_clicked)

    def set_ways(self, ways: dict[str, str]) -> None:
        """Offer ways to link, see `linking.ways_to_link`; none hides the part."""
        if [self.along.itemData(i) for i in range(self.along.count())] != list(ways):
            with QSignalBlocker(self.along):
                self.along.clear()
                for way, text in ways.items():
                    self.along.addItem(text, way)
            self._on_along()
        self.setVisible(bool(ways))

    def set_busy(self, reason: str) -> None:
        """Turn the button off and say why; ``""`` turns it on again."""
        self.button.setEnabled(not reason)
        self.button.setToolTip(
            reason or "Give one number to each object through the stack. This layer stays as it is."
        )

    def _on_along(self, _index: int = 0) -> None:
        self.tracks.setVisible("T" in str(self.along.currentData()))

    def _on_clicked(self) -> None:
        along = str(self.along.currentData())
        tracks = "T" in along and self.tracks.isChecked()
        self.wanted.emit(along, self.overlap.value(), tracks)

    def _lay_out(self) -> None:
        self.setToolTip("Give one number to each object through the planes of a stack.")
        self.along.setToolTip("The axes along which objects are linked.")
        self.overlap.setRange(0.0, 1.0)
        self.overlap.setSingleStep(0.05)
        self.overlap.setValue(MIN_OVERLAP)
        self.overlap.setToolTip(
            "<qt>Share of the smaller of two objects on neighbouring planes that has to lie on "
            "the other for the two to be one.<br>Range: 0 to 1.</qt>"
        )
        self.tracks.setToolTip("Also add a layer with the path of each object through time.")
        for editor in (self.along, self.overlap):
            ignore_wheel(editor)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        form = form_layout(column)
        form.addRow("Along", self.along)
        form.addRow("Overlap", self.overlap)
        form.addRow(self.tracks)
        column.addWidget(self.button)
        self.addWidget(inside)
        tight(self)
        self.set_busy("")

"""One object in the table and in the viewer at the same time: rows, selected label, camera."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.widgets.navigation import go_to, slider_position
from napari_espmedsam.widgets.objects_columns import columns_of
from napari_espmedsam.widgets.objects_model import ObjectsModel
from napari_espmedsam.widgets.objects_source import ObjectSource
from napari_espmedsam.widgets.objects_table import ObjectKey, ObjectTable
from napari_espmedsam.widgets.objects_view import ObjectsView


class ObjectPointer(QObject):
    """Links the rows of the table with the labels of a layer, both ways.

    A row that the user chooses moves the viewer; a label chosen in the viewer only selects its
    row, for a camera that moves by itself while somebody draws is a nuisance.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    view
        The table on the screen.
    model
        Its model.
    parent
        Qt parent.

    Attributes
    ----------
    visited : Signal(object)
        The user looks at an object: its key.
    """

    visited = Signal(object)

    def __init__(
        self, viewer: Any, view: ObjectsView, model: ObjectsModel, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._model = viewer, view, model
        self._layer: Any = None
        self._source: ObjectSource | None = None
        self._table: ObjectTable | None = None
        self._going = False
        view.row_chosen.connect(self._on_row)

    def clear(self) -> None:
        """Show no objects."""
        self._layer = self._source = self._table = None
        self._model.set_columns(())

    def show(self, layer: Any, source: ObjectSource, table: ObjectTable, *, lockable: bool) -> None:
        """Show objects in place of others; selected objects stay so, and so does the scrolling."""
        selected = self.selected()
        names = [column.name for column in self._model.columns]
        bars: list[Any] = [self._view.verticalScrollBar(), self._view.horizontalScrollBar()]
        places = [bar.value() for bar in bars]
        columns = columns_of(table)
        self._layer, self._source, self._table = layer, source, table
        self._model.set_columns(columns, lockable=lockable)
        if names != [column.name for column in columns]:
            self._view.resizeColumnsToContents()
        self._view.select_rows(self._rows(selected))
        for bar, place in zip(bars, places, strict=True):
            bar.setValue(place)

    def selected(self) -> list[ObjectKey]:
        """Return the selected objects, in the order of the screen."""
        table = self._table
        return [] if table is None else [table.key(row) for row in self._view.selected_rows()]

    def go(self, key: ObjectKey) -> None:
        """Select an object and show it in the viewer."""
        for row in self._rows([key]):
            self._view.select_row(row)
            self._on_row(row)

    def follow(self, label: int) -> None:
        """Select the row of a label that was chosen in the viewer."""
        if self._going or self._table is None or self._source is None:
            return
        time = 0
        if "T" in self._source.axes:
            point = self._source.stack_point(slider_position(self._viewer, self._layer).tolist())
            time = round(point[0])
        row = self._table.find(label, time)
        self._view.select_row(row)
        if row is not None:
            self.visited.emit(self._table.key(row))

    def _on_row(self, row: int) -> None:
        layer, source, table = self._layer, self._source, self._table
        if table is None or source is None:
            return
        label = int(table.labels[row])
        point = source.pixel_of(label, *table.box(row))
        self._going = True
        try:
            layer.selected_label = label
        finally:
            self._going = False
        go_to(self._viewer, layer, point)
        if self._table is table:  # moving a slider may show another table, or none
            self.visited.emit(table.key(row))

    def _rows(self, keys: Iterable[ObjectKey]) -> list[int]:
        rows = {} if self._table is None else self._table.rows
        return [rows[key] for key in keys if key in rows]

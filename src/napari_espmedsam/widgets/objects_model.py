"""The table of objects as a Qt model over numpy columns: no row is a Python object.

Sorting is done here rather than by a proxy, which would compare thousands of rows one by one in
Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal  # type: ignore[attr-defined]

from napari_espmedsam.widgets.objects_columns import Column
from napari_espmedsam.widgets.objects_table import LOCK

Integers = npt.NDArray[np.int64]
_ROLE = Qt.ItemDataRole


class ObjectsModel(QAbstractTableModel):
    """Columns of numbers, sortable, with check boxes in the column "locked".

    Rows of the model are in the order of the screen; `row numbers` elsewhere count the values of
    the columns as they were given.

    Attributes
    ----------
    lock_toggled : Signal(int, bool)
        The user has ticked a box: row number and the new state. The model itself does not change.
    """

    lock_toggled = Signal(int, bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._columns: tuple[Column, ...] = ()
        self._order: Integers = np.zeros(0, np.int64)  # row number of each row on the screen
        self._place: Integers = np.zeros(0, np.int64)  # and the other way round
        self._sorted_by: tuple[str, bool] | None = None  # column, descending
        self._editable = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, in the order in which their values were given."""
        return self._columns

    @property
    def order(self) -> Integers:
        """Row numbers in the order of the screen, (n,) int64."""
        return self._order

    def set_columns(self, columns: Sequence[Column], *, lockable: bool = False) -> None:
        """Show other objects, sorted by the same column as before.

        Parameters
        ----------
        columns : sequence of Column
            All of one length.
        lockable : bool
            Whether the boxes of the column "locked" may be ticked.
        """
        self.beginResetModel()
        self._columns = tuple(columns)
        self._editable = lockable
        self._order = self._sorted()
        self._place = np.argsort(self._order)
        self.endResetModel()

    def rows_on_screen(self, numbers: Iterable[int]) -> list[int]:
        """Return where rows stand now, by their row numbers."""
        return [int(self._place[number]) for number in numbers]

    def number_at(self, row: int) -> int:
        """Return the row number of a row on the screen."""
        return int(self._order[row])

    def position(self, name: str) -> int:
        """Return the position of a column; -1 where there is none of that name."""
        names = [column.name for column in self._columns]
        return names.index(name) if name in names else -1

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; equal values keep the order they were given in, NaN comes last."""
        if not 0 <= column < len(self._columns):
            self._sorted_by = None
        else:
            name = self._columns[column].name
            self._sorted_by = (name, order == Qt.SortOrder.DescendingOrder)
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        numbers = [self.number_at(index.row()) for index in before]
        self._order = self._sorted()
        self._place = np.argsort(self._order)
        after = [
            self.index(row, index.column())
            for row, index in zip(self.rows_on_screen(numbers), before, strict=True)
        ]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of objects."""
        return 0 if parent is not None and parent.isValid() else self._order.size

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def headerData(  # noqa: N802 (Qt's name)
        self, section: int, orientation: Qt.Orientation, role: int = _ROLE.DisplayRole
    ) -> Any:
        """Return the heading of a column or what it means."""
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(self._columns):
            return None
        column = self._columns[section]
        if role == _ROLE.DisplayRole:
            return column.heading
        return column.help or None if role == _ROLE.ToolTipRole else None

    def data(self, index: QModelIndex, role: int = _ROLE.DisplayRole) -> Any:
        """Return the text, alignment or box of a cell."""
        if not index.isValid():
            return None
        column = self._columns[index.column()]
        is_box = column.name == LOCK
        if role == _ROLE.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignHCenter if is_box else Qt.AlignmentFlag.AlignRight
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        if role == _ROLE.DisplayRole and not is_box:
            return column.text(self.number_at(index.row()))
        if role == _ROLE.CheckStateRole and is_box:
            on = bool(column.values[self._order[index.row()]])
            return Qt.CheckState.Checked if on else Qt.CheckState.Unchecked
        return column.help or None if role == _ROLE.ToolTipRole and is_box else None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Return what may be done with a cell."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if index.isValid() and self._editable and self._columns[index.column()].name == LOCK:
            flags |= Qt.ItemFlag.ItemIsUserCheckable
        return flags

    def setData(  # noqa: N802 (Qt's name)
        self, index: QModelIndex, value: Any, role: int = _ROLE.EditRole
    ) -> bool:
        """Tell that a box was ticked; whoever locks objects then gives new columns."""
        if role != _ROLE.CheckStateRole or not self.flags(index) & Qt.ItemFlag.ItemIsUserCheckable:
            return False
        on = Qt.CheckState(value) == Qt.CheckState.Checked
        self.lock_toggled.emit(self.number_at(index.row()), on)
        return True

    def _sorted(self) -> Integers:
        count = len(self._columns[0].values) if self._columns else 0
        at = -1 if self._sorted_by is None else self.position(self._sorted_by[0])
        if self._sorted_by is None or at < 0:
            return np.arange(count, dtype=np.int64)
        values = self._columns[at].values
        if values.dtype.kind not in "fiu":
            values = values.astype(np.float64)
        known = np.flatnonzero(~np.isnan(values))
        if self._sorted_by[1]:  # backwards twice, so that equal values keep their order
            order = known[::-1][np.argsort(values[known[::-1]], kind="stable")][::-1]
        else:
            order = known[np.argsort(values[known], kind="stable")]
        unknown = np.flatnonzero(np.isnan(values))
        return np.concatenate([order, unknown]).astype(np.int64)

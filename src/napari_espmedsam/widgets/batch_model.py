"""The images of a job and where each stands, as a Qt model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

from napari_espmedsam.batch.task import FileResult, FileTask

HEADINGS = ("File", "Status", "Found", "Seconds", "Reason")
_BAD = QColor("#e8a33d")  # as in the tab "Segment"
_STATES = {"skipped": "finished", "cancelled": "not done"}
_TROUBLE = ("failed", "problem")
_ROLE = Qt.ItemDataRole


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes
    ----------
    task : FileTask
        What is to be done.
    state : str
        One or two words: "waiting", "running", "done", "finished", "failed", "not done",
        "edited"; of a dry run "to do", "finished", "problem".
    fraction : float
        Share that is done, 0 to 1.
    found : str
        What was found; "" where nothing is known.
    seconds : float or None
        Time it took; None where nothing is known.
    reason : str
        Why it is so; "" where there is nothing to say.
    """

    task: FileTask
    state: str = "waiting"
    fraction: float = 0.0
    found: str = ""
    seconds: float | None = None
    reason: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether the job is through with it."""
        return self.state not in ("waiting", "running")

    def text(self, column: int) -> str:
        """Return the text of a cell."""
        running = self.state == "running" and self.fraction > 0
        state = f"{self.state} {self.fraction:.0%}" if running else self.state
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        return (self.task.relative, state, self.found, seconds, self.reason)[column]


class BatchModel(QAbstractTableModel):
    """A row for each image of a job, in the order of the job."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return tuple(self._rows)

    def row(self, number: int) -> Row:
        """Return one row."""
        return self._rows[number]

    def find(self, task: FileTask) -> int:
        """Return the row whose results are those of a task; -1 where there is none."""
        paths = (row.task.record_path for row in self._rows)
        return next((i for i, path in enumerate(paths) if path == task.record_path), -1)

    def set_tasks(self, tasks: Sequence[FileTask]) -> None:
        """Show the images of another job."""
        self.beginResetModel()
        self._rows = [Row(task) for task in tasks]
        self.endResetModel()

    def change(self, number: int, **changes: Any) -> None:
        """Change fields of a row."""
        self._rows[number] = replace(self._rows[number], **changes)
        self.dataChanged.emit(self.index(number, 0), self.index(number, len(HEADINGS) - 1))

    def take(self, number: int, result: FileResult, *, state: str = "") -> None:
        """Show what came of an image, under another state if one is given."""
        self.change(
            number,
            state=state or _STATES.get(result.state, result.state),
            fraction=1.0,
            found=result.found,
            seconds=result.seconds or None,
            reason=result.reason or " ".join(result.warnings),
        )

    def stop(self) -> None:
        """Mark as not done what nobody is going to do any more."""
        for number, row in enumerate(self._rows):
            if not row.has_ended:
                self.change(number, state="not done", fraction=0.0)

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of images."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(HEADINGS)

    def headerData(  # noqa: N802 (Qt's name)
        self, section: int, orientation: Qt.Orientation, role: int = _ROLE.DisplayRole
    ) -> Any:
        """Return the heading of a column."""
        if orientation != Qt.Orientation.Horizontal or role != _ROLE.DisplayRole:
            return None
        return HEADINGS[section]

    def data(self, index: QModelIndex, role: int = _ROLE.DisplayRole) -> Any:
        """Return text, tooltip (the whole text) or colour of a cell."""
        if not index.isValid():
            return None
        row, column = self._rows[index.row()], index.column()
        if role == _ROLE.DisplayRole:
            return row.text(column).replace("\n", " ")
        if role == _ROLE.ToolTipRole:
            whole = "\n".join(filter(None, [str(row.task.path), row.reason]))
            return whole if column == 0 else row.text(column) or None
        if role == _ROLE.ForegroundRole and row.state in _TROUBLE:
            return _BAD
        if role == _ROLE.TextAlignmentRole and HEADINGS[column] == "Seconds":
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

"""An editor of paths, one a line."""

from __future__ import annotations

from qtpy.QtCore import QMimeData, QSize
from qtpy.QtWidgets import QPlainTextEdit


class PathList(QPlainTextEdit):
    """Paths, one a line; files and folders can be dropped here."""

    def __init__(self) -> None:
        super().__init__()
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setTabChangesFocus(True)
        self.setStyleSheet("PathList { border: 1px solid rgba(128, 128, 128, 90); }")
        self.setPlaceholderText("folder, files or plates/**/*.tif")
        self.setToolTip(
            "What to segment, one a line: image files, folders of them, or patterns such as "
            "plates/**/*.tif. Files and folders can be dropped here."
        )
        self.setFixedHeight(4 * self.fontMetrics().lineSpacing() + 8)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths."""
        lines = (line.strip() for line in self.toPlainText().splitlines())
        return tuple(line for line in lines if line)

    def add(self, *paths: str) -> None:
        """Add paths that are not there yet."""
        known = self.paths
        self.setPlainText("\n".join([*known, *(path for path in paths if path not in known)]))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return a small width: long paths are scrolled."""
        return QSize(120, super().minimumSizeHint().height())

    def insertFromMimeData(self, source: QMimeData | None) -> None:  # noqa: N802 (Qt's name)
        """Take the paths of files that are dropped or pasted, and else their text."""
        urls = [] if source is None else source.urls()
        local = [url.toLocalFile() for url in urls if url.isLocalFile()]
        if local:
            self.add(*local)
        else:
            super().insertFromMimeData(source)

"""What the tab "Objects" does beside the GUI thread: writing the table, linking the objects."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.io.tables import table_rows, write_table_csv
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.layers import geometry_of
from napari_espmedsam.widgets.linking import Linked, LinkJob, add_linked, count_objects, link
from napari_espmedsam.widgets.objects_source import our_record, source_of
from napari_espmedsam.widgets.objects_table import ObjectTable

_log = logging.getLogger(__name__)
_SAVE, _LINK = "save", "link"


class ObjectsJobs(QObject):
    """Jobs on the objects of a layer.

    Parameters
    ----------
    viewer
        The ``napari.Viewer`` that linked objects are added to.
    background
        Does the work.
    parent
        Qt parent.

    Attributes
    ----------
    said : Signal(str, bool)
        How a job went, and whether it went wrong.
    linked : Signal(object)
        The new labels layer; None where linking went wrong.
    """

    said = Signal(str, bool)
    linked = Signal(object)

    def __init__(self, viewer: Any, background: Background, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._background = viewer, background
        background.done.connect(self._on_done)
        background.failed.connect(self._on_failed)

    def save(self, path: str | Path, table: ObjectTable) -> None:
        """Write a table as CSV."""
        self._background.submit(_SAVE, partial(_write, Path(path), table))

    def link(self, layer: Any, along: str, min_overlap: float, tracks: bool) -> None:
        """Link the objects of a layer into a new one, see `LinkJob`."""
        record = dict(our_record(layer) or {})
        name, place = str(layer.name), geometry_of(layer)
        job = LinkJob(source_of(layer), along, min_overlap, tracks, name, place, record)
        self._background.submit(_LINK, partial(link, job))

    def _on_done(self, key: object, result: Any) -> None:
        if key == _SAVE:
            self.said.emit(result, False)
        elif isinstance(result, Linked):
            way = "tracks added" if result.tracks is not None else "a new layer"
            layer = add_linked(self._viewer, result)
            self.linked.emit(layer)
            self.said.emit(f"Linked into {count_objects(result.n_objects)}: {way}.", False)

    def _on_failed(self, key: object, error: Exception) -> None:
        if key not in (_SAVE, _LINK):
            return
        self.said.emit(report(error), True)
        if key == _LINK:
            self.linked.emit(None)


def report(error: Exception) -> str:
    """Show an error as napari does, and return it as one line; ours come without a traceback."""
    if isinstance(error, EspMedSamError):
        show_error(str(error))
        return str(error)
    _log.error("Something went wrong beside the GUI thread.", exc_info=error)
    notification_manager.receive_error(type(error), error, error.__traceback__)
    return f"Unexpected {type(error).__name__}: {error}"


def _write(path: Path, table: ObjectTable) -> str:
    rows = table_rows(table.columns)
    write_table_csv(path, rows)
    return f"Wrote {len(rows)} row{'s'[: len(rows) != 1]} to {path.name}."

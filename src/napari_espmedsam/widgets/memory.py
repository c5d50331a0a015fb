"""Remembers the settings of the forms from one session of napari to the next."""

from __future__ import annotations

import logging
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QTimer

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.widgets.batch_form import BatchForm
from napari_espmedsam.widgets.batch_settings import BatchSettings
from napari_espmedsam.widgets.form import SegmentForm
from napari_espmedsam.widgets.settings_file import (
    changed_settings,
    load_batch,
    load_settings,
    save_settings,
    settings_path,
)

_log = logging.getLogger(__name__)
_PAUSE = 1000  # ms after the last change: a slider that is dragged writes once


class Memory(QObject):
    """Fills two forms with the settings of last time, and writes them down when they change.

    Each form is filled once; of two docks that are open at the same time none follows the other,
    and the one that was changed last is remembered.

    Parameters
    ----------
    form, batch
        What is filled and watched; the first one is the Qt parent, too.
    """

    def __init__(self, form: SegmentForm, batch: BatchForm) -> None:
        super().__init__(form)
        self._form, self._batch = form, batch
        self._path = settings_path()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.save)
        self._restore()
        self._known = self._now()
        form.changed.connect(self._on_changed)
        batch.changed.connect(self._on_changed)

    def save(self) -> None:
        """Write down what has changed since the last time; harmless where that fails."""
        self._timer.stop()
        now = self._now()
        if self._path is None or now == self._known:
            return
        self._known = now
        try:
            save_settings(self._path, *now)
        except EspMedSamError as error:
            _log.warning("The settings are not remembered: %s", error)

    def _now(self) -> tuple[dict[str, Any], BatchSettings]:
        return changed_settings(self._form.settings), self._batch.settings

    def _restore(self) -> None:
        if self._path is None:
            return
        try:
            self._form.take(load_settings(self._path))
            self._batch.take(load_batch(self._path))
        except EspMedSamError as error:
            show_warning(str(error))

    def _on_changed(self, _value: Any = None) -> None:
        if self._path is not None:
            self._timer.start(_PAUSE)

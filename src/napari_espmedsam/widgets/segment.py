"""The widget "Segment": a form, a worker, and a labels layer that fills plane by plane."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.results import PlaneResult, TileDone
from napari_espmedsam.model.header import CheckpointHeader
from napari_espmedsam.weights import resolve_checkpoint
from napari_espmedsam.widgets.activity import ActivityBar
from napari_espmedsam.widgets.current_run import CurrentRun, count_planes
from napari_espmedsam.widgets.farewell import Farewell
from napari_espmedsam.widgets.form import Prepared, SegmentForm
from napari_espmedsam.widgets.kept_model import KeptModel
from napari_espmedsam.widgets.layers import level_zero
from napari_espmedsam.widgets.results import ResultBook, ResultWriter
from napari_espmedsam.widgets.worker import (
    Ended,
    Event,
    Job,
    Loader,
    Loading,
    Ready,
    load_segmenter,
    read_file,
    run,
)

_log = logging.getLogger(__name__)
_STEPS = 100  # of the progress bar, which Qt paints at each


class SegmentWidget(QWidget):
    """Segment the planes of an image layer without clicks.

    The work runs in a worker thread; the window stays responsive, and Cancel stops within one
    tile. Everything here runs in the GUI thread.

    Parameters
    ----------
    napari_viewer
        The ``napari.Viewer`` that the widget is docked in.
    loader
        Gives the model of a request; another one for tests.

    Attributes
    ----------
    done : Signal(object)
        A run has ended and left this labels layer.
    """

    done = Signal(object)
    # Qt may send events before __init__ is through.
    _run: CurrentRun | None = None
    _is_released = False

    def __init__(self, napari_viewer: Any, *, loader: Loader = load_segmenter) -> None:
        super().__init__()
        self._load = loader
        self._model = KeptModel()
        self._book = ResultBook(napari_viewer)
        self._stops: list[threading.Event] = []
        self._events: deque[Event | None] = deque()
        self._handling = False
        self.form = SegmentForm(napari_viewer)
        self.run_button = QPushButton("Run")
        self.cancel_button = QPushButton("Cancel")
        self.defaults_button = QPushButton("Restore defaults")
        self.progress_bar = QProgressBar()
        self.status = QLabel()
        self._lay_out()
        self.form.changed.connect(self._check)
        self.form.model.file_added.connect(self._read_model_file)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.defaults_button.clicked.connect(self.form.reset)
        napari_viewer.layers.events.removed.connect(self._on_layer_removed)
        # The viewer may take the widget with it. What is connected here must not hold the widget.
        self._farewell = Farewell(self, partial(_end, self._stops, self._model))
        self._show_running(False)
        self._check()

    @property
    def is_running(self) -> bool:
        """Whether a run is going on."""
        return self._run is not None

    def run(self) -> None:
        """Start a run with the settings of the form; does nothing while one is going on."""
        if self._run is not None:
            return
        self._is_released = False
        try:
            prepared = self.form.prepare()
            key = _model_key(prepared.request)
        except EspMedSamError as error:
            self._show_error(error)
            return
        job = Job(level_zero(prepared.layer), prepared.request, self._model.take(key))
        worker = create_worker(run, job, self._load, _start_thread=False)
        activity = ActivityBar(f"ESP-MedSAM: {prepared.image.name}", self.cancel, self)
        self._run = CurrentRun(job, prepared, self._writer(prepared), key, activity)
        self._stops[:] = [job.stop]
        worker.yielded.connect(self._on_event)
        worker.finished.connect(self._on_finished)
        self._show_running(True)
        self._say(f"Starting: {count_planes(prepared.n_planes)} of '{prepared.image.name}'.")
        worker.start()

    def cancel(self) -> None:
        """Stop the run after the tile that is being computed."""
        if self._run is not None:
            self._run.job.stop.set()
            self.cancel_button.setEnabled(False)
            self._say("Stopping after this tile …")

    def release(self) -> None:
        """Stop the run and let go of the model; the next run loads it again."""
        self.cancel()
        self._is_released = True
        if self._run is None:
            self._model.release()

    def event(self, event: QEvent | None) -> bool:
        """Stop the run when the dock that holds the widget is closed."""
        done = super().event(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and not self.parent():
            self.release()
        return done

    def _writer(self, prepared: Prepared) -> ResultWriter:
        request = prepared.request
        key = (prepared.image, id(level_zero(prepared.layer)), _without_planes(request))
        own = None
        if prepared.plane is not None:
            own = self._book.find(key, prepared.plan, prepared.plane)
        return ResultWriter(
            self._book,
            prepared.plan,
            key,
            name=f"{prepared.image.name} - espmedsam {request.modality}",
            image_name=prepared.image.name,
            is_mask=request.output == "mask",
            own=own,
        )

    def _on_layer_removed(self, _event: Any = None) -> None:
        """Stop a run whose labels the user has deleted."""
        if self._run is not None and self._run.writer.is_orphan:
            self.cancel()

    def _on_event(self, event: Event) -> None:
        self._handle(event)

    def _on_finished(self) -> None:
        self._handle(None)

    def _handle(self, event: Event | None) -> None:
        """Handle the events of a run one after the other.

        Whatever a plugin connects to new layers may let Qt work, so the next event can arrive
        while one is being handled; None is the end of the worker.
        """
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                next_event = self._events.popleft()
                if self._run is None:
                    continue
                if next_event is None:
                    self._finish(self._run)
                else:
                    self._take_safely(self._run, next_event)
        finally:
            self._handling = False
        if self._run is None and self._is_released:
            self._model.release()

    def _take_safely(self, current: CurrentRun, event: Event) -> None:
        """Take an event; a fault of ours or of napari ends the run like any other error."""
        try:
            self._take(current, event)
        except Exception as error:
            current.job.stop.set()
            current.fault = error

    def _take(self, current: CurrentRun, event: Event) -> None:
        if isinstance(event, Ended):
            current.ended = event
        elif isinstance(event, Loading):
            self._say(f"Loading the model {Path(current.prepared.request.checkpoint).stem} …")
            self.progress_bar.setRange(0, 0)  # a bar that moves: nobody knows how long
        elif isinstance(event, Ready):
            self._model.keep(current.model_key, event.segmenter)
            current.device = event.segmenter.device
            self._say(f"Running. {event.segmenter.device.reason}{_waiting_for(event.awaits)}")
        elif isinstance(event, TileDone):
            self._show_progress(current, event)
        elif isinstance(event, PlaneResult):
            current.writer.write(event)

    def _finish(self, current: CurrentRun) -> None:
        """Clean up after any end: done, cancelled, failed, or stopped by napari on closing."""
        self._run = None
        current.activity.close()
        ended = current.ended or Ended(cancelled=True)
        if current.fault is not None:
            ended = Ended(error=current.fault)
        done = f"{current.writer.planes_done} of {count_planes(current.prepared.n_planes)}"
        if ended.error is not None:
            current.writer.end(f"failed after {done}: {ended.error}")
        else:
            current.writer.end(f"cancelled after {done}" if ended.cancelled else "complete")
        self._show_running(False)
        self._check()
        if current.writer.layer is not None:
            self.done.emit(current.writer.layer)
        if ended.error is not None:
            self._show_error(ended.error)
        elif ended.cancelled:
            self._say(f"Cancelled after {done}.")
        else:
            self._say(current.summary())

    def _check(self) -> None:
        """Enable Run, or say what stands in the way."""
        if self._run is not None:
            return
        try:
            prepared = self.form.prepare()
        except EspMedSamError as error:
            self.run_button.setEnabled(False)
            self.run_button.setToolTip(str(error))
            self._say(str(error), bad=True)
            return
        self.run_button.setEnabled(True)
        self.run_button.setToolTip("Segment with these settings.")
        self._say(f"Ready: {count_planes(prepared.n_planes)} of '{prepared.image.name}'.")

    def _show_error(self, error: Exception) -> None:
        """Show our own errors as they are; of all others also the traceback."""
        if isinstance(error, EspMedSamError):
            self._say(str(error), bad=True)
            show_error(str(error))
            return
        self._say(f"Unexpected {type(error).__name__}: {error}", bad=True)
        _log.error("A run ended unexpectedly.", exc_info=error)
        notification_manager.receive_error(type(error), error, error.__traceback__)

    def _show_progress(self, current: CurrentRun, event: TileDone) -> None:
        text = f"plane {event.plane + 1} of {event.n_planes}"
        self.progress_bar.setRange(0, _STEPS)
        self.progress_bar.setValue(int(event.fraction * _STEPS))
        self.progress_bar.setFormat(text)
        current.activity.set_progress(event.fraction, text)

    def _show_running(self, running: bool) -> None:
        self.form.set_running(running)
        self.run_button.setEnabled(not running)
        self.cancel_button.setEnabled(running)
        self.defaults_button.setEnabled(not running)
        self.progress_bar.setVisible(running)
        self.progress_bar.setRange(0, _STEPS)
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat("")

    def _say(self, text: str, *, bad: bool = False) -> None:
        self.status.setText(text)
        self.status.setStyleSheet("color: #e8a33d;" if bad else "")

    def _read_model_file(self, path: str) -> None:
        """Read the header of a file in a worker: the file may lie on a slow disk."""
        worker = create_worker(read_file, path, _start_thread=False)
        worker.returned.connect(self._on_model_file)
        worker.start()

    def _on_model_file(self, found: tuple[str, CheckpointHeader | Exception]) -> None:
        path, header = found
        if isinstance(header, Exception):
            self.form.model.set_error(path, header)
            self._show_error(header)
        else:
            self.form.model.set_header(path, header)

    def _lay_out(self) -> None:
        scroll = _FormArea(self.form)
        buttons = QHBoxLayout()
        for button in (self.run_button, self.cancel_button, self.defaults_button):
            buttons.addWidget(button)
        self.cancel_button.setToolTip("Stop after the tile that is being computed.")
        self.defaults_button.setToolTip("Set everything but the image to its default.")
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.addWidget(scroll)
        layout.addLayout(buttons)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.status)
        layout.addStretch()


class _FormArea(QScrollArea):
    """Scrolls a form up and down on low screens, and is always wide enough for it."""

    def __init__(self, form: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(form)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def eventFilter(  # noqa: N802 (Qt's name)
        self, watched: QObject | None, event: QEvent | None
    ) -> bool:
        """Grow and shrink with the form when rows appear or the folded part opens."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the width of the form beside a scroll bar."""
        form, bar = self.widget(), self.verticalScrollBar()
        width = 0 if form is None else form.minimumSizeHint().width()
        bar_width = 0 if bar is None else bar.sizeHint().width()
        return QSize(width + bar_width, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the size at which nothing has to be scrolled."""
        form = self.widget()
        layout = None if form is None else form.layout()
        width = self.minimumSizeHint().width()
        if layout is None:
            return QSize(width, 0)
        # A text that wraps is higher than the form's own hint says.
        room = max(self.width(), width)
        return QSize(width, max(layout.totalHeightForWidth(room), layout.sizeHint().height()))


def _model_key(request: SegmentRequest) -> Hashable:
    """What decides whether the model of the last run can be used again."""
    path = resolve_checkpoint(request.checkpoint)
    found = path.stat()
    how = (request.device, request.precision, request.backend)
    return (path.resolve(), found.st_mtime_ns, found.st_size, *how)


def _without_planes(request: SegmentRequest) -> SegmentRequest:
    return replace(request, planes=None)


def _end(stops: list[threading.Event], model: KeptModel) -> None:
    for stop in stops:
        stop.set()
    model.release()


def _waiting_for(library: str) -> str:
    if not library:
        return ""
    return f" The first tile may wait for {library}: up to a minute, once for each modality."

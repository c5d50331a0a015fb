"""The tab "Batch": a job on many files, watched, paused, stopped, and corrected file by file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QModelIndex, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QWidget

from napari_espmedsam.batch.events import (
    FileEnded,
    FileProgress,
    FileStarted,
    JobResult,
    left_text,
    summary,
)
from napari_espmedsam.batch.models import release_model
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.widgets.activity import ActivityBar
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.batch_files import BatchFiles
from napari_espmedsam.widgets.batch_model import Row
from napari_espmedsam.widgets.batch_panel import BatchPanel
from napari_espmedsam.widgets.batch_work import BatchWork, Event, Looked, Planned
from napari_espmedsam.widgets.farewell import Farewell
from napari_espmedsam.widgets.form import SegmentForm
from napari_espmedsam.widgets.objects_jobs import report
from napari_espmedsam.widgets.prompts_tab import PromptsTab

_PAUSE = 250  # ms between two looks at the progress
_JOB = "job"


class BatchTab(BatchPanel):
    """Runs jobs on files with the model and the settings of the tab "Segment".

    Parameters
    ----------
    viewer
        The ``napari.Viewer`` that single files are opened in.
    form
        Model, modality and settings.
    prompts
        Where an opened file is corrected.
    parent
        Qt parent.
    """

    def __init__(
        self, viewer: Any, form: SegmentForm, prompts: PromptsTab, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._form, self._prompts = form, prompts
        self._works: list[BatchWork] = []  # one at most: also for what outlives this object
        self._ended: JobResult | None = None
        self._activity: ActivityBar | None = None
        self._is_released = False
        self.files = BatchFiles(viewer, self)
        self._background = Background(self, release_model)
        self._timer = QTimer(self)
        self._timer.setInterval(_PAUSE)
        self._connect()
        # The viewer may take the tab with it; a job that is paused would wait for ever.
        self._farewell = Farewell(self, partial(_cancel, self._works))
        self.show_running(False)
        self._refresh()
        self._show_settings()
        self.say("Choose images and a folder for the results.")

    @property
    def work(self) -> BatchWork | None:
        """The job that is going on."""
        return self._works[0] if self._works else None

    @property
    def is_running(self) -> bool:
        """Whether a job is going on."""
        return bool(self._works)

    @property
    def report_path(self) -> Path | None:
        """The page of the last job's report."""
        return self._ended.reports[0] if self._ended and self._ended.reports else None

    def run(self) -> None:
        """Start the job."""
        self._start(dry_run=False)

    def dry_run(self) -> None:
        """Look what the job would do."""
        self._start(dry_run=True)

    def pause(self) -> None:
        """Pause the job, or go on."""
        if self.work is None:
            return
        if self.work.paused:
            self.work.resume()
        else:
            self.work.pause()
        self.show_running(True, self.work.paused)
        self.say("Paused." if self.work.paused else "Going on …")

    def cancel(self) -> None:
        """Stop the job after the tile in work."""
        if self.work is not None:
            self.work.cancel()
            self.pause_button.setEnabled(False)
            self.cancel_button.setEnabled(False)
            self.say("Stopping after this tile …")

    def release(self) -> None:
        """Stop everything: the dock or the window is being closed. A later job starts anew."""
        self.cancel()
        self._is_released = True
        self.files.close()
        if not self.is_running:
            self._background.close()

    def open_file(self, number: int) -> None:
        """Open the image of a row, and its labels."""
        self.files.open(self.model.row(number).task)

    def write_file(self) -> None:
        """Write the labels of the live session in place of those of its file."""
        task = self._live_task()
        if task is not None:
            self.say("Writing once all is up to date …")
            self._prompts.record(partial(self._on_record, task), self._on_no_record)

    def _connect(self) -> None:
        self.run_button.clicked.connect(self.run)
        self.dry_button.clicked.connect(self.dry_run)
        self.pause_button.clicked.connect(self.pause)
        self.cancel_button.clicked.connect(self.cancel)
        self.open_button.clicked.connect(self._on_open)
        self.write_button.clicked.connect(self.write_file)
        self.report_button.clicked.connect(self._on_report)
        self.table.doubleClicked.connect(self._on_double_click)
        choice: Any = self.table.selectionModel()
        choice.selectionChanged.connect(self._refresh)
        self._form.changed.connect(self._show_settings)
        self._prompts.opened.connect(self._refresh)
        self._prompts.closed.connect(self._refresh)
        self._background.step.connect(self._on_step)
        self._background.done.connect(self._on_done)
        self._background.failed.connect(self._on_failed)
        self._timer.timeout.connect(self._show_fraction)
        self.files.said.connect(self.say)
        self.files.opened.connect(self._on_opened)
        self.files.written.connect(self._on_written)

    def _start(self, *, dry_run: bool) -> None:
        if self.is_running:
            return
        try:
            job = self.fields.job(self._form.request_for_files())
        except EspMedSamError as error:
            self.say(str(error), bad=True)
            return
        work = BatchWork(job, dry_run=dry_run, execute=self.fields.execute())
        self._works[:] = [work]
        self._ended, self._is_released = None, False
        self._activity = ActivityBar("ESP-MedSAM: batch", self.cancel, self)
        self.model.set_tasks(())
        self.show_running(True)
        self.show_progress(None, "")
        self.say("Looking for images …")
        self._refresh()
        self._background.submit(_JOB, work.events)
        self._timer.start()

    # What the job says ------------------------------------------------------------------------

    def _on_step(self, _key: object, event: Event) -> None:
        if isinstance(event, Planned):
            self.model.set_tasks(event.tasks)
            self.say(_count(len(event.tasks)))
        elif isinstance(event, Looked):
            self.model.change(event.index, state=event.state, reason=event.reason, fraction=1.0)
        elif isinstance(event, FileStarted):
            self.model.change(event.index, state="running")
            if not self.table.selectedIndexes():
                self.table.scrollTo(self.model.index(event.index, 0))
        elif isinstance(event, FileProgress):
            self.model.change(event.index, fraction=event.fraction)
        elif isinstance(event, JobResult):
            self._ended = event
        elif isinstance(event, FileEnded):
            self.model.take(event.index, event.result)
            self._refresh()

    def _on_done(self, _key: object, _result: Any) -> None:
        text, bad = _dry_summary(self.model.rows), False
        if self._ended is not None:
            text, bad = _summary(self._ended), not self._ended.ok
        self._finish(text, bad=bad)

    def _on_failed(self, _key: object, error: Exception) -> None:
        self._finish(report(error), bad=True)

    def _finish(self, text: str, *, bad: bool) -> None:
        self._works.clear()
        self._timer.stop()
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        self.model.stop()
        self.show_running(False)
        self.say(text, bad)
        self._refresh()
        if self._is_released:
            self._background.close()

    def _show_fraction(self) -> None:
        """Show how far the job is; asked for now and then, since tiles may come fast."""
        rows = self.model.rows
        if self.work is None or not rows:
            return
        ended = sum(row.has_ended for row in rows)
        run = self.work.run
        fraction = ended / len(rows) if run is None else run.fraction
        left = "" if run is None else left_text(run.seconds_left)
        text = ", ".join(filter(None, [f"{ended} of {len(rows)}", left]))
        self.show_progress(fraction, text)
        if self._activity is not None:
            self._activity.set_progress(fraction, text)

    # What the user does -----------------------------------------------------------------------

    def _on_open(self) -> None:
        number = self._selected()
        if number is not None:
            self.open_file(number)

    def _on_double_click(self, index: QModelIndex) -> None:
        self.open_file(index.row())

    def _on_report(self) -> None:
        if self.report_path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report_path.absolute())))

    def _on_opened(self, layer: Any) -> None:
        self._form.image.layer = layer
        self._refresh()

    def _on_record(self, task: FileTask, record: PromptRecord) -> None:
        self.files.write(task, record)

    def _on_no_record(self, reason: str) -> None:
        self.say(f"Nothing was written. {reason}", bad=True)

    def _on_written(self, task: FileTask, result: FileResult) -> None:
        number = self.model.find(task)
        if number >= 0:
            self.model.take(number, result, state="edited")
            self.model.change(number, reason=f"prompts in {task.prompts_path.name}")
        names = ", ".join(path.name for path in result.outputs)
        self.say(f"Wrote {names} and {task.prompts_path.name}.")

    # Small things -----------------------------------------------------------------------------

    def _selected(self) -> int | None:
        indexes = self.table.selectedIndexes()
        return indexes[0].row() if indexes else None

    def _live_task(self) -> FileTask | None:
        """The task of the image whose prompts are shown, unless the job still comes to it."""
        studio = self._prompts.studio
        task = None if studio is None else self.files.task_of(studio.prepared.layer)
        if task is None:
            return None
        number = self.model.find(task)
        waits = number >= 0 and not self.model.row(number).has_ended
        return None if waits and self.is_running else task

    def _refresh(self, *_ignored: Any) -> None:
        self.open_button.setEnabled(self._selected() is not None)
        self.write_button.setEnabled(self._live_task() is not None)
        self.report_button.setEnabled(self.report_path is not None)

    def _show_settings(self) -> None:
        """Say what the tab "Segment" sets."""
        try:
            request = self._form.request_for_files()
        except EspMedSamError as error:
            self.note.setText(str(error))
            return
        model = Path(request.checkpoint).name
        self.note.setText(
            f"As in the tab Segment: {model}, {request.modality}, {request.output}; all planes."
        )


def _count(n: int) -> str:
    return f"{n} image{'s'[: n != 1]}."


def _summary(result: JobResult) -> str:
    parts = [f"{summary(result.results)}."]
    if result.stopped:
        parts.append(f"Stopped: {result.stopped.rstrip('.')}. Run goes on from here.")
    parts += [text for text in (result.problem, result.note) if text]
    return " ".join(parts)


def _dry_summary(rows: tuple[Row, ...]) -> str:
    states = [row.state for row in rows]
    counts = [f"{states.count(each)} {each}" for each in dict.fromkeys(states)]
    return f"{', '.join(counts)}. Nothing was written."


def _cancel(works: list[BatchWork]) -> None:
    for work in works:
        work.cancel()

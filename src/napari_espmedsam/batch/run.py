"""Run a job: its statuses, pause, cancel and report, wherever its tasks are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from napari_espmedsam.batch.events import (
    FileProgress,
    FileStarted,
    FileStatus,
    JobEvent,
    JobResult,
    TaskEvent,
    ended,
)
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.local import run_here
from napari_espmedsam.batch.lock import locked
from napari_espmedsam.batch.report import write_report
from napari_espmedsam.batch.staging import staged
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.errors import OutputError

Execute = Callable[[Sequence[FileTask], Path, Callable[[], bool]], Generator[TaskEvent, None, None]]
"""Does tasks: called with them, a folder that exists while the run does and that only processes
with the same disk see, and a function that says whether to stop. Yields what happens, with the
index of each task; it ends soon once it is to stop, and what it did not end counts as not done."""


class JobRun:
    """One run of a job. Iterate :meth:`events` in any one thread; the rest is for all threads.

    Parameters
    ----------
    job : BatchJob
        What to do. Its images are looked for at once.
    execute : callable
        Does the tasks: :func:`run_here` in this process, or ``Cluster.execute`` on many.

    Attributes
    ----------
    job : BatchJob
        As given.

    Raises
    ------
    InputError, ModalityError, CheckpointError
        As ``BatchJob.plan``.
    """

    def __init__(self, job: BatchJob, execute: Execute = run_here) -> None:
        self.job = job
        self._execute = execute
        self._statuses = [FileStatus(task) for task in job.plan()]
        self._go = threading.Event()
        self._go.set()
        self._stop_reason = ""
        self._seconds = 0.0  # of work, without pauses
        self._worked = 0.0  # bytes of images that this took

    @property
    def statuses(self) -> tuple[FileStatus, ...]:
        """Where each image stands, in the order of the job."""
        return tuple(self._statuses)

    @property
    def paused(self) -> bool:
        """Whether the run waits, or will after the tile in work."""
        return not self._go.is_set()

    @property
    def fraction(self) -> float:
        """Share of the job that is done, 0 to 1, by the size of the images."""
        sizes = [max(1, status.task.size) for status in self._statuses]
        shares = [status.fraction for status in self._statuses]
        return sum(a * b for a, b in zip(sizes, shares, strict=True)) / max(1, sum(sizes))

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time that is left, in seconds; None while nothing is known.

        From the time that this run took per byte of image. Images that turn out to be finished or
        damaged make it too long, never too short.
        """
        if self._worked <= 0:
            return None
        left = sum(max(1, s.task.size) * (1 - s.fraction) for s in self._statuses)
        return left * self._seconds / self._worked

    def pause(self) -> None:
        """Wait after the tile in work until :meth:`resume` or :meth:`cancel`.

        On a cluster the images in work are finished, and no others are begun.
        """
        self._go.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._go.set()

    def cancel(self) -> None:
        """Stop after the tile in work; what is finished stays, and the report is written."""
        self._stop_reason = self._stop_reason or "the job was cancelled"
        self._go.set()

    def events(self) -> Iterator[JobEvent]:
        """Do the work and tell of it; closing the iterator stops it at once, without a report.

        Yields
        ------
        FileStarted, FileProgress, FileDone, FileSkipped, FileFailed, FileCancelled
            As things happen.
        JobResult
            At the end.

        Raises
        ------
        OutputError
            If the output folder cannot be made or written, or another job is writing into it;
            before anything else is done.
        """
        with locked(self.job.folder) as note:
            yield from self._work()
            result = self._finish(note)
        yield result

    def _work(self) -> Iterator[TaskEvent]:
        with staged(self.job.folder, "job") as mark:
            tasks = tuple(status.task for status in self._statuses)
            work = self._execute(tasks, mark, lambda: bool(self._stop_reason))
            try:
                while (event := self._next(work)) is not None:
                    yield event
            finally:
                work.close()
        for index, status in enumerate(self._statuses):
            if status.result is None:
                result = self._not_done(status.task)
                self._set(index, FileStatus(status.task, result.state, 1.0, result))
                yield ended(index, result)

    def _next(self, work: Iterator[TaskEvent]) -> TaskEvent | None:
        """Wait while paused, let the work go on to its next event, and note that."""
        self._go.wait()
        start = time.perf_counter()
        event = next(work, None)
        if event is not None:
            self._note(event, time.perf_counter() - start)
        return event

    def _note(self, event: TaskEvent, seconds: float) -> None:
        status = self._statuses[event.index]
        if isinstance(event, FileStarted):
            new = replace(status, state="running")
        elif isinstance(event, FileProgress):
            new = replace(status, fraction=event.fraction)
        else:
            new = FileStatus(status.task, event.result.state, 1.0, event.result)
            if event.result.stops_job:
                self._stop_reason = self._stop_reason or event.result.reason
        if new.state != "skipped":
            self._worked += max(1, status.task.size) * (new.fraction - status.fraction)
            self._seconds += seconds
        self._set(event.index, new)

    def _not_done(self, task: FileTask) -> FileResult:
        return FileResult(task.relative, "cancelled", f"not done: {self._stop_reason}")

    def _set(self, index: int, status: FileStatus) -> None:
        self._statuses[index] = status

    def _finish(self, note: str) -> JobResult:
        results = tuple(s.result for s in self._statuses if s.result is not None)
        found = JobResult(results, stopped=self._stop_reason, note=note)
        if not self.job.report:
            return found
        try:
            reports = write_report(self.job, self.statuses, self._stop_reason, note)
            return replace(found, reports=reports)
        except OutputError as error:
            return replace(found, problem=f"the report is not written: {error}")

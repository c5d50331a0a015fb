"""Run a job on this machine, one image after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from napari_espmedsam.batch.events import (
    FileEnded,
    FileProgress,
    FileStarted,
    FileStatus,
    JobEvent,
    JobResult,
    ended,
)
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.report import write_report
from napari_espmedsam.batch.staging import staged
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.batch.work import Steps, file_steps
from napari_espmedsam.errors import OutputError


class JobRun:
    """One run of a job. Iterate :meth:`events` in any one thread; the rest is for all threads.

    Parameters
    ----------
    job : BatchJob
        What to do. Its images are looked for at once.

    Attributes
    ----------
    job : BatchJob
        As given.

    Raises
    ------
    InputError, ModalityError, CheckpointError
        As ``BatchJob.plan``.
    """

    def __init__(self, job: BatchJob) -> None:
        self.job = job
        self._statuses = [FileStatus(task) for task in job.plan()]
        self._go = threading.Event()
        self._go.set()
        self._cancelled = False
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
        """Wait after the tile in work until :meth:`resume` or :meth:`cancel`."""
        self._go.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._go.set()

    def cancel(self) -> None:
        """Stop after the tile in work; what is finished stays, and the report is written."""
        self._cancelled = True
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
            If the output folder cannot be made or written; before anything else is done.
        """
        with staged(self.job.folder, "job"):
            pass
        for index, status in enumerate(self._statuses):
            if self._stop_reason:
                yield self._end(index, self._not_done(status.task))
                continue
            self._set(index, replace(status, state="running"))
            yield FileStarted(index, status.task)
            result = yield from self._do(index, status.task)
            if result.stops_job:
                self._stop_reason = result.reason
            yield self._end(index, result)
        yield self._finish()

    def _do(self, index: int, task: FileTask) -> Generator[FileProgress, None, FileResult]:
        steps = file_steps(task)
        try:
            while True:
                self._go.wait()
                if self._cancelled:
                    return self._not_done(task)
                fraction = self._advance(index, steps)
                if isinstance(fraction, FileResult):
                    return fraction
                yield FileProgress(index, fraction)
        finally:
            steps.close()

    def _advance(self, index: int, steps: Steps) -> float | FileResult:
        """Take one step, and the time it takes."""
        start = time.perf_counter()
        try:
            fraction = next(steps)
        except StopIteration as stop:
            result: FileResult = stop.value
            if result.state != "skipped":
                self._count(index, 1.0, start)
            return result
        self._count(index, fraction, start)
        self._set(index, replace(self._statuses[index], fraction=fraction))
        return fraction

    def _count(self, index: int, fraction: float, start: float) -> None:
        status = self._statuses[index]
        self._worked += max(1, status.task.size) * (fraction - status.fraction)
        self._seconds += time.perf_counter() - start

    def _end(self, index: int, result: FileResult) -> FileEnded:
        status = self._statuses[index]
        self._set(index, FileStatus(status.task, result.state, 1.0, result))
        return ended(index, result)

    def _not_done(self, task: FileTask) -> FileResult:
        return FileResult(task.relative, "cancelled", f"not done: {self._stop_reason}")

    def _set(self, index: int, status: FileStatus) -> None:
        self._statuses[index] = status

    def _finish(self) -> JobResult:
        results = tuple(s.result for s in self._statuses if s.result is not None)
        found = JobResult(results, stopped=self._stop_reason)
        if not self.job.report:
            return found
        try:
            return replace(found, reports=write_report(self.job, self.statuses, self._stop_reason))
        except OutputError as error:
            return replace(found, problem=f"the report is not written: {error}")

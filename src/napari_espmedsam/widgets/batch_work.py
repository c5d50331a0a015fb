"""One batch job as a generator of events: what happens in the worker thread. No Qt, no layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from napari_espmedsam.batch.events import JobEvent
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.local import run_here
from napari_espmedsam.batch.run import Execute, JobRun
from napari_espmedsam.batch.standing import look
from napari_espmedsam.batch.task import FileTask
from napari_espmedsam.errors import EspMedSamError


@dataclass(frozen=True)
class Planned:
    """The images of the job are found."""

    tasks: tuple[FileTask, ...]


@dataclass(frozen=True)
class Looked:
    """A dry run has looked at an image.

    Attributes
    ----------
    index : int
        Which one, from 0.
    state : {"to do", "finished", "problem"}
        What a run would make of it.
    reason : str
        Why.
    """

    index: int
    state: str
    reason: str


Event = Planned | Looked | JobEvent


class BatchWork:
    """A job on its way. :meth:`events` is for the worker thread, the rest for all threads.

    Parameters
    ----------
    job : BatchJob
        What to do.
    dry_run : bool
        Only look what would be done with each image; nothing is written.
    execute : callable
        Does the tasks, as in ``JobRun``.
    """

    def __init__(
        self, job: BatchJob, *, dry_run: bool = False, execute: Execute = run_here
    ) -> None:
        self.job, self.dry_run = job, dry_run
        self._execute = execute
        self._lock = threading.Lock()  # the run comes to be while others pause or cancel
        self._run: JobRun | None = None
        self._paused = self._cancelled = False

    @property
    def run(self) -> JobRun | None:
        """The run, for its fraction and its estimate; None until the images are found."""
        return self._run

    @property
    def paused(self) -> bool:
        """Whether the job waits, or will after the tile in work."""
        return self._paused

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def pause(self) -> None:
        """Wait after the tile in work."""
        with self._lock:
            self._paused = True
            if self._run is not None:
                self._run.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        with self._lock:
            self._paused = False
            if self._run is not None:
                self._run.resume()

    def cancel(self) -> None:
        """Stop after the tile in work; a pause ends with it."""
        with self._lock:
            self._paused, self._cancelled = False, True
            if self._run is not None:
                self._run.cancel()

    def events(self) -> Iterator[Event]:
        """Do the work and tell of it.

        Yields
        ------
        Planned
            First.
        Looked
            For each image of a dry run.
        JobEvent
            As ``JobRun.events``, otherwise.

        Raises
        ------
        EspMedSamError
            As ``JobRun``: what concerns the job as a whole.
        """
        if self.dry_run:
            yield from self._look()
            return
        run = JobRun(self.job, self._execute)
        with self._lock:
            self._run = run
            if self._paused:
                run.pause()
            if self._cancelled:
                run.cancel()
        yield Planned(tuple(status.task for status in run.statuses))
        yield from run.events()

    def _look(self) -> Iterator[Planned | Looked]:
        tasks = self.job.plan()
        yield Planned(tasks)
        for index, task in enumerate(tasks):
            if self._cancelled:
                return
            try:
                standing = look(task)
            except EspMedSamError as error:
                yield Looked(index, "problem", str(error))
            else:
                state = "finished" if standing.kind == "finished" else "to do"
                yield Looked(index, state, standing.reason)

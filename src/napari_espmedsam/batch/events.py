"""What a job tells while it runs, and where each of its images stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_espmedsam.batch.task import FileResult, FileTask


@dataclass(frozen=True)
class FileStatus:
    """Where one image stands.

    Attributes
    ----------
    task : FileTask
        What is to be done.
    state : {"waiting", "running", "done", "skipped", "failed", "cancelled"}
        "skipped": finished by an earlier run.
    fraction : float
        Share that is done, 0 to 1.
    result : FileResult or None
        What came of it, once it has ended.
    """

    task: FileTask
    state: Literal["waiting", "running", "done", "skipped", "failed", "cancelled"] = "waiting"
    fraction: float = 0.0
    result: FileResult | None = None


@dataclass(frozen=True)
class FileStarted:
    """Work on an image begins. `index` counts the images of the job from 0."""

    index: int
    task: FileTask


@dataclass(frozen=True)
class FileProgress:
    """A tile is done.

    Attributes
    ----------
    index : int
        Number of the image in the job, from 0.
    fraction : float
        Share of the image that is done, 0 to 1.
    """

    index: int
    fraction: float


@dataclass(frozen=True)
class FileDone:
    """An image has its results."""

    index: int
    result: FileResult


@dataclass(frozen=True)
class FileSkipped:
    """An image was finished by an earlier run, and its results are kept."""

    index: int
    result: FileResult


@dataclass(frozen=True)
class FileFailed:
    """An image has no results; ``result.reason`` says why. The others go on."""

    index: int
    result: FileResult


@dataclass(frozen=True)
class FileCancelled:
    """An image was not done, because the job was stopped before or during it."""

    index: int
    result: FileResult


@dataclass(frozen=True)
class JobResult:
    """What came of a job; its last event.

    Attributes
    ----------
    results : tuple of FileResult
        One for each image, in the order of the job.
    stopped : str
        Why the job ended early; "" if it did not.
    reports : tuple of Path
        Reports that were written: HTML, CSV, failures as CSV.
    problem : str
        Why the report could not be written; "" if it was, or was not wanted.
    note : str
        What to know about the output folder: that its drive has no locks; "" elsewhere.
    """

    results: tuple[FileResult, ...]
    stopped: str = ""
    reports: tuple[Path, ...] = ()
    problem: str = ""
    note: str = ""

    def count(self, state: str) -> int:
        """Return how many images ended as ``"done"``, ``"skipped"``, ``"failed"``...

        Parameters
        ----------
        state : str
            A state of :class:`FileResult`.

        Returns
        -------
        int
            0 for a state that none has.
        """
        return sum(result.state == state for result in self.results)

    @property
    def failed(self) -> tuple[FileResult, ...]:
        """The images without results, with their reasons."""
        return tuple(result for result in self.results if result.state == "failed")

    @property
    def ok(self) -> bool:
        """Whether every image has its results, and the report is there if wanted."""
        return not self.problem and all(r.state in ("done", "skipped") for r in self.results)


FileEnded = FileDone | FileSkipped | FileFailed | FileCancelled
TaskEvent = FileStarted | FileProgress | FileEnded
JobEvent = TaskEvent | JobResult


def ended(index: int, result: FileResult) -> FileEnded:
    """Return the event of a result."""
    match result.state:
        case "done":
            return FileDone(index, result)
        case "skipped":
            return FileSkipped(index, result)
        case "failed":
            return FileFailed(index, result)
        case "cancelled":
            return FileCancelled(index, result)


def left_text(seconds: float | None) -> str:
    """Say how much time is left: ``"1 h 20 min left"``; "" while nothing is known."""
    if seconds is None:
        return ""
    minutes = math.ceil(seconds / 60)
    text = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{text} left"


def summary(results: Sequence[FileResult]) -> str:
    """Say how the images of a job ended, in one line: ``"190 done, 10 failed"``."""
    names = {"done": "done", "skipped": "finished before", "failed": "failed"}
    names["cancelled"] = "not done"
    counts = {state: sum(each.state == state for each in results) for state in names}
    return ", ".join(f"{n} {names[state]}" for state, n in counts.items() if n) or "nothing to do"

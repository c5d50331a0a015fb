"""Run the tasks of a job in this process, one image after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from napari_espmedsam.batch.events import FileProgress, FileStarted, TaskEvent, ended
from napari_espmedsam.batch.task import FileTask
from napari_espmedsam.batch.work import file_steps


def run_here(
    tasks: Sequence[FileTask], mark: Path, stopped: Callable[[], bool]
) -> Generator[TaskEvent, None, None]:
    """Do tasks in turn; see :data:`napari_espmedsam.batch.run.Execute`."""
    for index, task in enumerate(tasks):
        if stopped():
            return
        yield FileStarted(index, task)
        steps = file_steps(task)
        try:
            while not stopped():
                try:
                    event: TaskEvent = FileProgress(index, next(steps))
                except StopIteration as stop:
                    event = ended(index, stop.value)
                yield event
                if not isinstance(event, FileProgress):
                    break
        finally:
            steps.close()

"""The images of a job on a cluster: sent out as tasks, and come back as results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_espmedsam.batch.cluster_stream import Returned
from napari_espmedsam.batch.cluster_work import NotSeen, do_file, portable
from napari_espmedsam.batch.events import FileStarted, TaskEvent, ended
from napari_espmedsam.batch.task import FileResult, FileTask

Send = Callable[
    [Callable[..., Any], Iterable[tuple[Any, ...]], Callable[[], bool]],
    Generator[int | Returned, None, None],
]


def send_files(
    send: Send, tasks: Sequence[FileTask], mark: Path, stopped: Callable[[], bool]
) -> Generator[TaskEvent, None, None]:
    """Do tasks by ``Cluster.stream``; see :data:`napari_espmedsam.batch.run.Execute`."""
    items = ((_absolute(task), mark.absolute()) for task in tasks)
    for event in send(do_file, items, stopped):
        if isinstance(event, int):
            yield FileStarted(event, tasks[event])
            continue
        result = _file_result(tasks[event.index], event)
        if result.state != "cancelled":
            yield ended(event.index, result)


def _absolute(task: FileTask) -> FileTask:
    """Return a task that means the same in any working folder."""
    return replace(
        task,
        path=task.path.absolute(),
        folder=task.folder.absolute(),
        request=portable(task.request),
    )


def _file_result(task: FileTask, back: Returned) -> FileResult:
    """Return the result of a task as the same run here would have given it."""
    if isinstance(back.value, FileResult):
        outputs = tuple(task.folder / path.name for path in back.value.outputs)
        return replace(back.value, outputs=outputs)
    if isinstance(back.value, NotSeen):
        seen_here = back.value.path.exists()
        return FileResult(task.relative, "failed", back.value.text(), stops_job=seen_here)
    return FileResult(task.relative, "failed", f"{task.path}: {back.problem}", stops_job=back.stops)

"""What runs on a worker of a cluster: one image or chunk at a time, and whether to go on."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_espmedsam import __version__
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.batch.work import file_steps
from napari_espmedsam.errors import ClusterError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.weights import list_checkpoints, resolve_checkpoint

Stopped = Callable[[], bool]

# A worker with more threads than one would load two models, or use one from both.
_one_at_a_time = threading.Lock()
_stopped_runs: set[str] = set()


@dataclass(frozen=True)
class NotSeen:
    """A worker does not see a file that the job needs."""

    worker: str
    path: Path

    def text(self) -> str:
        """Say it, and what to do about it."""
        return (
            f"the worker on {self.worker} does not see {self.path}; images and results have to lie "
            "under the same path on all machines, on a drive that they share."
        )


def portable(request: SegmentRequest) -> SegmentRequest:
    """Return a request that means the same in any working folder; known weights keep their name."""
    if request.checkpoint in {entry.name for entry in list_checkpoints()}:
        return request
    return replace(request, checkpoint=str(resolve_checkpoint(request.checkpoint).absolute()))


def work_on(
    run: str, version: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Call a function with its arguments and a question that it may ask: whether to stop.

    Raises
    ------
    ClusterError
        If this worker has another version of this package than the job.
    """
    if version != __version__:
        raise ClusterError(
            f"the worker on {platform.node()} has napari-espmedsam {__version__}, and the job was "
            f"started with {version}; install the same version on all machines."
        )
    with _one_at_a_time:
        return function(*arguments, lambda: run in _stopped_runs)


def stop_run(run: str) -> None:
    """Let the tasks of a run end after the tile in work: called on each worker."""
    _stopped_runs.add(run)


def do_file(task: FileTask, mark: Path, stopped: Stopped) -> FileResult | NotSeen:
    """Do the task of one image as ``run_file`` does.

    Parameters
    ----------
    task : FileTask
        What to do, with absolute paths.
    mark : Path
        A folder beside the results: seen only where the disk is shared.
    stopped : callable
        Whether to stop; asked after each tile.

    Returns
    -------
    FileResult or NotSeen
        With the state "cancelled" if it was stopped.
    """
    for path in (mark,) if task.problem else (mark, task.path):
        if not path.exists():
            return NotSeen(platform.node(), path)
    steps = file_steps(task)
    try:
        while not stopped():
            next(steps)
    except StopIteration as stop:
        result: FileResult = stop.value
        if not result.stops_job:
            return result
        return replace(result, reason=f"on {platform.node()}: {result.reason}")
    finally:
        steps.close()
    return FileResult(task.relative, "cancelled")

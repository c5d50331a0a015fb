"""What an earlier run has left for a task: finished, to be done, or somebody else's work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_espmedsam.batch.fingerprint import hash_path, hash_settings
from napari_espmedsam.batch.outputs import output_names
from napari_espmedsam.batch.record import RunRecord, read_record
from napari_espmedsam.batch.task import FileTask
from napari_espmedsam.errors import InputError, OutputError


@dataclass(frozen=True)
class Standing:
    """Whether a task has to be done.

    Attributes
    ----------
    kind : {"new", "again", "finished"}
        "again": there are results, but not those that the task asks for.
    reason : str
        One clause for people.
    record : RunRecord or None
        Of the finished run.
    """

    kind: Literal["new", "again", "finished"]
    reason: str
    record: RunRecord | None = None


def look(task: FileTask) -> Standing:
    """Say where a task stands, without doing it: for a dry run.

    Raises
    ------
    InputError, OutputError
        As :func:`judge`, and if the task cannot be done.
    """
    if task.problem:
        raise InputError(task.problem)
    return judge(task, hash_path(task.path))


def judge(task: FileTask, input_sha256: str) -> Standing:
    """Compare a task with the results that are there.

    Parameters
    ----------
    task : FileTask
        What is wanted.
    input_sha256 : str
        Hash of the image as it is now.

    Raises
    ------
    OutputError
        If one of them exists and no record vouches that a run wrote it as it is: it may be
        somebody's work. With ``task.overwrite`` this is accepted.
    InputError
        If the record is damaged.
    """
    if task.overwrite:
        return Standing("again", "everything is done again, as asked for")
    record = check_ours(task)
    if record is None:
        return Standing("new", "not done before")
    change = _first_change(task, record, input_sha256)
    if not change:
        reason = "corrected in napari" if record.prompts else "finished before"
        return Standing("finished", reason, record)
    if record.prompts is not None:
        raise _refuse(
            task.folder / record.outputs[0].name,
            f"was corrected by hand ({record.prompts.name}) and would be computed again: {change}",
        )
    return Standing("again", change)


def check_ours(task: FileTask) -> RunRecord | None:
    """Return the record of a task, None without one, once it vouches for all results there.

    Raises
    ------
    OutputError, InputError
        As :func:`judge`.
    """
    record = read_record(task.record_path)
    there = [path for name in output_names(task).values() if (path := task.folder / name).exists()]
    listed = {} if record is None else {output.name: output for output in record.outputs}
    for path in there:
        if path.name not in listed:
            raise _refuse(path, "exists already, and no record says that a run wrote it")
    for path in there:
        ended = record is not None and record.state == "done"
        if ended and hash_path(path) != listed[path.name].sha256:
            raise _refuse(path, "was changed after the run that wrote it")
    return record


def _first_change(task: FileTask, record: RunRecord, input_sha256: str) -> str | None:
    """Say why a result is not the one asked for; None if it is."""
    if record.state == "writing":
        return "the last run was stopped while it wrote the results"
    if record.input.sha256 != input_sha256:
        return "the image has changed since"
    if record.weights.sha256 != task.weights_sha256:
        return "made with other weights"
    if record.settings_sha256 != hash_settings(task.request):
        return "made with other settings"
    names = output_names(task).values()
    missing = next((name for name in names if not (task.folder / name).exists()), None)
    return f"{missing} is missing" if missing else None


def _refuse(path: Path, problem: str) -> OutputError:
    return OutputError(
        f"{path} {problem}; pass --overwrite to replace it, move it away, or choose another output "
        "folder."
    )

"""One image of a job, from its file to its results: the unit that any process can run."""

from __future__ import annotations

import errno
import os
import platform
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_espmedsam import __version__
from napari_espmedsam.batch.fingerprint import hash_path, hash_settings, settings_of, size_of
from napari_espmedsam.batch.models import model_of
from napari_espmedsam.batch.outputs import output_names, write_outputs
from napari_espmedsam.batch.record import (
    InputPart,
    OutputPart,
    RunRecord,
    TimesPart,
    WeightsPart,
    write_record,
)
from napari_espmedsam.batch.segmenting import count_text, segment_steps, shape_text
from napari_espmedsam.batch.staging import clear_staging, publish, staged
from napari_espmedsam.batch.standing import judge
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.batch.thumbnail import draw_thumbnail
from napari_espmedsam.errors import EspMedSamError, InputError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.io import images
from napari_espmedsam.io.image_file import ImageFile

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.segmenter import Segmenter

Steps = Generator[float, None, FileResult]
# A disk that is full or has become read-only refuses every other file too.
_NO_DISK = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


class _NoModelError(Exception):
    """The model of the job cannot be used; the cause says why."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """What is known about one image once it has been segmented."""

    image: ImageFile
    sha256: str
    found: Segmentation
    started: datetime
    seconds: float


def run_file(task: FileTask) -> FileResult:
    """Do one task, whatever happens: a pure function of its task, for any process.

    Parameters
    ----------
    task : FileTask
        What to do.

    Returns
    -------
    FileResult
        Done, skipped or failed with its reason. Nothing is raised but ``KeyboardInterrupt`` and
        its like.
    """
    return finish(file_steps(task))


def finish(steps: Steps) -> FileResult:
    """Run steps to their end and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: FileResult = stop.value
            return result


def file_steps(task: FileTask) -> Steps:
    """Do one task with a pause after each tile; closing the generator cancels it.

    Yields
    ------
    float
        The share that is done, above 0 and up to 1.

    Returns
    -------
    FileResult
        Done, skipped or failed with its reason.
    """
    start = time.perf_counter()
    try:
        result = yield from _steps(task)
    except Exception as error:
        result = _failure(task, error)
    return replace(result, seconds=time.perf_counter() - start)


def strict_steps(task: FileTask) -> Steps:
    """Do one task as :func:`file_steps` does, and raise what goes wrong.

    Raises
    ------
    InputError
        If the image cannot be read or segmented, or was changed meanwhile.
    OutputError
        If the results cannot be written, or would replace what no run wrote.
    CheckpointError, DeviceError
        If the model cannot be loaded.
    """
    try:
        return (yield from _steps(task))
    except _NoModelError as error:
        raise error.__cause__ from None  # type: ignore[misc]


def _steps(task: FileTask) -> Steps:
    started, start = datetime.now(UTC), time.perf_counter()
    if task.problem:
        raise InputError(task.problem)
    sha256 = hash_path(task.path)
    standing = judge(task, sha256)
    if standing.record is not None:
        clear_staging(task.folder, task.stem)  # of a run that was killed right at its end
        return _result(task, standing.record, "skipped", standing.reason)
    try:
        image = images.read_image(task.path, task.request.axes)
        segmenter = _model(task)
        found = yield from _segment(segmenter, image, task)
    except InputError:
        check_unchanged(task, sha256)  # what is being written looks damaged
        raise
    # Large images are read while they are segmented, so this comes last.
    check_unchanged(task, sha256)
    seconds = time.perf_counter() - start
    return write_results(task, Segmented(image, sha256, found, started, seconds))


def _model(task: FileTask) -> Segmenter:
    try:
        return model_of(task)
    except EspMedSamError as error:
        raise _NoModelError from error


def _segment(
    segmenter: Segmenter, image: ImageFile, task: FileTask
) -> Generator[float, None, Segmentation]:
    options = task.request.segment_options() | {"axes": image.axes}
    try:
        return (yield from segment_steps(segmenter, image.array, options))
    except InputError as error:
        raise InputError(f"{task.path}: {error}") from error


def check_unchanged(task: FileTask, sha256: str) -> None:
    """Raise an InputError if the image is not the one that was hashed."""
    if hash_path(task.path) != sha256:
        raise InputError(
            f"{task.path} was changed while it was segmented; run the job again once it "
            "is complete."
        )


def write_results(
    task: FileTask, done: Segmented, write_prompts: Callable[[Path], object] | None = None
) -> FileResult:
    """Make all results in a hidden folder, then give them their names, the record last.

    Parameters
    ----------
    task : FileTask
        Formats and names.
    done : Segmented
        What is to be written.
    write_prompts : callable, optional
        Writes the prompt file that the labels were corrected by; then it is a result too.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    about = {key: value for key, value in done.found.provenance.items() if key != "created"}
    about |= {"input": task.path.name, "input_sha256": done.sha256}
    names = output_names(task)
    with staged(task.folder, task.stem) as place:
        write_outputs(place, task, done.image, done.found, about)
        outputs = [_output_part(place, each, name) for each, name in names.items()]
        prompts = None
        if write_prompts is not None:
            write_prompts(place / task.prompts_path.name)
            prompts = _output_part(place, "prompts", task.prompts_path.name)
        record = _record(task, done, outputs, prompts)
        note, final = place / "writing.json", place / task.record_path.name
        write_record(note, record.model_copy(update={"state": "writing"}))
        write_record(final, record)
        # From here on, whatever happens, a record says that these names are ours.
        publish(note, task.record_path)
        for name in [*([prompts.name] if prompts else []), *names.values()]:
            publish(place / name, task.folder / name)
        publish(final, task.record_path)
    return _result(task, record, "done")


def _output_part(place: Path, format_name: str, name: str) -> OutputPart:
    path = place / name
    return OutputPart(format=format_name, name=name, sha256=hash_path(path), bytes=size_of(path))


def _record(
    task: FileTask, done: Segmented, outputs: list[OutputPart], prompts: OutputPart | None
) -> RunRecord:
    request, array = task.request, done.image.array
    stack = PlaneStack.from_array(array, done.image.axes, channel=request.channel, rgb=request.rgb)
    return RunRecord(
        software=__version__,
        state="done",
        input=InputPart(
            path=task.relative,
            sha256=done.sha256,
            bytes=size_of(task.path),
            axes=done.image.axes,
            shape=[int(n) for n in array.shape],
            dtype=str(array.dtype),
        ),
        weights=WeightsPart(checkpoint=request.checkpoint, sha256=task.weights_sha256),
        settings=settings_of(request),
        settings_sha256=hash_settings(request),
        outputs=outputs,
        prompts=prompts,
        found=count_text(done.found.labels, request.output),
        image=shape_text(done.image),
        provenance=done.found.provenance,
        times=TimesPart(
            started=done.started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(done.seconds, 3),
        ),
        machine=_machine(),
        warnings=[*done.image.warnings, *_device_notes(done.found)],
        thumbnail=draw_thumbnail(stack, done.found.labels, request.planes),
    )


def _device_notes(found: Segmentation) -> list[str]:
    note = found.provenance.get("device_note", "")
    return [note] if note else []


def _machine() -> dict[str, Any]:
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }


def _result(
    task: FileTask, record: RunRecord, state: Literal["done", "skipped"], reason: str = ""
) -> FileResult:
    return FileResult(
        relative=task.relative,
        state=state,
        reason=reason,
        outputs=tuple(task.folder / output.name for output in record.outputs),
        found=record.found,
        image=record.image,
        warnings=tuple(record.warnings),
    )


def _failure(task: FileTask, error: Exception) -> FileResult:
    if isinstance(error, _NoModelError):
        return FileResult(task.relative, "failed", str(error.__cause__), stops_job=True)
    if isinstance(error, EspMedSamError | OSError):
        system = error if isinstance(error, OSError) else error.__cause__
        full = isinstance(system, OSError) and system.errno in _NO_DISK
        return FileResult(task.relative, "failed", str(error), stops_job=full)
    if isinstance(error, MemoryError):
        reason = f"{task.path} does not fit into memory; segment it alone, or part of it."
        return FileResult(task.relative, "failed", reason)
    reason = (
        f"{task.path}: a fault in napari-espmedsam ({type(error).__name__}: {error}); please "
        "report it with the traceback that is in the table of the report."
    )
    text = "".join(traceback.format_exception(error))
    return FileResult(task.relative, "failed", reason, traceback=text)

"""One image of a job again, as somebody corrected it: only its results are replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_espmedsam.batch.fingerprint import hash_path
from napari_espmedsam.batch.models import model_of
from napari_espmedsam.batch.standing import check_ours
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.batch.work import Segmented, check_unchanged, write_results
from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.io import images

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.io.image_file import ImageFile


def correct_file(
    task: FileTask,
    segment: Callable[[Segmenter, ImageFile], Segmentation],
    write_prompts: Callable[[Path], object],
) -> FileResult:
    """Write the corrected labels of an image in place of what the job found.

    The record then names the prompt file, and later runs of the job count the image as finished.

    Parameters
    ----------
    task : FileTask
        The image and its results.
    segment : callable
        Gives the corrected labels of the image, from the model of the job.
    write_prompts : callable
        Writes the prompt file; it becomes ``task.prompts_path``.

    Returns
    -------
    FileResult
        Of the new results.

    Raises
    ------
    InputError
        If the image cannot be read or was changed meanwhile, or what `segment` raises.
    OutputError
        If the results cannot be written, or a file that no run wrote would be replaced.
    CheckpointError, DeviceError
        If the model cannot be loaded.
    """
    started, start = datetime.now(UTC), time.perf_counter()
    if task.problem:
        raise InputError(task.problem)
    sha256 = hash_path(task.path)
    _check_targets(task)
    image = images.read_image(task.path, task.request.axes)
    found = segment(model_of(task), image)
    check_unchanged(task, sha256)
    done = Segmented(image, sha256, found, started, time.perf_counter() - start)
    return write_results(task, done, write_prompts)


def _check_targets(task: FileTask) -> None:
    """Refuse to replace what no run wrote, prompts that the user saved among it."""
    record, path = check_ours(task), task.prompts_path
    known = None if record is None else record.prompts
    if path.exists() and (known is None or hash_path(path) != known.sha256):
        raise OutputError(
            f"{path} exists already, and no record says that it was written with these labels; "
            "move it away."
        )

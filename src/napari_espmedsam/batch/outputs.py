"""The results of one image as files, and their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_espmedsam.io.formats import format_named

if TYPE_CHECKING:
    from napari_espmedsam.batch.task import FileTask
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.io.image_file import ImageFile


def output_names(task: FileTask) -> dict[str, str]:
    """Return the file name of each format of a task."""
    return {name: format_named(name).file_name(task.stem) for name in task.formats}


def write_outputs(
    place: Path, task: FileTask, image: ImageFile, found: Segmentation, about: dict[str, Any]
) -> None:
    """Write the results of a task into a folder.

    Parameters
    ----------
    place : Path
        Folder.
    task : FileTask
        Formats and names.
    image : ImageFile
        What was segmented.
    found : Segmentation
        Its labels.
    about : dict
        What is said of the result inside the files: the same for the same image, weights and
        settings, whenever they are made.

    Raises
    ------
    OutputError
        If one of them cannot be written.
    """
    for name, file in output_names(task).items():
        write = format_named(name).write
        write(place / file, found.labels, found.axes, spacing=image.spacing, provenance=about)

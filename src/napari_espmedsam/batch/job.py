"""A batch job: which images, which settings, which results, and where they go."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from napari_espmedsam.batch.discover import Found, find_images
from napari_espmedsam.batch.fingerprint import hash_path, size_of
from napari_espmedsam.batch.models import check_model
from napari_espmedsam.batch.outputs import output_names
from napari_espmedsam.batch.task import FileTask
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.io.content import is_zarr
from napari_espmedsam.io.formats import format_named
from napari_espmedsam.weights import resolve_checkpoint

DEFAULT_FORMATS = ("tiff",)


@dataclass(frozen=True)
class BatchJob:
    """Everything that one batch run needs: what a form fills in, plain and frozen.

    Attributes
    ----------
    inputs : tuple of str
        Image files, folders of them, and patterns.
    folder : Path
        Folder of the results; those of images in subfolders go into subfolders.
    request : SegmentRequest
        Model, modality and settings.
    formats : tuple of str
        Names out of ``io.formats.FORMATS``.
    recursive : bool
        Whether folders stand for those inside them too.
    pattern : str or None
        Which files of a folder to take, e.g. ``"*_dapi.tif"``; None: those named like an image.
    overwrite : bool
        False: what is finished is kept, and files of others are never replaced. True: everything
        is computed again and replaced.
    report : bool
        Whether a report of the job is written.
    dicom_series : bool
        Whether a folder with DICOM files is one image, the stack of their slices.
    """

    inputs: tuple[str, ...]
    folder: Path
    request: SegmentRequest = field(default_factory=SegmentRequest)
    formats: tuple[str, ...] = DEFAULT_FORMATS
    recursive: bool = False
    pattern: str | None = None
    overwrite: bool = False
    report: bool = True
    dicom_series: bool = False

    def validate(self) -> BatchJob:
        """Check everything that needs neither the images nor the model's tensors.

        Returns
        -------
        BatchJob
            The job itself.

        Raises
        ------
        InputError, ModalityError, CheckpointError
            With the value, the limit and the way to mend it.
        """
        if not self.inputs:
            raise InputError("no input is given; name image files, a folder or a pattern.")
        if not self.formats:
            raise InputError("no format of the results is given; name at least one, e.g. tiff.")
        for name in self.formats:
            format_named(name)
        check_model(self.request.validate())
        return self

    def plan(self) -> tuple[FileTask, ...]:
        """Find the images and say what is to be done with each; nothing is written.

        Returns
        -------
        tuple of FileTask
            In natural order. What cannot be done is a task with its `problem`.

        Raises
        ------
        InputError, ModalityError, CheckpointError
            As :meth:`validate`, and if a folder holds no image or a pattern fits nothing.
        """
        self.validate()
        weights = hash_path(resolve_checkpoint(self.request.checkpoint))
        found = find_images(
            self.inputs,
            recursive=self.recursive,
            pattern=self.pattern,
            dicom_series=self.dicom_series,
            leave_out=self.folder,
        )
        stems = _stems(found)
        tasks = [
            FileTask(
                path=each.path,
                relative=each.relative,
                folder=self.folder / PurePosixPath(each.relative).parent,
                stem=stem,
                formats=tuple(dict.fromkeys(self.formats)),
                request=self.request,
                weights_sha256=weights,
                overwrite=self.overwrite,
                problem=each.problem,
                size=size_of(each.path),
            )
            for each, stem in zip(found, stems, strict=True)
        ]
        return tuple(_checked(tasks))


def stem_of(path: Path) -> str:
    """Return the name of an image without its suffix; ``.ome.tif`` counts as one.

    The folder of a DICOM series has no suffix: its name is often a number with many dots.
    """
    name = os.path.basename(os.path.abspath(path))
    if path.is_dir() and not is_zarr(path):
        return name
    stem = PurePosixPath(name).stem
    return stem[:-4] if stem.lower().endswith(".ome") and len(stem) > 4 else stem


def _stems(found: Iterable[Found]) -> list[str]:
    """Name the results: after the image, with its suffix where two differ in nothing else."""
    found = tuple(found)
    paths = [PurePosixPath(each.relative) for each in found]
    stems = [stem_of(each.path) for each in found]
    places = [_same(str(path.parent / stem)) for path, stem in zip(paths, stems, strict=True)]
    counts = Counter(places)
    return [
        stem if counts[place] == 1 else path.name
        for path, stem, place in zip(paths, stems, places, strict=True)
    ]


def _checked(tasks: Iterable[FileTask]) -> Iterable[FileTask]:
    """Give a problem to a task whose results would replace an image or those of another task."""
    tasks = list(tasks)
    images = {os.path.realpath(task.path) for task in tasks}
    first: dict[str, FileTask] = {}
    for task in tasks:
        other = first.setdefault(_same(str(task.record_path)), task)
        targets = [task.folder / name for name in output_names(task).values()]
        hit = next((path for path in targets if os.path.realpath(path) in images), None)
        if other is not task:
            yield _with(
                task,
                f"{other.path} and {task.path} would both become {targets[0]}; rename one of them.",
            )
        elif hit is not None:
            yield _with(
                task,
                f"the result of {task.path} would replace the input {hit}; choose another output "
                "folder.",
            )
        else:
            yield task


def _with(task: FileTask, problem: str) -> FileTask:
    return replace(task, problem=task.problem or problem)


def _same(name: str) -> str:
    """Return what two names share that some file system takes for one: case and composition."""
    return unicodedata.normalize("NFC", name).casefold()

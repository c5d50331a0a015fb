"""Segment files from Python: one, or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_espmedsam.batch.events import JobEvent, JobResult
from napari_espmedsam.batch.job import DEFAULT_FORMATS, BatchJob
from napari_espmedsam.batch.local import run_here
from napari_espmedsam.batch.run import Execute, JobRun
from napari_espmedsam.batch.task import FileResult
from napari_espmedsam.batch.work import finish, strict_steps
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest

PathLike = str | os.PathLike[str]


def segment_file(
    path: PathLike,
    folder: PathLike,
    *,
    request: SegmentRequest | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    overwrite: bool = False,
    dicom_series: bool = False,
    **settings: Any,
) -> FileResult:
    """Segment one image file and write its results and the record of the run.

    Parameters
    ----------
    path : str or path-like
        The image.
    folder : str or path-like
        Folder of the results; made if it is not there.
    request : SegmentRequest, optional
        Model, modality and settings.
    formats : sequence of str
        Names out of ``napari_espmedsam.io.formats.FORMATS``.
    overwrite : bool
        False: a result that is finished with the same image, weights and settings is kept, and a
        file that no run wrote is an error. True: both are replaced.
    dicom_series : bool
        Whether a folder with DICOM files is one image, the stack of their slices.
    **settings
        Fields of :class:`SegmentRequest` by name, instead of `request` or to change it:
        ``modality="microscopy", diameter=18``.

    Returns
    -------
    FileResult
        With the state "done" or "skipped", and the paths of the results in `outputs`.

    Raises
    ------
    InputError, ModalityError
        If the image or a setting cannot be used.
    OutputError
        If the results cannot be written.
    CheckpointError, DeviceError
        If the model cannot be loaded.
    """
    job = BatchJob(
        inputs=(os.fspath(path),),
        folder=Path(folder),
        request=replace(request or SegmentRequest(), **settings),
        formats=tuple(formats),
        overwrite=overwrite,
        report=False,
        dicom_series=dicom_series,
    )
    tasks = job.plan()
    if len(tasks) != 1:
        raise InputError(f"{path} stands for {len(tasks)} images; use segment_folder for them.")
    return finish(strict_steps(tasks[0]))


def segment_folder(
    inputs: PathLike | Sequence[PathLike],
    folder: PathLike,
    *,
    request: SegmentRequest | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    recursive: bool = False,
    pattern: str | None = None,
    overwrite: bool = False,
    report: bool = True,
    dicom_series: bool = False,
    on_event: Callable[[JobEvent], object] | None = None,
    execute: Execute = run_here,
    **settings: Any,
) -> JobResult:
    """Segment the images of a folder; what cannot be used is reported, and the rest goes on.

    Parameters
    ----------
    inputs : str, path-like, or sequence of them
        Folder, image files, or patterns.
    folder : str or path-like
        Folder of the results; made if it is not there.
    request, formats, overwrite, dicom_series, **settings
        As in :func:`segment_file`.
    recursive : bool
        Whether to go into the folders inside.
    pattern : str, optional
        Which files to take, e.g. ``"*_dapi.tif"``; those named like an image when None.
    report : bool
        Whether to write the report of the job.
    on_event : callable, optional
        Called with each event, for a progress display. To pause or cancel use ``JobRun``.
    execute : callable
        Does the tasks: :func:`run_here` in this process, or ``Cluster.execute`` on many.

    Returns
    -------
    JobResult
        What came of each image; `failed` holds those without results, `ok` is True if there are
        none.

    Raises
    ------
    InputError, ModalityError, CheckpointError
        If a setting cannot be used, the folder holds no image, or there is no such model. What is
        wrong with single images is not raised.
    OutputError
        If the output folder cannot be written.
    """
    given = (inputs,) if isinstance(inputs, str | os.PathLike) else tuple(inputs)
    job = BatchJob(
        inputs=tuple(os.fspath(each) for each in given),
        folder=Path(folder),
        request=replace(request or SegmentRequest(), **settings),
        formats=tuple(formats),
        recursive=recursive,
        pattern=pattern,
        overwrite=overwrite,
        report=report,
        dicom_series=dicom_series,
    )
    for event in JobRun(job, execute).events():
        if on_event is not None:
            on_event(event)
        if isinstance(event, JobResult):
            return event
    raise AssertionError("a job ends with its result")

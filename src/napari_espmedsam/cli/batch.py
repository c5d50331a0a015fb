"""``napari-espmedsam batch``: many images, their records and a report; stopped and continued."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from napari_espmedsam.batch.events import (
    FileEnded,
    FileProgress,
    FileStarted,
    JobResult,
    left_text,
    summary,
)
from napari_espmedsam.batch.job import DEFAULT_FORMATS, BatchJob
from napari_espmedsam.batch.outputs import output_names
from napari_espmedsam.batch.run import JobRun
from napari_espmedsam.batch.standing import look
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.cli.cluster import GpuWorkers, Scheduler, Workers, enter_cluster
from napari_espmedsam.cli.files import DicomSeries
from napari_espmedsam.cli.progress import TileProgress
from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.io.formats import FORMATS

FAILED, INTERRUPTED = 2, 130


def batch(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN", help="Image files, folders of them, or patterns.")
    ],
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the results go.")
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Go into the folders inside a folder.")
    ] = False,
    dicom_series: DicomSeries = False,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="TEXT",
            help="Which files of a folder to take, e.g. '*_dapi.tif'. (default: those named like "
            "an image)",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help=f"A kind of result: {', '.join(FORMATS)}. May be given several times. (default: "
            f"{', '.join(DEFAULT_FORMATS)})",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done with each image, and stop.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite/--resume",
            help="Compute and replace everything, or keep what is finished: the same image, "
            "weights and settings.",
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write a report: a page and two tables.")
    ] = True,
    scheduler: Scheduler = None,
    workers: Workers = 0,
    gpu_workers: GpuWorkers = False,
    *,
    request: SegmentRequest,
    given: frozenset[str],
) -> None:
    """Segment many images, with a record for each and a report.

    Stopped in any way, the same command goes on where it was. A file that cannot be used is
    reported and the others go on; the exit code is then 2.
    """
    job = BatchJob(
        inputs=tuple(inputs),
        folder=folder,
        request=request,
        formats=tuple(formats or DEFAULT_FORMATS),
        recursive=recursive,
        dicom_series=dicom_series,
        pattern=pattern,
        overwrite=overwrite,
        report=report,
    )
    if dry_run:
        raise typer.Exit(_preview(job))
    job.validate()  # before a cluster is started
    with enter_cluster(scheduler, workers, gpu=gpu_workers) as cluster:
        if cluster is None:
            run, follow = JobRun(job), _follow
        else:
            run, follow = JobRun(job, cluster.execute), _follow_many
        with _stopped_by_signals(run):
            result = follow(run)
    raise typer.Exit(_conclude(result))


def _preview(job: BatchJob) -> int:
    """Print what would be done with each image; return the exit code."""
    counts = Counter[str]()
    for task in job.plan():
        try:
            standing = look(task)
        except EspMedSamError as error:
            counts["cannot be done"] += 1
            _print_failure(task, str(error))
        else:
            counts["finished before" if standing.kind == "finished" else "to do"] += 1
            targets = ", ".join(str(task.folder / name) for name in output_names(task).values())
            typer.echo(f"{task.path}  {standing.reason} -> {targets}")
    typer.echo(", ".join(f"{n} {what}" for what, n in counts.items()) + ". Nothing was written.")
    return FAILED if counts["cannot be done"] else 0


@contextmanager
def _stopped_by_signals(run: JobRun) -> Iterator[None]:
    """Let Ctrl-C and a cluster's end of time stop the run after a tile; the second one, at once."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        run.cancel()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(run: JobRun) -> JobResult:
    """Print a line for each image, and a bar while it is in work."""
    with ExitStack() as shown:
        for event in run.events():
            if isinstance(event, FileStarted):
                place = f"{event.index + 1}/{len(run.statuses)}"
                left = left_text(run.seconds_left)
                name = f"{place} {event.task.path.name}{f' ({left})' if left else ''}"
                bar = shown.enter_context(TileProgress(name))
            elif isinstance(event, FileProgress):
                bar(event.fraction)
            elif isinstance(event, JobResult):
                result = event
            else:
                shown.close()
                _print(run.statuses[event.index].task, event.result)
    return result


def _follow_many(run: JobRun) -> JobResult:
    """Print a line for each image as it ends, and a bar for all of them."""
    with TileProgress(f"{len(run.statuses)} images") as bar:
        for event in run.events():
            bar(run.fraction)
            if isinstance(event, FileEnded):
                _print(run.statuses[event.index].task, event.result)
            elif isinstance(event, JobResult):
                result = event
    return result


def _print(task: FileTask, result: FileResult) -> None:
    for text in result.warnings:
        typer.echo(f"Warning: {text}", err=True)
    if result.state == "failed":
        _print_failure(task, result.reason)
        if result.traceback:
            typer.echo(result.traceback, err=True)
    elif result.state == "skipped":
        typer.echo(f"{task.path}  {result.image}  {result.found}  {result.reason}")
    elif result.state == "done":
        outputs = ", ".join(map(str, result.outputs))
        told = (str(task.path), result.image, result.found, f"{result.seconds:.1f} s -> {outputs}")
        typer.echo("  ".join(told))


def _print_failure(task: FileTask, reason: str) -> None:
    text = reason if str(task.path) in reason else f"{task.path}: {reason}"
    typer.echo(f"Error: {text}", err=True)


def _conclude(result: JobResult) -> int:
    """Print how the job ended; return the exit code."""
    line = f"{summary(result.results)}."
    if result.reports:
        line += f" Report: {result.reports[0]}"
    typer.echo(line)
    if result.note:
        typer.echo(f"Note: {result.note}", err=True)
    if result.problem:
        typer.echo(f"Error: {result.problem}", err=True)
    if result.stopped:
        reason = result.stopped.rstrip(".")
        typer.echo(
            f"Stopped: {reason}. The same command without --overwrite goes on from here.", err=True
        )
    if result.stopped and not result.failed:
        return INTERRUPTED
    return 0 if result.ok else FAILED

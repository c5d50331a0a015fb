"""``napari-espmedsam slide``: one large image in, an OME-Zarr label image out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_espmedsam.batch.models import load_model
from napari_espmedsam.cli.cluster import GpuWorkers, Scheduler, Workers, enter_cluster
from napari_espmedsam.cli.progress import TileProgress
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_espmedsam.batch.slide_run import SlideStep
    from napari_espmedsam.inference.intensity import IntensityRange


def slide(
    image: Annotated[
        Path, typer.Argument(metavar="IN", help="One large image: a pyramidal TIFF or OME-Zarr.")
    ],
    target: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT.zarr", help="OME-Zarr folder to make."),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="geojson|csv",
            help="Write the objects beside the OME-Zarr too: OUT.geojson for QuPath, OUT.csv. May "
            "be given twice.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the estimate and stop.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an unfinished run of the same settings; leave a finished one.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a result that exists already.")
    ] = False,
    tissue: Annotated[
        bool,
        typer.Option("--tissue/--no-tissue", help="Skip the background, or compute every tile."),
    ] = True,
    intensity: Annotated[
        str | None,
        typer.Option(
            "--intensity",
            metavar="LOW,HIGH",
            help="Grey values that become 0 and 1, for a crop that shall get the labels of its "
            "slide. (default: measured on 4 million px of tissue)",
        ),
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = 0,
    gpu_workers: GpuWorkers = False,
    *,
    request: SegmentRequest,
    given: frozenset[str],
) -> None:
    """Segment an image that does not fit into memory, from disk to disk.

    Prints what the run will take, then works chunk by chunk; a run that was stopped goes on with
    --resume.
    """
    from napari_espmedsam.batch.slide_estimate import estimate_slide
    from napari_espmedsam.batch.slide_export import check_exports, check_result, export_paths
    from napari_espmedsam.batch.slide_plan import plan_slide
    from napari_espmedsam.batch.slide_run import run_record, run_slide
    from napari_espmedsam.batch.slide_source import open_slide
    from napari_espmedsam.batch.slide_store import SlideStore
    from napari_espmedsam.io.zarr_labels import holds_zarr

    known = None if intensity is None else parse_intensity(intensity)
    store = SlideStore(target)
    exports = export_paths(target, formats or ())
    finished = resume and not overwrite and holds_zarr(target)
    if finished and not dry_run:
        for path in [path for path in exports.values() if path.exists()]:
            typer.echo(f"Note: {path} exists already and is left as it is.", err=True)
        exports = {name: path for name, path in exports.items() if not path.exists()}
    elif not dry_run:
        check_exports(exports, overwrite=overwrite)
        store.check(resume=resume, overwrite=overwrite)
    opened = open_slide(image, request)
    for text in opened.warnings:
        typer.echo(f"Warning: {text}", err=True)
    segmenter = load_model(request)
    if segmenter.device.distrusted:
        typer.echo(f"Note: {segmenter.device.reason}", err=True)
    plan = plan_slide(opened, segmenter.header, request, tissue=tissue, intensity=known)
    if finished and not dry_run:
        check_result(target, run_record(opened, segmenter, plan))
        _export(f"{image}  finished before", target, exports, overwrite, time.perf_counter())
        return
    done = len(store.done()) if resume else 0
    estimate = estimate_slide(opened, segmenter, plan, _existing(target), done)
    typer.echo("\n".join(estimate.lines()))
    if dry_run:
        return
    estimate.check()

    from napari_espmedsam.batch.slide_cluster import chunks_on

    start = time.perf_counter()
    with enter_cluster(scheduler, workers, gpu=gpu_workers) as cluster:
        compute = None if cluster is None else chunks_on(cluster)
        steps = run_slide(
            opened, segmenter, plan, target, resume=resume, overwrite=overwrite, compute=compute
        )
        found = _follow(steps, image.name)
    text = "mask" if request.output == "mask" else f"{found} object{'' if found == 1 else 's'}"
    _export(f"{image}  {text}", target, exports, overwrite, start)


def _export(
    told: str, target: Path, exports: dict[str, Path], overwrite: bool, start: float
) -> None:
    """Write the objects as other files, and say what was written and how long it took."""
    from napari_espmedsam.batch.slide_export import export_slide

    export_slide(target, tuple(exports), overwrite=overwrite)
    written = ", ".join(map(str, [target, *exports.values()]))
    typer.echo(f"{told}  {time.perf_counter() - start:.1f} s -> {written}")


def _follow(steps: Generator[SlideStep, None, int], name: str) -> int:
    """Show a bar until the run ends; return how many objects there are."""
    with TileProgress(name) as progress:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                found: int = stop.value
                return found
            progress(step.tiles / max(1, step.n_tiles))


def parse_intensity(text: str) -> IntensityRange:
    """Read a range, for example ``12,240``.

    Raises
    ------
    InputError
        If it is not two numbers, the lower one first.
    """
    from napari_espmedsam.inference.intensity import IntensityRange

    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high:
        raise InputError(
            f"intensity is {text!r}. Give two numbers, the lower one first: --intensity 12,240."
        )
    return IntensityRange(low, high)


def _existing(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())

"""``napari-espmedsam segment``: images in, label files out, one line each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer
from numpy.typing import NDArray

from napari_espmedsam.batch.discover import find_images
from napari_espmedsam.batch.models import load_model
from napari_espmedsam.batch.segmenting import count_text, segment_steps, shape_text
from napari_espmedsam.cli.files import DicomSeries, plan_outputs
from napari_espmedsam.cli.progress import TileProgress
from napari_espmedsam.cli.prompts import PromptWork
from napari_espmedsam.errors import EspMedSamError, InputError, OutputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.io.formats import FORMATS

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.io.image_file import ImageFile


class Work(Protocol):
    """What is done to each image."""

    request: SegmentRequest
    axes: str | None

    def __call__(
        self, segmenter: Segmenter, image: ImageFile, progress: Callable[[float], None]
    ) -> Segmentation:
        """Segment one image."""


def segment(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IN", help="Image files (TIFF, PNG, JPEG), folders of them, or patterns."
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the label files go."),
    ],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="What to write; give it once for each format.",
        ),
    ] = ["tiff"],  # noqa: B006 - typer copies it
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace label files that exist already.")
    ] = False,
    dicom_series: DicomSeries = False,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Prompts that were edited in napari (*.espprompts.json), for their one image: "
            "gives the labels of that session. Brings its own settings.",
        ),
    ] = None,
    force_prompts: Annotated[
        bool,
        typer.Option(
            "--force-prompts", help="Use the prompts on other pixels or with other weights."
        ),
    ] = False,
    *,
    request: SegmentRequest,
    given: frozenset[str],
) -> None:
    """Segment images and write the labels of each: a TIFF for ImageJ and napari, or what is asked.

    A file that cannot be used is reported and the others go on; the exit code is then 2.
    """
    from napari_espmedsam.io.atomic import check_folder

    found = find_images(images, dicom_series=dicom_series)
    plan = plan_outputs([each.path for each in found], folder, formats)
    # The answer to a folder that cannot be written must not wait for the model.
    check_folder(folder)
    if prompts is None and force_prompts:
        raise InputError(
            "--force-prompts needs a prompt file: add --prompts FILE, or leave it out."
        )
    work: Work = PlainWork(request)
    if prompts is not None:
        work = PromptWork(prompts, len(plan), request, given, force=force_prompts)
    segmenter = load_model(work.request)
    if segmenter.device.distrusted:
        typer.echo(f"Note: {segmenter.device.reason}", err=True)
    failed = 0
    for path, targets in plan:
        try:
            existing = [target for target in targets.values() if target.exists()]
            if existing and not overwrite:
                raise OutputError(
                    f"{path}: {existing[0]} exists already; pass --overwrite, or choose another "
                    "output folder."
                )
            typer.echo(_segment_file(segmenter, work, path, targets, overwrite))
        except EspMedSamError as error:
            failed += 1
            typer.echo(f"Error: {error}", err=True)
    if failed:
        typer.echo(f"{failed} of {len(plan)} files failed.", err=True)
        raise typer.Exit(2)


class PlainWork:
    """Segment each image anew."""

    def __init__(self, request: SegmentRequest) -> None:
        self.request = request
        self.axes = request.axes

    def __call__(
        self, segmenter: Segmenter, image: ImageFile, progress: Callable[[float], None]
    ) -> Segmentation:
        """Segment one image."""
        options = self.request.segment_options() | {"axes": image.axes}
        return run(segmenter, image.array, options, progress)


def _segment_file(
    segmenter: Segmenter, work: Work, path: Path, targets: Mapping[str, Path], overwrite: bool
) -> str:
    from napari_espmedsam.io.images import read_image

    start = time.perf_counter()
    image = read_image(path, work.axes)
    for text in image.warnings:
        typer.echo(f"Warning: {text}", err=True)
    try:
        with TileProgress(path.name) as progress:
            result = work(segmenter, image, progress)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    about: dict[str, Any] = {"input": path.name}
    if image.warnings:
        about["warnings"] = list(image.warnings)
    for name, target in targets.items():
        FORMATS[name].write(
            target,
            result.labels,
            result.axes,
            spacing=image.spacing,
            provenance=result.provenance | about,
            overwrite=overwrite,
        )
    seconds = time.perf_counter() - start
    written = ", ".join(str(target) for target in targets.values())
    counted = count_text(result.labels, work.request.output)
    return f"{path}  {shape_text(image)}  {counted}  {seconds:.1f} s -> {written}"


def run(
    segmenter: Segmenter,
    array: NDArray[Any],
    options: dict[str, Any],
    progress: Callable[[float], None],
) -> Segmentation:
    """Segment an image, telling `progress` the share that is done (0 to 1) after each tile.

    The rest is as in ``segment_steps``.
    """
    steps = segment_steps(segmenter, array, options)
    while True:
        try:
            progress(next(steps))
        except StopIteration as stop:
            return cast("Segmentation", stop.value)

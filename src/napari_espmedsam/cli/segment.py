"""``napari-espmedsam segment``: images in, label files out, one line each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
import typer
from numpy.typing import NDArray

from napari_espmedsam.cli.files import expand_inputs, plan_outputs
from napari_espmedsam.cli.progress import TileProgress
from napari_espmedsam.cli.prompts import PromptWork
from napari_espmedsam.errors import EspMedSamError, InputError, OutputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.io.formats import FORMATS

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.run import Event
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

    plan = plan_outputs(expand_inputs(images), folder, formats)
    # The answer to a folder that cannot be written must not wait for the model.
    check_folder(folder)
    if prompts is None and force_prompts:
        raise InputError(
            "--force-prompts needs a prompt file: add --prompts FILE, or leave it out."
        )
    work: Work = PlainWork(request)
    if prompts is not None:
        work = PromptWork(prompts, len(plan), request, given, force=force_prompts)
    segmenter = load_segmenter(work.request)
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


def load_segmenter(request: SegmentRequest) -> Segmenter:
    """Load the model of a request, once its header says that it suits the request.

    Raises
    ------
    CheckpointError, DeviceError
        See ``Segmenter``.
    InputError, ModalityError
        If no modality is given where there are several, the model lacks it, or a setting has no
        effect on it. That takes no time, and is said once and not for every file.
    """
    from napari_espmedsam.inference.plan import resolve_modality
    from napari_espmedsam.inference.scale import SCALE_OPTIONS, check_used
    from napari_espmedsam.model.header import read_header
    from napari_espmedsam.weights import resolve_checkpoint

    header = read_header(resolve_checkpoint(request.checkpoint))
    spec = header.inputs[resolve_modality(header, request.modality)]
    check_used(spec, **{name: getattr(request, name) for name in SCALE_OPTIONS})

    from napari_espmedsam.inference.segmenter import Segmenter

    return Segmenter.from_checkpoint(**request.model_options())


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
    try:
        with TileProgress(path.name) as progress:
            result = work(segmenter, image, progress)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    for name, target in targets.items():
        FORMATS[name].write(
            target,
            result.labels,
            result.axes,
            spacing=image.spacing,
            provenance=result.provenance | {"input": path.name},
            overwrite=overwrite,
        )
    seconds = time.perf_counter() - start
    written = ", ".join(str(target) for target in targets.values())
    counted = count_text(result.labels, work.request.output)
    return f"{path}  {_shape_text(image)}  {counted}  {seconds:.1f} s -> {written}"


def run(
    segmenter: Segmenter,
    array: NDArray[Any],
    options: dict[str, Any],
    progress: Callable[[float], None],
) -> Segmentation:
    """Segment an image and report the share that is done after each tile.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    array : ndarray
        The image.
    options : dict
        Arguments of ``iter_segment``. Planes that are not asked for stay 0.
    progress : callable
        Called with a number from 0 to 1.

    Returns
    -------
    Segmentation
        Labels, their axes and how they were made.
    """
    from napari_espmedsam.inference.image import PlaneStack
    from napari_espmedsam.inference.results import collect

    stack = PlaneStack.from_array(
        array, options["axes"], channel=options.get("channel"), rgb=options.get("rgb")
    )
    return collect(stack, _reported(segmenter.iter_segment(array, **options), progress))


def _reported(events: Iterable[Event], progress: Callable[[float], None]) -> Iterator[Event]:
    """Pass events on, telling ``progress`` of each tile."""
    from napari_espmedsam.inference.results import TileDone

    for event in events:
        if isinstance(event, TileDone):
            progress(event.fraction)
        yield event


def count_text(labels: NDArray[np.uint32], output: str) -> str:
    """Say how much was found: objects, or for a mask the share of the foreground."""
    if output == "mask":
        return f"{100 * float(np.mean(labels > 0)):.1f} % foreground"
    n = int(np.count_nonzero(np.bincount(labels.ravel())[1:]))
    return f"{n} object{'' if n == 1 else 's'}"


def _shape_text(image: ImageFile) -> str:
    text = f"{image.axes} {' x '.join(map(str, image.array.shape))}"
    return text if image.n_series == 1 else f"{text} (first of {image.n_series} images in the file)"

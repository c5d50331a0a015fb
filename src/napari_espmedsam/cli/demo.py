"""``napari-espmedsam demo``: the bundled samples, segmented, measured and shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from napari_espmedsam.cli.progress import TileProgress
from napari_espmedsam.cli.score import Score, score_labels
from napari_espmedsam.cli.segment import run
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.weights import DEFAULT_CHECKPOINT

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter

_MODALITY = "microscopy"


class Sample(NamedTuple):
    """One sample and its result: pixels, axes, planted objects, found labels, micrometres."""

    name: str
    image: NDArray[Any]
    axes: str
    spacing: dict[str, float]
    truth: NDArray[np.uint32]
    labels: NDArray[np.uint32]
    provenance: dict[str, Any]
    seconds: float

    @property
    def score(self) -> Score:
        """The labels against the planted objects."""
        return score_labels(self.labels, self.truth)


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the results go; a number is added if the folder exists.",
        ),
    ] = Path("espmedsam-demo"),
    gui: Annotated[
        bool, typer.Option("--gui/--no-gui", help="Open napari with the result.")
    ] = True,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "--model", "-m", help="Name or path of the weights.")
    ] = DEFAULT_CHECKPOINT,
    device: Annotated[
        str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, mps.")
    ] = "auto",
) -> None:
    """Segment two sample images and write labels, a picture and a table of objects for each.

    The samples are made on the spot, with nuclei at known places, so the result can be checked.
    Opens napari where there is a display.
    """
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.io.atomic import check_folder

    request = SegmentRequest(checkpoint=checkpoint, device=device, output="split").validate()
    segmenter = Segmenter.from_checkpoint(**request.model_options())
    folder = fresh_folder(output)
    check_folder(folder)
    typer.echo(f"{segmenter.name}. {segmenter.device.reason}")
    samples = [_segment_sample(segmenter, request, *made) for made in _make_samples()]
    for sample in samples:
        _write(sample, folder)
    Console().print(_score_table(samples))
    typer.echo(f"Labels, overlays and tables of objects are in {folder.resolve()}")
    if gui:
        from napari_espmedsam.cli.viewer import show

        show(samples)


def fresh_folder(wanted: Path) -> Path:
    """Return `wanted`, or the first of ``wanted-2``, ``wanted-3`` ... that does not exist."""
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _make_samples() -> list[tuple[str, str, tuple[float, ...], Any, NDArray[np.uint32]]]:
    from napari_espmedsam import samples

    stack, stack_truth = samples.nuclei_stack(return_labels=True)
    field, field_truth = samples.he_field(return_labels=True)
    return [
        ("nuclei_stack", "ZYX", samples.STACK_SPACING, stack, stack_truth),
        ("he_field", "YXS", samples.FIELD_SPACING, field, field_truth),
    ]


def _segment_sample(
    segmenter: Segmenter,
    request: SegmentRequest,
    name: str,
    axes: str,
    spacing: tuple[float, ...],
    image: NDArray[Any],
    truth: NDArray[np.uint32],
) -> Sample:
    start = time.perf_counter()
    modality = _MODALITY if _MODALITY in segmenter.modalities else None
    options = request.segment_options() | {"axes": axes, "modality": modality}
    with TileProgress(name) as progress:
        result = run(segmenter, image, options, progress)
    seconds = time.perf_counter() - start
    steps = dict(zip(result.axes, spacing, strict=True))
    return Sample(name, image, axes, steps, truth, result.labels, result.provenance, seconds)


def _write(sample: Sample, folder: Path) -> None:
    from napari_espmedsam.io.labels import write_labels_tiff
    from napari_espmedsam.io.overlay import write_overlay_png
    from napari_espmedsam.io.tables import object_table, write_table_csv

    axes = sample.axes.removesuffix("S")
    write_labels_tiff(
        folder / f"{sample.name}_labels.tif",
        sample.labels,
        axes,
        spacing=sample.spacing,
        provenance=sample.provenance | {"input": f"sample {sample.name}"},
    )
    write_overlay_png(folder / f"{sample.name}_overlay.png", sample.image, sample.labels)
    rows = object_table(sample.labels, axes, sample.image, spacing=sample.spacing)
    write_table_csv(folder / f"{sample.name}_objects.csv", rows)


def _score_table(samples: list[Sample]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("sample")
    for heading in ("planted", "found", "extra", "Dice", "seconds"):
        table.add_column(heading, justify="right")
    for sample in samples:
        score = sample.score
        counts = (str(score.planted), str(score.found), str(score.extra))
        table.add_row(sample.name, *counts, f"{score.dice:.3f}", f"{sample.seconds:.1f}")
    return table

"""Command line: ``python -m training COMMAND``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_espmedsam.errors import EspMedSamError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def training() -> None:
    """Train, evaluate and export the models of napari-espmedsam."""


Folder = Annotated[Path, typer.Option(help="Run folder: record, curve, state, weights.")]


@app.command()
def finetune(
    config: Annotated[Path, typer.Option(help="Recipe, for example training/configs/*.toml.")],
    out: Folder,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    steps: Annotated[int | None, typer.Option(help="Replaces the recipe's number.")] = None,
) -> None:
    """Train a model as a recipe says."""
    from training.config import FinetuneConfig, load_config
    from training.finetune import finetune as run

    overrides = {} if steps is None else {"steps": steps, "epochs": None}
    recipe = load_config(config, FinetuneConfig, **overrides)
    best = run(recipe, out, resume=resume, report=typer.echo)
    typer.echo(f"best weights: {best}")


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Option(help="Name of a bundled model, or a file.")],
    pack: Annotated[str, typer.Option(help="Folder below the data root.")] = "dsb2018",
    split: Annotated[str, typer.Option(help="Split to measure.")] = "test",
    modality: Annotated[str | None, typer.Option(help="If the checkpoint has several.")] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Instead of the checkpoint's; give it several times to compare."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per image here.")] = None,
) -> None:
    """Measure a checkpoint: mean Dice and IoU, at the images' own resolution.

    With several thresholds the CSV holds the first one's scores.
    """
    from napari_espmedsam.inference.segmenter import Segmenter
    from training import evaluate as evaluation

    scores = evaluation.evaluate(
        Segmenter.from_checkpoint(checkpoint),
        pack,
        split,
        modality=modality,
        thresholds=threshold or (),
        report=lambda line: typer.echo(line, err=True),
    )
    for cut, per_image in scores.items():
        typer.echo(f"\n{checkpoint}, {pack} {split}, threshold {cut:g}\n")
        typer.echo("\n".join(evaluation.summarise(per_image)))
    if csv is not None:
        evaluation.write_scores(csv, next(iter(scores.values())))


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write, *.safetensors.")],
    threshold: Annotated[float, typer.Option(help="Chosen on validation data.")] = 0.5,
) -> None:
    """Write the best weights of a run as a checkpoint that the plugin opens."""
    from training import export as exporting

    typer.echo(f"wrote {exporting.export(run, out, threshold=threshold)}")


@app.command()
def stats(
    pack: Annotated[str, typer.Option(help="Folder below the data root, instance masks.")],
    split: Annotated[str, typer.Option(help="Split to measure.")] = "train",
) -> None:
    """Print the median object diameter of a pack, which a recipe's ``input.diameter`` needs."""
    from training.data import data_root, list_samples, median_diameter

    samples = list_samples(data_root() / pack, split)
    typer.echo(
        f"{pack} {split}: median of {len(samples)} images: {median_diameter(samples):.1f} px"
    )


def main() -> None:
    """Run the command line; our own errors become one sentence and exit code 2."""
    try:
        app()
    except EspMedSamError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

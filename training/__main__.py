"""Command line: ``python -m training COMMAND``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_espmedsam.errors import EspMedSamError, InputError

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter
    from training.config import Config
    from training.evaluate import LabelledSet

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def training() -> None:
    """Train, evaluate and export the models of napari-espmedsam."""


Recipe = Annotated[Path, typer.Option(help="Recipe, for example training/configs/*.toml.")]
Folder = Annotated[Path, typer.Option(help="Run folder: record, curve, state, weights.")]
Resume = Annotated[bool, typer.Option(help="Go on with the run in --out.")]
Steps = Annotated[int | None, typer.Option(help="Replaces the recipe's number.")]
Checkpoints = Annotated[
    list[str], typer.Option(help="Name of a bundled model, or a file; may be repeated.")
]
Packs = Annotated[
    list[str] | None, typer.Option(help="Folder below the data root; may be repeated.")
]
Manifests = Annotated[list[Path] | None, typer.Option(help="CSV file; may be repeated.")]
Split = Annotated[str, typer.Option(help="Split to measure: train, val or test.")]


def load(path: Path, kind: type[Config], steps: int | None) -> Config:
    """Read a recipe, with another number of steps if one is given."""
    from training.config import load_config

    overrides = {} if steps is None else {"steps": steps, "epochs": None}
    return load_config(path, kind, **overrides)


def segmenters(checkpoints: list[str]) -> dict[str, Segmenter]:
    """Open checkpoints, by the name that tables show."""
    from training.checkpoints import open_segmenter

    opened = [open_segmenter(name) for name in checkpoints]
    return {segmenter.name: segmenter for segmenter in opened}


def labelled_sets(packs: list[str], manifests: list[Path], split: str) -> list[LabelledSet]:
    """Sets that the command line names."""
    from training.evaluate import LabelledSet
    from training.manifest import read_manifest

    if not packs and not manifests:
        raise InputError("Nothing to read: give --pack or --manifest.")
    named = [LabelledSet.from_pack(pack, split) for pack in packs]
    own = [LabelledSet.from_samples(path.stem, read_manifest(path), split) for path in manifests]
    return named + own


@app.command()
def prepare(
    dataset: Annotated[str, typer.Option(help="Name of a published set, see docs/data.md.")],
    root: Annotated[Path, typer.Option(help="Folder with the owners' files, unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.csv and derived masks.")],
    skip_damaged: Annotated[bool, typer.Option(help="Leave damaged pairs out.")] = False,
) -> None:
    """Make a manifest from the official folder layout of a published set."""
    from training.datasets.prepare import prepare as run

    path = run(dataset, root, out, skip_damaged=skip_damaged, report=typer.echo)
    typer.echo(f"wrote {path}")


@app.command()
def teacher(config: Recipe, out: Folder, resume: Resume = False, steps: Steps = None) -> None:
    """Train F_ViT-Med: medical parts beside a frozen SAM or LiteMedSAM encoder."""
    from training.teach import TeacherConfig, train_teacher

    recipe = load(config, TeacherConfig, steps)
    typer.echo(f"wrote {train_teacher(recipe, out, resume=resume, report=typer.echo)}")


@app.command()
def distill(config: Recipe, out: Folder, resume: Resume = False, steps: Steps = None) -> None:
    """Distil a teacher: MMDKD's common or specific term (ESP-MedSAM eq. 2)."""
    from training.distill import DistillConfig
    from training.distill import distill as run

    best = run(load(config, DistillConfig, steps), out, resume=resume, report=typer.echo)
    typer.echo(f"best weights: {best}")


@app.command()
def flkd(config: Recipe, out: Folder, resume: Resume = False, steps: Steps = None) -> None:
    """Distil SAM into Med-FastSAM's encoder (Med-FastSAM eq. 1)."""
    from training.distill import DistillConfig
    from training.distill import flkd as run

    best = run(load(config, DistillConfig, steps), out, resume=resume, report=typer.echo)
    typer.echo(f"best weights: {best}")


@app.command()
def finetune(config: Recipe, out: Folder, resume: Resume = False, steps: Steps = None) -> None:
    """Train a model on masks as a recipe says."""
    from training.config import FinetuneConfig
    from training.finetune import finetune as run

    best = run(load(config, FinetuneConfig, steps), out, resume=resume, report=typer.echo)
    typer.echo(f"best weights: {best}")


@app.command()
def chain(config: Recipe, out: Folder) -> None:
    """Run teacher, distillations, fine-tuning, export and evaluation one after the other."""
    from training.chain import run_chain

    typer.echo(f"wrote {run_chain(config, out, report=typer.echo)}")


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write, *.safetensors.")],
    name: Annotated[str | None, typer.Option(help="Instead of the recipe's.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="MODALITY=VALUE, chosen on validation data; may be repeated."),
    ] = None,
) -> None:
    """Write the best weights of a run as a checkpoint that the plugin opens."""
    from training import export as exporting

    thresholds = exporting.parse_thresholds(threshold or [])
    typer.echo(f"wrote {exporting.export(run, out, name=name, thresholds=thresholds)}")


@app.command()
def evaluate(
    checkpoint: Checkpoints,
    pack: Packs = None,
    manifest: Manifests = None,
    split: Split = "test",
    modality: Annotated[str | None, typer.Option(help="Instead of the images' own.")] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Instead of the checkpoint's; repeat it on val to compare."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per image here.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Write tables with the papers' figures here, *.md.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write the best, median and worst images here, *.png.")
    ] = None,
) -> None:
    """Measure checkpoints: Dice and IoU at the images' own size; Dice, IoU and HD at 1024."""
    from training.comparison import evaluate_models

    sets = labelled_sets(pack or [], manifest or [], split)
    evaluate_models(
        segmenters(checkpoint),
        sets,
        modality=modality,
        thresholds=threshold or (),
        csv=csv,
        sheet=sheet,
        table=table,
        report=lambda line: typer.echo(line, err=True),
        show=typer.echo,
    )


@app.command()
def table(
    csv: Annotated[list[Path], typer.Option(help="Scores that `evaluate` wrote; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write, *.md.")],
) -> None:
    """Make the papers' tables from scores, without running a model again."""
    from training.scores import read_scores, result_file
    from training.tables import paper_tables

    scores = [score for path in csv for score in read_scores(path)]
    with result_file(out) as temporary:
        temporary.write_text(paper_tables(scores), encoding="utf-8")
    typer.echo(f"wrote {out}")


@app.command()
def cost(
    model: Annotated[
        list[str],
        typer.Option(help='Architecture, checkpoint, or "unet"; may be repeated.'),
    ],
    size: Annotated[int, typer.Option(help="Side of the input in px.")] = 1024,
    repeats: Annotated[int, typer.Option(help="Timed passes.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Count parameters and multiplications, and time models on this machine."""
    from training.cost import cost as run

    typer.echo(
        run(
            model,
            size=size,
            repeats=repeats,
            device=device,
            report=lambda line: typer.echo(line, err=True),
        )
    )


@app.command()
def ablate(
    study: Annotated[Path, typer.Option(help="Study, one of training/configs/ablate/*.toml.")],
    out: Folder,
    steps: Steps = None,
    distilled: Annotated[
        Path | None, typer.Option(help="Run folder of a distillation, for the rows with it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Images per modality to measure on.")] = None,
) -> None:
    """Train and measure every row of an ablation; the same command again goes on."""
    from training.ablate import ablate as run

    run(study, out, steps=steps, distilled=distilled, limit=limit, report=typer.echo)
    typer.echo((out / "table.md").read_text(encoding="utf-8"))


@app.command()
def prompts(
    checkpoint: Annotated[str, typer.Option(help="An ESP-MedSAM checkpoint.")],
    pack: Packs = None,
    manifest: Manifests = None,
    split: Split = "val",
    limit: Annotated[int | None, typer.Option(help="Images per set, evenly spaced.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the table here, *.md.")] = None,
    csv: Annotated[Path | None, typer.Option(help="One row per image and prompt.")] = None,
) -> None:
    """Compare prompts from ground truth (patch, point, box, mask) with the model's own."""
    from training.checkpoints import open_segmenter
    from training.prompt_study import prompt_study, prompt_table

    scores = prompt_study(
        open_segmenter(checkpoint),
        labelled_sets(pack or [], manifest or [], split),
        limit=limit,
        table=table,
        csv=csv,
        report=lambda line: typer.echo(line, err=True),
    )
    typer.echo(prompt_table(scores))


@app.command()
def corrections(
    checkpoint: Annotated[str, typer.Option(help="A checkpoint whose prompt can be edited.")],
    pack: Packs = None,
    manifest: Manifests = None,
    split: Split = "val",
    limit: Annotated[int | None, typer.Option(help="Images per set, evenly spaced.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the table here, *.md.")] = None,
) -> None:
    """Measure how well masks follow prompts that are corrected object by object."""
    from training.checkpoints import open_segmenter
    from training.correction_study import correction_study, correction_table

    done = correction_study(
        open_segmenter(checkpoint),
        labelled_sets(pack or [], manifest or [], split),
        limit=limit,
        table=table,
        report=lambda line: typer.echo(line, err=True),
    )
    typer.echo(correction_table(done))


@app.command()
def tsne(
    checkpoint: Checkpoints,
    out: Annotated[Path, typer.Option(help="Picture to write, *.png.")],
    pack: Packs = None,
    manifest: Manifests = None,
    split: Split = "val",
    images: Annotated[int, typer.Option(help="Images per set.")] = 50,
) -> None:
    """Draw the t-SNE of image embeddings, one panel per checkpoint."""
    from training.tsne import tsne_figure

    sets = labelled_sets(pack or [], manifest or [], split)
    tsne_figure(segmenters(checkpoint), sets, out, images_per_set=images, report=typer.echo)
    typer.echo(f"wrote {out}")


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

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
    from training.config import load_config
    from training.loop import finetune as run

    overrides = {} if steps is None else {"steps": steps}
    best = run(load_config(config, **overrides), out, resume=resume, report=typer.echo)
    typer.echo(f"best weights: {best}")


def main() -> None:
    """Run the command line; our own errors become one sentence and exit code 2."""
    try:
        app()
    except EspMedSamError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

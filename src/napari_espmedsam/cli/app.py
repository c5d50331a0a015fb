"""The commands in one application, and what becomes of our own errors."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_espmedsam import __version__
from napari_espmedsam.cli.batch import batch
from napari_espmedsam.cli.checkpoints import import_checkpoint, list_models
from napari_espmedsam.cli.demo import demo
from napari_espmedsam.cli.info import info
from napari_espmedsam.cli.options import with_request
from napari_espmedsam.cli.segment import segment
from napari_espmedsam.cli.slide import slide
from napari_espmedsam.errors import EspMedSamError

BAD_INPUT = 2


class _Group(TyperGroup):
    """Say our own errors in their one sentence; everything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EspMedSamError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error


app = typer.Typer(
    name="napari-espmedsam",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-espmedsam {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Segment microscopy and other biomedical images with ESP-MedSAM, without a click."""


app.command()(with_request(segment))
app.command()(with_request(batch))
app.command()(with_request(slide))
app.command()(demo)
app.command()(info)
app.command("models")(list_models)
app.command("import")(import_checkpoint)

"""``napari-espmedsam info``: the cost of models, the content of checkpoints, this machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_espmedsam import __version__

if TYPE_CHECKING:
    from napari_espmedsam.model.checkpoint import CheckpointHeader
    from napari_espmedsam.model.config import ModelConfig

_PACKAGES = ("torch", "napari", "numpy", "scikit-image", "tifffile")
_SIZE = 1024  # px; the size for which the papers print their figures


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|CHECKPOINT]",
            help="An architecture, or the name or path of weights; all architectures if left out.",
        ),
    ] = None,
) -> None:
    """Show parameters and multiply-adds of the models, versions and the compute device."""
    from napari_espmedsam.inference.device import choose_device
    from napari_espmedsam.model.registry import list_models, model_config

    console = Console()
    known = list_models()
    if model is None or model in known:
        names = [n for n in known if not n.endswith("_test")] if model is None else [model]
        table = _table()
        for name in names:
            with console.status(f"counting {name}"):
                _add_rows(table, name, model_config(name))
        console.print(table)
        typer.echo(_NOTE)
    else:
        _show_checkpoint(console, model)
    found = [f"{name} {_version(name)}" for name in _PACKAGES]
    typer.echo(f"napari-espmedsam {__version__}, Python {platform.python_version()}")
    typer.echo(", ".join(found))
    typer.echo(f"Device: {choose_device().reason}")


_NOTE = (
    f"GMAC: billions of multiply-adds for one {_SIZE} x {_SIZE} image, which papers often call "
    "GFLOPs.\nDropped: what the authors' code computes besides and throws away; it is in the GMAC "
    "of the model,\nbut not computed here.\n"
)


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for heading in ("modalities", "parameters", f"GMAC at {_SIZE}", "dropped"):
        table.add_column(heading, justify="right")
    return table


def _add_rows(table: Table, name: str, config: ModelConfig) -> None:
    from napari_espmedsam.model.complexity import complexity

    cost = complexity(config, _SIZE)
    table.add_row(
        name,
        str(len(config.modalities)),
        f"{cost.parameters / 1e6:.2f} M",
        f"{(cost.macs + cost.discarded_macs) / 1e9:.1f}",
        f"{cost.discarded_macs / 1e9:.1f}" if cost.discarded_macs else "",
    )
    for part, share in cost.parts.items():
        table.add_row(
            Text(f"  {part}", "dim"),
            "",
            Text(f"{share.parameters / 1e6:.2f} M", "dim"),
            Text(f"{share.macs / 1e9:.1f}", "dim"),
            "",
        )


def _show_checkpoint(console: Console, name: str) -> None:
    from napari_espmedsam.model.checkpoint import read_header
    from napari_espmedsam.model.registry import model_config
    from napari_espmedsam.weights import resolve_checkpoint

    path = resolve_checkpoint(name)
    header = read_header(path)
    described = _describe(header) | {"file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)"}
    width = max(map(len, described)) + 2
    for key, value in described.items():
        typer.echo(f"{key + ':':{width}}{value}")
    typer.echo()
    table = _table()
    _add_rows(table, header.architecture, model_config(header.architecture, **header.config))
    console.print(table)


def _describe(header: CheckpointHeader) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": header.name,
        "architecture": header.architecture,
        "licence": header.licence,
    }
    for modality, spec in header.inputs.items():
        described[modality] = ", ".join(
            [f"threshold {header.threshold_for(modality):g}"]
            + [f"{key} {value}" for key, value in spec.model_dump().items() if value is not None]
        )
    for key, value in header.training.items():
        text = str(value)
        described[f"training {key}"] = text if len(text) < 200 else f"{text[:200]} ..."
    return described


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

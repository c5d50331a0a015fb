"""``napari-espmedsam models`` and ``import``: weights that come along or from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_espmedsam.errors import InputError, OutputError

_SUFFIX = ".safetensors"


def list_models() -> None:
    """List the weights that come with the package."""
    from napari_espmedsam.weights import describe_licence, list_checkpoints

    for entry in list_checkpoints():
        there = entry.path.is_file()
        size = f"{entry.path.stat().st_size / 1e6:.1f} MB" if there else "missing"
        typer.echo(f"{entry.name}  {size}  {describe_licence(entry.licence)}")
        typer.echo(f"  {entry.summary}")
        for modality, target in zip(entry.modalities, entry.targets, strict=True):
            typer.echo(f"  {modality}: {target}")


def import_checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The authors' .pth file.")],
    target: Annotated[
        Path,
        typer.Option("--output", "-o", metavar=f"OUT{_SUFFIX}", help="The file to write."),
    ],
    modality: Annotated[
        str, typer.Option("--modality", help="Kind of image that the file was trained for.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists already.")
    ] = False,
) -> None:
    """Convert a checkpoint that the authors of ESP-MedSAM or Med-FastSAM have released."""
    if target.suffix != _SUFFIX:
        raise InputError(f"{target} does not end in {_SUFFIX}; name the output OUT{_SUFFIX}.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already; pass --overwrite or another name.")

    from napari_espmedsam.io.atomic import check_folder
    from napari_espmedsam.model.checkpoint import save_checkpoint
    from napari_espmedsam.model.published_fast import import_authors_file

    check_folder(target.parent)
    model, header = import_authors_file(file, modality)
    # Full precision: what the authors' file computes is computed exactly.
    save_checkpoint(target, model, header, half=False)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    typer.echo(
        f"{file} -> {target}  {header.architecture}, {modality}, {millions:.2f} M parameters, "
        f"{target.stat().st_size / 1e6:.1f} MB"
    )

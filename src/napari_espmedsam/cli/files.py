"""Where ``segment`` writes: one label file beside no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_espmedsam.batch.job import stem_of
from napari_espmedsam.errors import InputError
from napari_espmedsam.io.formats import format_named

DicomSeries = Annotated[
    bool,
    typer.Option(
        "--dicom-series",
        help="Take a folder with DICOM files as one image: the stack of their slices.",
    ),
]


def plan_outputs(
    inputs: Sequence[Path], folder: Path, formats: Sequence[str] = ("tiff",)
) -> list[tuple[Path, dict[str, Path]]]:
    """Pair each input with its label files, before any work is done.

    Parameters
    ----------
    inputs : sequence of Path
        Images.
    folder : Path
        Where the results go.
    formats : sequence of str
        Names of :data:`napari_espmedsam.io.formats.FORMATS`.

    Returns
    -------
    list of (Path, dict)
        Input, and for each format ``folder/<name without suffix>_labels.tif`` or alike.

    Raises
    ------
    InputError
        If a format is unknown, two inputs would write the same file (letter case does not tell
        files apart on Windows and macOS), or a result would replace an input.
    """
    kinds = [format_named(name) for name in dict.fromkeys(formats)]
    plan = [
        (path, {kind.name: folder / kind.file_name(stem_of(path)) for kind in kinds})
        for path in inputs
    ]
    writers: dict[str, Path] = {}
    sources = {path.resolve() for path in inputs}
    for path, targets in plan:
        for target in targets.values():
            other = writers.setdefault(target.name.lower(), path)
            if other is not path:
                raise InputError(
                    f"{other} and {path} would both become {target}; rename one of them, or "
                    "segment them in two runs with different output folders."
                )
            if target.resolve() in sources:
                raise InputError(
                    f"the result of {path} would replace the input {target}; choose another output "
                    "folder."
                )
    return plan

"""Where ``segment`` writes: one label file beside no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_espmedsam.batch.job import stem_of
from napari_espmedsam.errors import InputError

LABELS_SUFFIX = "_labels.tif"


def plan_outputs(inputs: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Pair each input with its label file, before any work is done.

    Parameters
    ----------
    inputs : sequence of Path
        Images.
    folder : Path
        Where the results go.

    Returns
    -------
    list of (Path, Path)
        Input, and ``folder/<name without suffix>_labels.tif``.

    Raises
    ------
    InputError
        If two inputs would write the same file (letter case does not tell files apart on Windows
        and macOS), or a result would replace an input.
    """
    plan = [(path, folder / (stem_of(path.name) + LABELS_SUFFIX)) for path in inputs]
    writers: dict[str, Path] = {}
    sources = {path.resolve() for path in inputs}
    for path, target in plan:
        other = writers.setdefault(target.name.lower(), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} would both become {target}; rename one of them, or segment "
                "them in two runs with different output folders."
            )
        if target.resolve() in sources:
            raise InputError(
                f"the result of {path} would replace the input {target}; choose another output "
                "folder."
            )
    return plan

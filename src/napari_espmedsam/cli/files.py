"""Which files a run reads, and which it will write."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.content import is_zarr
from napari_espmedsam.io.images import IMAGE_SUFFIXES

LABELS_SUFFIX = "_labels.tif"


def expand_inputs(given: Sequence[str]) -> list[Path]:
    """Turn file names, folders and patterns into files, in order and each once.

    Parameters
    ----------
    given : sequence of str
        A folder stands for the images directly in it, without hidden files and label files of an
        earlier run; an OME-Zarr folder is an image. A pattern that the shell has left alone
        (``*.tif`` on Windows) is expanded.

    Returns
    -------
    list of Path
        Files; one that was named and does not exist is kept, for its own error.

    Raises
    ------
    InputError
        If a folder holds no image or a pattern fits nothing.
    """
    found: dict[Path, None] = {}
    for text in given:
        path = Path(text)
        if path.is_dir() and not is_zarr(path):
            found.update(dict.fromkeys(_images_in(path)))
        elif not path.exists() and glob.has_magic(text):
            found.update(dict.fromkeys(_matches(text)))
        else:
            found[path] = None
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    images = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
        and not path.name.endswith(LABELS_SUFFIX)
    ]
    if not images:
        raise InputError(
            f"the folder {folder} holds no image (0 files named {', '.join(IMAGE_SUFFIXES)}); name "
            "another folder or the files themselves."
        )
    return images


def _matches(pattern: str) -> list[Path]:
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    files = [path for path in files if path.is_file()]
    if not files:
        raise InputError(f"no file fits the pattern {pattern!r}; check the folder and the suffix.")
    return files


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
    plan = [(path, folder / (_stem(path) + LABELS_SUFFIX)) for path in inputs]
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


def _stem(path: Path) -> str:
    """Name without suffix; ``.ome.tif`` counts as one suffix."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") and len(stem) > 4 else stem

"""A hidden folder beside the results, where they are made before they get their names."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.atomic import make_folder


def staging_path(folder: Path, name: str) -> Path:
    """Return where results called `name` are made: always the same, to be found after a kill."""
    return folder / f".{name}.esprun-part"


@contextmanager
def staged(folder: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder for the results called `name`, and remove it afterwards.

    What a killed run left there is removed first. The folder lies inside that of
    :func:`staging_path` under a name of its own: a process that is taken for dead and is not (a
    cluster's lost worker) loses its folder, and cannot write into ours.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    make_folder(folder)
    parent = staging_path(folder, name)
    place = parent / secrets.token_hex(4)
    clear_staging(folder, name)
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise refused(folder, error) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # not empty: another process has begun the same
            parent.rmdir()


def clear_staging(folder: Path, name: str) -> None:
    """Remove what a killed run left of the results called `name`."""
    shutil.rmtree(staging_path(folder, name), ignore_errors=True)


def publish(source: Path, target: Path) -> None:
    """Give a staged file or folder its name, in place of what has it now.

    Raises
    ------
    OutputError
        If it cannot be renamed.
    """
    aside = source.with_name(f"{source.name}.old")
    try:
        if target.is_dir() and not target.is_symlink():  # a folder cannot be renamed over another
            os.replace(target, aside)
        os.replace(source, target)
    except OSError as error:
        if aside.is_dir() and not os.path.lexists(target):
            os.replace(aside, target)
        raise refused(target, error) from error


def refused(path: Path, error: OSError) -> OutputError:
    """Return the error to raise where the system does not let us write."""
    return OutputError(
        f"cannot write {path} ({error.strerror or error}); choose an output folder that you may "
        "write to and that has space left."
    )

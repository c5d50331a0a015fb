"""Write a file or a folder whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_espmedsam.errors import OutputError


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; give it the real name once the block has succeeded.

    The folder is created if need be. The file is flushed to the disk before it is renamed, so
    that a crash leaves either the old file or the new one. If the block fails, the temporary file
    is removed and `path` is as it was.

    Parameters
    ----------
    path : str or path-like
        Where the finished file belongs.
    overwrite : bool
        False: an existing `path` is an error.

    Yields
    ------
    Path
        Temporary path with the suffix of `path`, in the same folder. The block writes it.

    Raises
    ------
    OutputError
        If the folder cannot be made or written, the disk is full, or `path` exists and
        `overwrite` is False.
    """
    path = Path(path)
    with _renamed_at_last(path, overwrite) as temporary:
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; give it the real name once the block has succeeded.

    As `atomic_path`, for what is a folder of files. An existing folder is moved aside before the
    new one takes its name and removed after that, so that one of them is always whole.

    Parameters
    ----------
    path : str or path-like
        Where the finished folder belongs. All of an existing folder of that name is replaced: the
        caller makes sure that it is one of its own kind.
    overwrite : bool
        False: an existing `path` is an error.

    Yields
    ------
    Path
        Empty folder beside `path`. The block fills it.

    Raises
    ------
    OutputError
        As `atomic_path`; also if `path` is a file.
    """
    path = Path(path)
    with _renamed_at_last(path, overwrite) as temporary:
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file and would become a folder; choose another name.")
        aside = temporary.with_name(f"{temporary.name}.old")
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            if path.exists():
                os.replace(path, aside)
            os.replace(temporary, path)
            _remove(aside)
        finally:
            _remove(temporary)
            _put_back(aside, path)


@contextmanager
def _renamed_at_last(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary name beside `path`; say what is wrong in the words of an OutputError."""
    # Writers look at the suffix, so the temporary name keeps it. It may not outgrow the longest
    # name that a disk takes.
    temporary = path.with_name(f".{path.stem[:32]}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        make_folder(path.parent)
        if not overwrite and path.exists():
            raise OutputError(f"{path} exists already; pass --overwrite or another output folder.")
        yield temporary
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); choose an output folder that you "
            "may write to and that has space left."
        ) from error


def _remove(folder: Path) -> None:
    """Remove a folder, or a link to one, as far as that is possible."""
    if folder.is_symlink():
        with suppress(OSError):
            folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _put_back(aside: Path, path: Path) -> None:
    """Give an old folder its name back where no new one took it."""
    if not os.path.lexists(aside) or os.path.lexists(path):
        return
    try:
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); what it held is whole and lies in "
            f"{aside}: rename that folder."
        ) from error


def make_folder(folder: Path) -> None:
    """Create a folder for output, and those above it, where it does not exist.

    Raises
    ------
    OutputError
        If a file is in the way or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            f"cannot write into {folder}: a file has that name or lies on the way; choose another "
            "output folder."
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot make the output folder {folder} ({error.strerror or error}); choose one that "
            "you may write to."
        ) from error


def check_folder(folder: Path) -> None:
    """Create a folder for output if need be and see whether files can be written there.

    Raises
    ------
    OutputError
        If not.
    """
    make_folder(folder)
    probe = folder / f".{secrets.token_hex(4)}.part"
    try:
        probe.touch()
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder} ({error.strerror or error}); choose an output folder that "
            "you may write to."
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())

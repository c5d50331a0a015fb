"""What kind of file it is, by its first bytes; and a sentence where there are none."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from napari_espmedsam.errors import InputError

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files start."""


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Return how a file starts.

    Raises
    ------
    InputError
        If it is missing, empty, a folder, a loop of links, may not be read or cannot be a name.
    """
    try:
        if os.path.isdir(path):
            raise InputError(f"{path} is a folder, not an image; name the files in it.")
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise InputError(f"{path} is a pipe or a device, not a file; copy its content to one.")
        with path.open("rb") as file:
            start = file.read(count)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the spelling and the folder.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror or error}); check its permissions and name."
        ) from error
    except ValueError as error:  # a zero byte
        raise InputError(f"{str(path)!r} cannot be a name ({error}); check it.") from error
    if not start:
        raise InputError(f"{path} is empty (0 bytes); copy or export the file again.")
    return start


def check_series(path: Path, series: int, n: int, what: str = "image") -> None:
    """Check that a file or folder with `n` images has one of number `series`, counted from 0.

    Raises
    ------
    InputError
        If not.
    """
    if not 0 <= series < n:
        raise InputError(
            f"{path} has no {what} number {series}; it holds {n}, counted from 0 to {n - 1}."
        )


DICOM_BYTES = 132
"""How many bytes :func:`is_dicom` needs."""


def is_dicom(start: bytes) -> bool:
    """Tell whether a file that starts like this is DICOM: its mark stands at byte 128."""
    return start[128:132] == b"DICM"


_LOOKED_AT = 16  # files of a folder, before it is said to hold no DICOM


def holds_dicom(path: Path) -> bool:
    """Tell whether one of the first files of a folder is DICOM; False where it cannot be read.

    Looks at names ending in .dcm first, and at 16 files at most, so it takes no time in a folder
    of 100,000 pictures.
    """
    try:
        with os.scandir(path) as entries:
            first = [each for each in itertools.islice(entries, 1024) if _is_file(each)]
        first.sort(key=lambda entry: not entry.name.lower().endswith(DICOM_SUFFIXES))
        return any(is_dicom_file(Path(each.path)) for each in first[:_LOOKED_AT])
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file may be an image in DICOM; False where it cannot be read.

    A DICOMDIR is not: it lists the files of a disc, and stands above their folders.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(DICOM_BYTES))
    except OSError:
        return False


def is_series(path: Path) -> bool:
    """Tell whether a path is a folder with DICOM files, which can be opened as one stack."""
    return os.path.isdir(path) and not is_zarr(path) and holds_dicom(path)


ZARR_MARKS = (".zattrs", ".zgroup", ".zarray", "zarr.json")
"""A folder that holds one of these is Zarr, version 2 or 3."""


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr group or array; False for anything that cannot be read."""
    try:
        return any((path / mark).is_file() for mark in ZARR_MARKS)
    except OSError:
        return False

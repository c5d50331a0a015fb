"""What kind of file it is, by its first bytes; and a sentence where there are none."""

from __future__ import annotations

from pathlib import Path

from napari_espmedsam.errors import InputError

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files start."""


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Return how a file starts.

    Raises
    ------
    InputError
        If it is missing, empty, a folder, a loop of links or may not be read.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not an image; name the files in it.")
        with path.open("rb") as file:
            start = file.read(count)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the spelling and the folder.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror or error}); check its permissions."
        ) from error
    if not start:
        raise InputError(f"{path} is empty (0 bytes); copy or export the file again.")
    return start

"""The file of a session, ``NAME.espprompts.json``: written whole, read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.studio.record_json import record_from_json, record_to_json

SUFFIX = ".espprompts.json"
MAX_FILE_BYTES = 2**26


def write_record(
    path: str | os.PathLike[str], record: PromptRecord, *, overwrite: bool = True
) -> Path:
    """Write a record, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write; its name ends with ``.espprompts.json``.
    record : PromptRecord
        What to write.
    overwrite : bool
        False: an existing file is an error.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If the name ends otherwise, or the file would be larger than 64 MB.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIX):
        raise InputError(f"{path} does not end with {SUFFIX}. Call it {path.name}{SUFFIX}.")
    text = _to_text(record_to_json(record))
    if len(text) > MAX_FILE_BYTES:
        raise InputError(
            f"The prompts of {len(record.planes)} planes take {len(text):,} bytes as a file; the "
            f"limit is {MAX_FILE_BYTES:,}. Save fewer planes, or unlock objects."
        )
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")
    return path


def read_record(path: str | os.PathLike[str]) -> PromptRecord:
    """Read a record. The content decides, not the file's name.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`write_record` has written.

    Returns
    -------
    PromptRecord
        Checked throughout.

    Raises
    ------
    InputError
        If the file is missing, foreign, damaged, cut short, too large, or of a newer version.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refuse)
        return record_from_json(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no prompt file, or damaged or cut short ({error!s:.200}). Save the prompts "
            "again."
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file. Name the {SUFFIX} file itself.")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the spelling and the folder.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"{path} cannot be opened ({error}); check its permissions.") from error
    if not data:
        raise InputError(f"{path} is empty (0 bytes). Save the prompts again.")
    if len(data) > MAX_FILE_BYTES:
        raise InputError(
            f"{path} has more than {MAX_FILE_BYTES:,} bytes, the limit for prompts. It may be "
            f"another kind of file; name a {SUFFIX} file."
        )
    return data


def _to_text(content: dict[str, Any]) -> str:
    """One line per entry and per plane: short, and still something that people can read."""
    planes = ",\n".join(json.dumps(plane) for plane in content["planes"])
    parts = [
        f'"{key}": [\n{planes}\n]'
        if key == "planes" and planes
        else f'"{key}": {json.dumps(value)}'
        for key, value in content.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")

"""Which files the record of a run names: the image and the results."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError

SUFFIX = ".esprun.json"
FORMAT = "napari-espmedsam run"
VERSION = 1
_LOOKED_ABOVE = 3  # folders above the record's in which its image is looked for
MAX_BYTES = 64 * 2**20  # beyond it, it is no record of ours


@dataclass(frozen=True)
class RunFiles:
    """Files of a run.

    Attributes
    ----------
    path : Path
        The record.
    image : Path or None
        The image; None where the record names none or it is not found.
    outputs : tuple of Path
        Results that are there.
    missing : tuple of str
        Files that the record names and that are not there, as it names them.
    """

    path: Path
    image: Path | None
    outputs: tuple[Path, ...]
    missing: tuple[str, ...]


def read_run_files(path: Path) -> RunFiles:
    """Read a record and look for the files that it names.

    Parameters
    ----------
    path : Path
        ``NAME.esprun.json``. Its ``input`` and each of its ``outputs`` is a path relative to the
        record's folder, or an object with one under ``path`` or ``name``. The image is looked for
        in the three folders above too, as the record knows it by its place below all inputs.

    Returns
    -------
    RunFiles
        What was found and what is missing.

    Raises
    ------
    InputError
        If it is no record, damaged, or of a later version.
    """
    content = _content(path)
    folder, missing = path.absolute().parent, []
    image_name = _name(content.get("input"))
    image = _find_image(folder, content.get("input")) if image_name else None
    if image_name and image is None:
        missing.append(image_name)
    outputs = []
    listed = content.get("outputs")
    for each in listed if isinstance(listed, list) else []:
        name = _name(each)
        found = folder / name
        if name and _look(found) is not None:
            outputs.append(found)
        elif name:
            missing.append(name)
    return RunFiles(path, image, tuple(outputs), tuple(missing))


def _content(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES:,} bytes: it is no record of a run.")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check name and permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no record of a run or cut short ({error}); write it again."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no record of a run (its 'format' is not {FORMAT!r}).")
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} is a record of version {content.get('version')!r}, and this program reads "
            f"version {VERSION}; update napari-espmedsam."
        )
    return content


def _name(entry: object) -> str:
    if isinstance(entry, Mapping):
        entry = entry.get("path") or entry.get("name")
    return entry if isinstance(entry, str) and "\0" not in entry else ""


def _find_image(folder: Path, entry: object) -> Path | None:
    """Find the image; one of another size than recorded is another image."""
    name = _name(entry)
    size = entry.get("bytes") if isinstance(entry, Mapping) else None
    above = (folder, *folder.parents[:_LOOKED_ABOVE])
    for place in [*(base / name for base in above), folder / Path(name).name]:
        known = _look(place)
        if known is None:
            continue
        is_file = stat.S_ISREG(known.st_mode) and size in (None, known.st_size)
        if is_file or stat.S_ISDIR(known.st_mode):
            return place
    return None


def _look(path: Path) -> os.stat_result | None:
    """Look at what a record names; None where there is nothing, or no such name can be."""
    try:
        return path.stat()
    except (OSError, ValueError):  # too long, half a letter
        return None

"""Hashes that tell whether a result belongs to an image, to weights and to settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.io.content import is_dicom_file, is_zarr

# Where the weights lie and what computes are no settings: the weights have a hash of their own, and
# a job may go on on another machine.
_ELSEWHERE = ("checkpoint", "device", "backend")


def hash_path(path: Path) -> str:
    """Hash the content of a file, or of a folder that is one image (OME-Zarr, a DICOM series).

    The content is read each time. Size and time of change would be faster and are not enough:
    copying tools restore times, network drives round them, and two writes within one tick look
    like one. Beside the model's work, reading costs little.

    Returns
    -------
    str
        sha256, 64 hexadecimal digits. For a folder over the names and hashes of its files; those
        of a series are the DICOM files that lie in it.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        if path.exists() and not (path.is_dir() or path.is_file()):  # would be waited for for ever
            raise InputError(f"{path} is a pipe or a device, not a file; copy its content to one.")
        if not path.is_dir():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        files = sorted(_files_in(path))
        lines = [f"{hash_path(each)} {each.relative_to(path).as_posix()}\n" for each in files]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the spelling and the folder.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror or error}); check its permissions."
        ) from error


def size_of(path: Path) -> int:
    """Return the bytes of a file or of the files in a folder; 0 where there is none."""
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in _files_in(path))
        return path.stat().st_size
    except OSError:
        return 0


def _files_in(folder: Path) -> list[Path]:
    """List the files that a folder's image is made of: what else lies there may come and go."""
    if is_zarr(folder):
        return [each for each in folder.rglob("*") if not each.is_dir()]
    return [each for each in folder.iterdir() if each.is_file() and is_dicom_file(each)]


def settings_of(request: SegmentRequest) -> dict[str, Any]:
    """Return the settings of a request that change its result, as JSON values."""
    names = [each.name for each in fields(request) if each.name not in _ELSEWHERE]
    found = {name: getattr(request, name) for name in names}
    if request.planes is not None:
        found["planes"] = list(request.planes)
    if request.axes is not None:
        found["axes"] = request.axes.upper()
    if request.precision == "auto":
        found["precision"] = "float32"
    return found


def hash_settings(request: SegmentRequest) -> str:
    """Hash the settings of a request that change its result: sha256, 64 hexadecimal digits."""
    text = json.dumps(settings_of(request), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""Weight files: the ones that come with the package, and the user's own by path.

Nothing here reads a tensor or imports torch, so a form can list the models at once.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from napari_espmedsam.errors import CheckpointError

DEFAULT_CHECKPOINT = "espmedsam"
"""Name of the weights that are used when nothing is asked for."""

_FOLDER = Path(__file__).parent
_INDEX = _FOLDER / "index.json"
_SUFFIX = ".safetensors"
_FOREIGN = (".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class WeightEntry:
    """One weight file that the package knows by name.

    Attributes
    ----------
    name : str
        What :func:`resolve_checkpoint`, the command line and the widget accept.
    modalities : tuple of str
        Modalities that the weights were trained for, in the order of their bags.
    targets : tuple of str
        What is found in each modality, in the same order: ``"cell nuclei"``.
    sha256 : str
        Hash of the file, 64 hexadecimal digits; empty while the file is not released.
    licence : str
        SPDX identifier of the licence of the weights (not of the code).
    path : Path
        Where the file lies, whether it exists or not.
    summary : str
        One line for lists and tooltips.
    """

    name: str
    modalities: tuple[str, ...]
    targets: tuple[str, ...]
    sha256: str
    licence: str
    path: Path
    summary: str = ""


def list_checkpoints() -> list[WeightEntry]:
    """List the weights that come with the package, in the order of ``index.json``.

    Returns
    -------
    list of WeightEntry
        Name, modalities, licence and path of each.
    """
    return list(_read_index(_INDEX))


def resolve_checkpoint(name_or_path: str | Path = DEFAULT_CHECKPOINT) -> Path:
    """Find a weight file by its name or its path.

    Parameters
    ----------
    name_or_path : str or Path
        A name that :func:`list_checkpoints` gives, or the path of a ``.safetensors`` file. A
        string that is a known name means that name, even if a file is called the same.

    Returns
    -------
    Path
        An existing file. Its content is not looked at.

    Raises
    ------
    CheckpointError
        If the name is unknown, or no usable file lies at the path.
    """
    entry = _find(name_or_path) if isinstance(name_or_path, str) else None
    if entry is None:
        return _check_path(name_or_path)
    if not entry.path.is_file():
        raise CheckpointError(
            f"The weights {entry.name!r} belong to this package, but {entry.path} is missing. "
            "Install napari-espmedsam again, or pass the path of a .safetensors file."
        )
    return entry.path


def check_hash(path: Path, sha256: str) -> None:
    """Refuse bundled weights that are not those that were released; other files pass.

    Parameters
    ----------
    path : Path
        The file that was read.
    sha256 : str
        Hash of its content, 64 hexadecimal digits.

    Raises
    ------
    CheckpointError
        If it is one of the package's own files with another content.
    """
    for entry in list_checkpoints():
        if entry.path == path and entry.sha256 and entry.sha256 != sha256:
            raise CheckpointError(
                f"The weights {entry.name!r} in {path} were changed or damaged: their sha256 is "
                f"{sha256}, that of the release {entry.sha256}. Install napari-espmedsam again."
            )


def describe_licence(licence: str) -> str:
    """Name a licence of weights for a list or a form, with what it means for the user.

    Parameters
    ----------
    licence : str
        SPDX identifier.

    Returns
    -------
    str
        The identifier; the non-commercial ones of Creative Commons with "(research only)".
    """
    return f"{licence} (research only)" if "NC" in licence.upper().split("-") else licence


def _find(name: str) -> WeightEntry | None:
    return next((entry for entry in list_checkpoints() if entry.name == name), None)


def _check_path(name_or_path: str | Path) -> Path:
    if not str(name_or_path).strip():
        raise CheckpointError(f"The name of the weights is empty. {_known()}")
    try:
        path = Path(name_or_path).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # no such user's home, too long, a closed folder
        raise CheckpointError(
            f"The weights {str(name_or_path)!r:.200} cannot be looked for ({error!s:.200}). Check "
            f"the path. {_known()}"
        ) from error
    if path.suffix.lower() in _FOREIGN:
        raise CheckpointError(
            f"{path} is a {path.suffix} file, and weights are read from {_SUFFIX} files only. "
            f"Convert it first: napari-espmedsam import {path} --modality NAME -o "
            f"{path.with_suffix(_SUFFIX).name}"
        )
    if is_folder:
        raise CheckpointError(f"{path} is a folder. Pass the {_SUFFIX} file inside it.")
    if is_file:
        return path
    if _looks_like_path(name_or_path):
        raise CheckpointError(f"There is no weight file {path}. Check the path. {_known()}")
    raise CheckpointError(
        f"No weights are called {str(name_or_path)!r}.{_suggestion(str(name_or_path))} {_known()}"
    )


def _looks_like_path(name_or_path: str | Path) -> bool:
    text = str(name_or_path)
    return isinstance(name_or_path, Path) or text.endswith(_SUFFIX) or "/" in text or "\\" in text


def _known() -> str:
    names = ", ".join(entry.name for entry in list_checkpoints())
    return f"Known names: {names}; or pass the path of a {_SUFFIX} file."


def _suggestion(name: str) -> str:
    names = [entry.name for entry in list_checkpoints()]
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@cache
def _read_index(path: Path) -> tuple[WeightEntry, ...]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return tuple(
        WeightEntry(
            name=row["name"],
            modalities=tuple(row["modalities"]),
            targets=tuple(row["modalities"].values()),
            sha256=row["sha256"] or "",
            licence=row["licence"],
            path=path.parent / row["file"],
            summary=row["summary"],
        )
        for row in rows
    )

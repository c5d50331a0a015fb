"""Find the images of a job: files, folders and patterns, in the order that people count in."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.content import is_dicom_file, is_series, is_zarr
from napari_espmedsam.io.formats import FORMATS
from napari_espmedsam.io.images import IMAGE_SUFFIXES

# What earlier runs wrote beside or among the images.
_RESULTS = (*(each.file_name("").casefold() for each in FORMATS.values()), "_overlay.png")


@dataclass(frozen=True)
class Found:
    """One image of a job, or what stands in its place.

    Attributes
    ----------
    path : Path
        Where it lies, as it was given.
    relative : str
        The same below the folder that all inputs share, with ``/``: its place among the results.
    problem : str
        Why it cannot be used, "" where nothing is known against it.
    """

    path: Path
    relative: str
    problem: str = ""


@dataclass(frozen=True)
class _Search:
    recursive: bool
    pattern: str | None
    dicom_series: bool
    leave_out: Path | None


def find_images(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    pattern: str | None = None,
    dicom_series: bool = False,
    leave_out: Path | None = None,
) -> list[Found]:
    """Turn files, folders and patterns into images, in natural order and each once.

    Parameters
    ----------
    inputs : sequence of str or path-like
        A folder stands for the images in it, without hidden files and results of earlier runs. A
        name that does not exist and holds ``*``, ``?`` or ``[`` is a pattern; ``**`` crosses
        folders.
    recursive : bool
        Whether folders stand for those inside them too. Links are followed; one that leads back
        to a folder it lies in is a problem, once.
    pattern : str, optional
        Which files of a folder to take: their names, or with a ``/`` their paths below it; letter
        case does not count. Without it those named like an image.
    dicom_series : bool
        Whether a folder with DICOM files is one image, the stack of their slices, whatever the
        pattern; other images in it are images of their own.
    leave_out : Path, optional
        A folder that is never entered: that of the results.

    Returns
    -------
    list of Found
        Images and problems. A file that was named and does not exist is kept, for its own error.

    Raises
    ------
    InputError
        If a folder holds no image or a pattern fits nothing.
    """
    search = _Search(
        recursive, pattern, dicom_series, leave_out.resolve() if leave_out is not None else None
    )
    found: dict[Path, str] = {}
    roots = []
    for each in inputs:
        root, hits = _expand(os.fspath(each), search)
        roots.append(root)
        for path, problem in hits:
            found.setdefault(path, problem)
    base = _common(roots)
    return [Found(path, _below(path, base), problem) for path, problem in found.items()]


def natural_key(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts ``img2`` before ``img10``."""
    parts = [*re.split(r"(\d+)", text.casefold()), text]
    return tuple((int(p), "") if p.isdecimal() else (-1, p) for p in parts)


def _expand(text: str, search: _Search) -> tuple[Path, list[tuple[Path, str]]]:
    """Return the folder that results are placed relative to, and what was found."""
    path = Path(text)
    if path.is_dir() and not _is_image(path):
        hits = _from_folder(path, search)
        itself = any(hit == path for hit, _ in hits)  # as a series; its results lie beside it
        return Path(os.path.abspath(path)).parent if itself else path, hits
    if not os.path.lexists(path) and glob.has_magic(text):
        return _fixed_part(text), [(each, "") for each in _matches(text, search)]
    return path.parent, [(path, "")]


def _from_folder(folder: Path, search: _Search) -> list[tuple[Path, str]]:
    hits = list(_walk(folder, folder, (), search))
    if not hits:
        wanted = search.pattern or ", ".join(IMAGE_SUFFIXES)
        raise InputError(
            f"the folder {folder} holds no image (0 files named {wanted}); name another folder or "
            "the files themselves."
        )
    return hits


def _walk(
    folder: Path, root: Path, above: tuple[str, ...], search: _Search
) -> Iterator[tuple[Path, str]]:
    place = os.path.realpath(folder)
    if place in above:
        yield folder, f"{folder} is a link back to {place}, a folder that it lies in; remove it."
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        reason = error.strerror or error
        yield folder, f"the folder {folder} cannot be read ({reason}); check its permissions."
        return
    series = search.dicom_series and is_series(folder)
    if series:
        yield folder, ""
    for path in entries:
        if series and is_dicom_file(path):
            continue
        if path.name.startswith(".") or path.name.casefold().endswith(_RESULTS):
            continue
        if path.is_dir() and not _is_image(path):
            if path.resolve() == search.leave_out:
                continue
            if search.recursive:
                yield from _walk(path, root, (*above, place), search)
            elif search.dicom_series and is_series(path):
                yield path, ""
        elif _is_wanted(path, root, search.pattern):
            yield path, ""


def _is_wanted(path: Path, root: Path, pattern: str | None) -> bool:
    if pattern is None:
        return _is_image(path)
    name = _below(path, root) if "/" in pattern else path.name
    return fnmatchcase(name.casefold(), pattern.casefold())


def _is_image(path: Path) -> bool:
    """Tell an image by its name, and OME-Zarr by what is in its folder."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_zarr(path)


def _fixed_part(pattern: str) -> Path:
    """Return the folder above the first part of a pattern that stands for several names."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _matches(pattern: str, search: _Search) -> list[Path]:
    names = sorted(glob.glob(pattern, recursive=True), key=natural_key)
    paths = [
        path
        for path in map(Path, names)
        if not path.is_dir() or _is_image(path) or (search.dicom_series and is_series(path))
    ]
    if not paths:
        raise InputError(f"no file fits the pattern {pattern!r}; check the folder and the suffix.")
    return paths


def _common(roots: Sequence[Path]) -> Path | None:
    """Return the folder that all inputs share; None on several drives of Windows."""
    try:
        return Path(os.path.commonpath([os.path.abspath(root) for root in roots]))
    except ValueError:
        return None


def _below(path: Path, base: Path | None) -> str:
    whole = Path(os.path.abspath(path))
    if base is not None:
        return whole.relative_to(os.path.abspath(base)).as_posix()
    drive = whole.drive.strip("\\:").replace("\\", "/")
    return str(PurePosixPath(drive, *whole.parts[1:]))

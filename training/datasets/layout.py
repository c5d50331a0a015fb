"""How a published set lies on disk, and the image-mask pairs that a folder holds of it.

A template is a path in which ``{number}`` stands for digits, any other ``{field}`` for a part of a
name, and ``*`` for anything but "/". It may match at any depth below the folder given, because
archives are unpacked into more or fewer folders.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from napari_espmedsam.errors import InputError

#: What a mask file is. mask: foreground (several files: their union). labels: one value per
#: object. objects: one file per object. polygons: XML with the outline of every object.
MaskKind = Literal["mask", "labels", "objects", "polygons"]


@dataclass(frozen=True)
class Part:
    """Images that lie alike, and where their masks are.

    Attributes
    ----------
    image : str
        Template of the images.
    masks : tuple of str
        Templates that all must have a file for a pair to be whole; their fields are some of the
        image's. Every file that matches belongs to the mask.
    split : str
        What the owners call these images: train, val or test. Empty: they say nothing.
    """

    image: str
    masks: tuple[str, ...]
    split: str = ""


@dataclass(frozen=True)
class Dataset:
    """A published set.

    Attributes
    ----------
    title, modality : str
        Its usual name, and the modality as checkpoints call it.
    pairs : int
        Number of pairs in the complete set.
    parts : tuple of Part
        Alternatives may stand side by side: a part without files is no error.
    kind : str
        What its mask files are.
    group : callable, optional
        From an image's path to its patient, slide or sequence; "" if the path does not tell.
    """

    title: str
    modality: str
    pairs: int
    parts: tuple[Part, ...]
    kind: MaskKind = "mask"
    group: Callable[[Path], str] = field(default=lambda path: "")


@dataclass(frozen=True)
class Pair:
    """An image and the files that make its mask."""

    image: Path
    masks: tuple[Path, ...]
    split: str


@dataclass(frozen=True)
class Match:
    """A file that fits a template: the folders before it, and the values of the fields."""

    path: str
    base: str
    fields: dict[str, str]


def find_pairs(dataset: Dataset, root: Path, without: Path) -> tuple[list[Pair], list[Path]]:
    """Pairs of a set below a folder, sorted by path, and the images that have no mask.

    Parameters
    ----------
    dataset : Dataset
        What to look for.
    root : Path
        Folder of the unpacked archive or archives.
    without : Path
        Folder that is not looked into: where results go.

    Raises
    ------
    InputError
        If ``root`` is no folder, holds no pair of this set, or holds the set twice.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; name the one where {dataset.title} is unpacked.")
    files = _files(root, without.resolve())
    pairs: dict[str, Pair] = {}
    lonely: set[str] = set()
    for part in dataset.parts:
        indices = [_index(template, files) for template in part.masks]
        images = _match(part.image, files)
        _refuse_copies(dataset, root, images)
        for image in images:
            found = [_masks_of(image, *index) for index in indices]
            if all(found):
                masks = tuple(root / path for paths in found for path in paths)
                pairs.setdefault(image.path, Pair(root / image.path, masks, part.split))
            else:
                lonely.add(image.path)
    lonely -= pairs.keys()
    if not pairs:
        raise InputError(_absent(dataset, root, len(lonely)))
    return [pairs[path] for path in sorted(pairs)], [root / path for path in sorted(lonely)]


def _absent(dataset: Dataset, root: Path, n_lonely: int) -> str:
    expected = "\n".join(
        f"  {part.image}  with  {' and '.join(part.masks)}" for part in dataset.parts
    )
    lonely = f" ({n_lonely} images without a mask)" if n_lonely else ""
    return (
        f"{root} holds no image of {dataset.title} with its mask{lonely}. Looked there and in "
        f"all folders below it for\n{expected}\nwhich is how the owners' archives unpack. Unpack "
        "all of them into one folder, keep their names, and name that folder."
    )


def _files(root: Path, without: Path) -> list[str]:
    """Paths of all files relative to ``root``, without those that Macs add to archives."""
    files = []
    for folder, below, names in os.walk(root):
        below[:] = [n for n in below if n != "__MACOSX" and Path(folder, n).resolve() != without]
        relative = Path(folder).relative_to(root)
        files += [(relative / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(files)


def _match(template: str, files: Iterable[str]) -> list[Match]:
    pattern = re.compile(r"(?P<_base>(?:.*/)?)" + _regex(template))
    matches = []
    for path in files:
        match = pattern.fullmatch(path)
        if match:
            fields = match.groupdict()
            matches.append(Match(path, fields.pop("_base"), fields))
    return matches


def _regex(template: str) -> str:
    known: set[str] = set()
    regex = ""
    for token in re.split(r"(\{\w+\}|\*)", template):
        name = token[1:-1]
        if token == "*":
            regex += "[^/]*"
        elif not token.startswith("{"):
            regex += re.escape(token)
        elif name in known:
            regex += f"(?P={name})"
        else:
            known.add(name)
            regex += rf"(?P<{name}>\d+)" if name == "number" else f"(?P<{name}>[^/]+?)"
    return regex


Index = dict[tuple[str, ...], list[Match]]


def _index(template: str, files: Sequence[str]) -> tuple[tuple[str, ...], Index]:
    """Names of a template's fields, and its files by the fields' values."""
    names = tuple(dict.fromkeys(re.findall(r"\{(\w+)\}", template)))
    index: defaultdict[tuple[str, ...], list[Match]] = defaultdict(list)
    for match in _match(template, files):
        index[tuple(match.fields[name] for name in names)].append(match)
    return names, index


def _masks_of(image: Match, names: tuple[str, ...], index: Index) -> list[str]:
    """Masks with the image's fields: beside the image, else in the first folder that has some."""
    matches = index.get(tuple(image.fields[name] for name in names), [])
    bases = {match.base for match in matches}
    if not bases:
        return []
    base = image.base if image.base in bases else min(bases)
    return [match.path for match in matches if match.base == base]


def _refuse_copies(dataset: Dataset, root: Path, images: list[Match]) -> None:
    bases = sorted({image.base for image in images})
    if len(bases) > 1:
        folders = ", ".join(str(root / base) for base in bases[:5])
        raise InputError(
            f"{root} holds images of {dataset.title} in {len(bases)} places: {folders}. Name the "
            "one to take, so that no image comes twice."
        )

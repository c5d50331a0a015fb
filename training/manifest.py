"""Own data as a table: one CSV row per labelled image, and splits that keep groups together."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from napari_espmedsam.errors import InputError, OutputError
from training.data import SPLITS, Sample
from training.run import whole_file

COLUMNS = ("image", "mask", "modality", "split", "group")
_OPTIONAL = {"group"}
_SHOWN = 10


def read_manifest(path: Path) -> list[Sample]:
    """Samples of a CSV file with the columns image, mask, modality, split and group.

    Parameters
    ----------
    path : Path
        UTF-8, comma-separated, with a header. ``image`` and ``mask`` are relative to the file's
        folder or absolute; an empty ``group`` means that nothing is known, and becomes the
        sample's name. Whether the images exist and can be read is for
        :func:`training.check.check_samples` to say.

    Returns
    -------
    list of Sample
        In the order of the rows. A name is the image's file name without suffix, with as many of
        its folders before it as make the names of this file unique.

    Raises
    ------
    InputError
        If the file is missing, empty or not UTF-8, if its columns are not those above, or if rows
        are wrong: all of them are counted, the first ten are shown with line, value and fix.
    """
    header, rows = _parse(path)
    _check_header(path, header)
    wrong: list[str] = []
    values: list[dict[str, str]] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        named = dict(zip(header, row, strict=False))  # _fault complains of rows too short or long
        fault = _fault(header, row) or _repeated(path.parent, named["image"], line, seen)
        if fault:
            wrong.append(f"line {line}: {fault}")
        else:
            values.append(named)
    if wrong:
        more = f"\n  ... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"{path} has {len(wrong)} wrong line(s):\n  " + "\n  ".join(wrong[:_SHOWN]) + more
        )
    if not values:
        raise InputError(f"{path} has a header but no rows. Add one line per image.")
    names = unique_names([PurePath(row["image"]) for row in values])
    return [
        Sample(
            name=name,
            image=path.parent / row["image"],
            mask=path.parent / row["mask"],
            modality=row["modality"],
            split=row["split"],
            group=row.get("group") or name,
        )
        for name, row in zip(names, values, strict=True)
    ]


def write_manifest(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as a manifest, whole or not at all, with paths relative to its folder.

    Where nothing is known of a sample's group (it is the sample's own name) the column is left
    empty.

    Parameters
    ----------
    path : Path
        CSV file; its folder is made if it is not there.
    samples : sequence of Sample
        One line each.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    shared = Counter(sample.group for sample in samples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            whole_file(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for sample in samples:
                alone = sample.group == sample.name and shared[sample.group] == 1
                files = (_relative(each, path.parent) for each in (sample.image, sample.mask))
                group = "" if alone else sample.group
                writer.writerow([*files, sample.modality, sample.split, group])
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); choose a folder that you may write "
            "to and that has space left."
        ) from error


def assign_splits(
    samples: Sequence[Sample],
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> list[Sample]:
    """Give every sample a split such that no group lies in two.

    Groups are taken in an order that only their names and the seed decide, and each goes where
    most images are still wanted. So the result does not depend on the order of the samples, and
    no wanted split stays empty while there are groups enough.

    Parameters
    ----------
    samples : sequence of Sample
        Their present splits are ignored.
    fractions : tuple of float
        Wanted share of images in train, val and test; they add up to 1.
    seed : int
        Another seed gives another division.

    Returns
    -------
    list of Sample
        In the order given.

    Raises
    ------
    InputError
        If a fraction is negative or their sum is not 1.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            f"split fractions {fractions} add up to {sum(fractions):g}; give three shares from 0 "
            "to 1 that add up to 1, for example (0.7, 0.1, 0.2)."
        )
    sizes = Counter(sample.group for sample in samples)
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    missing = {s: f * len(samples) for s, f in zip(SPLITS, fractions, strict=True) if f > 0}
    used: set[str] = set()
    split_of: dict[str, str] = {}
    for i, group in enumerate(order):
        empty = [split for split in missing if split not in used]
        candidates = empty if len(order) - i <= len(empty) else missing
        split = max(candidates, key=lambda name: missing[name])
        split_of[group] = split
        missing[split] -= sizes[group]
        used.add(split)
    return [replace(sample, split=split_of[sample.group]) for sample in samples]


def unique_names(images: Sequence[PurePath]) -> list[str]:
    """File names without suffix, preceded by as many folders as make all of them differ."""
    deepest = max((len(path.parts) for path in images), default=0)
    for depth in range(1, deepest + 1):
        names = ["_".join(path.with_suffix("").parts[-depth:]) for path in images]
        if len(set(names)) == len(names):
            return names
    return ["_".join(path.parts) for path in images]  # a.png beside a.jpg


def _parse(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and numbered rows, every value without the blanks around it; empty lines left out."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check the path of the manifest."
        ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8. Save the table "
            "again as CSV with the encoding UTF-8."
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}. Save the table again as CSV."
        ) from error
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        raise InputError(f"{path} is empty. Its first line must be: {','.join(COLUMNS)}")
    return rows[0][1], rows[1:]


def _check_header(path: Path, header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in COLUMNS if name not in header and name not in _OPTIONAL]
    twice = [name for name, n in Counter(header).items() if n > 1]
    faults = [
        f"{what} column(s): {', '.join(repr(name) for name in names)}"
        for what, names in (("unknown", unknown), ("missing", missing), ("repeated", twice))
        if names
    ]
    if not faults:
        return
    separated = ";" in "".join(header) or "\t" in "".join(header)
    hint = " Separate the values with commas." if separated else ""
    raise InputError(
        f"{path}, line 1: {'; '.join(faults)}. The columns are {','.join(COLUMNS)}.{hint}"
    )


def _fault(header: list[str], row: list[str]) -> str | None:
    """What is wrong with one row, or None."""
    if len(row) != len(header):
        return f"{len(row)} values under {len(header)} columns; quote values that contain a comma"
    values = dict(zip(header, row, strict=True))
    for column in COLUMNS:
        if column not in _OPTIONAL and not values[column]:
            return f"{column} is empty; fill it in"
    if values["split"] not in SPLITS:
        return f"unknown split {values['split']!r}; use {', '.join(SPLITS)}"
    return None


def _repeated(folder: Path, image: str, line: int, seen: dict[str, int]) -> str | None:
    """Complain if an earlier line has the same image, else remember this one."""
    first = seen.setdefault(os.path.normpath(folder / image), line)
    if first != line:
        return f"image {image!r} is in line {first} already; keep one of the two"
    return None


def _relative(file: Path, folder: Path) -> str:
    # Folders are resolved, since ".." after a symbolic link leads elsewhere than it reads; the file
    # itself is not, since the target of a link may have another name.
    real = file.parent.resolve() / file.name
    try:
        return Path(os.path.relpath(real, folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return real.as_posix()

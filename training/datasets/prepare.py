"""From the unpacked archives of a published set to a manifest: the command ``prepare``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from napari_espmedsam.errors import InputError
from training.check import Finding, inspect_samples, refuse_damaged
from training.data import SPLITS, Sample
from training.datasets.layout import Dataset, Pair, find_pairs
from training.datasets.masks import make_mask, read_pixels, readable, write_png
from training.datasets.splits import make_splits
from training.datasets.table import DATASETS
from training.manifest import unique_names, write_manifest

MANIFEST = "manifest.csv"


def prepare(
    dataset: str,
    root: Path,
    out: Path,
    *,
    skip_damaged: bool = False,
    report: Callable[[str], None],
) -> Path:
    """Write the manifest of a published set, and those masks that have to be made.

    Images stay where they are. A mask is written (``out/masks/NAME.png``) where it comes in
    several files, as polygons, with soft borders, or in a container that training cannot read;
    such images are converted (``out/images/NAME.png``).

    Parameters
    ----------
    dataset : str
        One of :data:`training.datasets.table.DATASETS`.
    root : Path
        Folder of the unpacked archives.
    out : Path
        Folder for ``manifest.csv`` and the files made. What is there is replaced.
    skip_damaged : bool
        Leave out pairs that cannot be read instead of refusing.
    report : callable
        Receives lines of text.

    Returns
    -------
    Path
        The manifest. Its samples pass :func:`training.check.check_samples`.

    Raises
    ------
    InputError
        If the set is unknown, is not found below ``root``, or has damaged pairs.
    OutputError
        If ``out`` cannot be written.
    """
    known = _dataset(dataset)
    pairs, lonely = find_pairs(known, root, without=out)
    if lonely:
        shown = ", ".join(path.name for path in lonely[:10]) + (", ..." if lonely[10:] else "")
        report(f"left out, no mask: {len(lonely)} image(s): {shown}")
    report(f"{known.title}: {len(pairs)} pairs (the complete set has {known.pairs})")
    names = unique_names([_bare(pair.image) for pair in pairs])
    make = partial(_make, dataset, out)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        made = list(pool.map(make, pairs, names))
    whole = iter(inspect_samples([finding.sample for finding in made if not finding.reason]))
    findings = [finding if finding.reason else next(whole) for finding in made]
    usable = refuse_damaged(findings, skip_damaged=skip_damaged, report=report)
    samples = make_splits(usable, report)
    write_manifest(out / MANIFEST, samples)
    report(f"wrote {out / MANIFEST}: {_summary(samples)}")
    return out / MANIFEST


def _dataset(name: str) -> Dataset:
    if name in DATASETS:
        return DATASETS[name]
    near = get_close_matches(name, DATASETS, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(
        f"unknown data set {name!r}. {hint}Known are {', '.join(DATASETS)}; write a manifest for "
        "any other."
    )


def _bare(path: Path) -> Path:
    """Without ".gz", so that one more suffix remains to be taken off."""
    return path.with_suffix("") if path.suffix == ".gz" else path


def _make(dataset: str, out: Path, pair: Pair, name: str) -> Finding:
    """Sample of a pair, after writing what has to be written."""
    known = DATASETS[dataset]
    group = known.group(pair.image)
    image, mask = pair.image, pair.masks[0]
    reason = ""
    try:
        pixels = make_mask(known.kind, pair.masks, pair.image)
        if pixels is not None:
            mask = out / "masks" / f"{name}.png"
            write_png(mask, pixels)
        if not readable(pair.image):
            image = out / "images" / f"{name}.png"
            write_png(image, read_pixels(pair.image))
    except InputError as error:
        reason = str(error)
    # The set's name goes before, since another set may well have a "sequence 01" too.
    group = f"{dataset}-{group}" if group else name
    sample = Sample(name, image, mask, known.modality, pair.split, group)
    return Finding(sample, reason)


def _summary(samples: Sequence[Sample]) -> str:
    count = Counter(sample.split for sample in samples)
    groups = len({sample.group for sample in samples})
    sizes = ", ".join(f"{count[split]} {split}" for split in SPLITS)
    return f"{sizes}, in {groups} groups"

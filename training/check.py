"""What has to be known of the images before training: damaged pairs, and leaks between splits."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_espmedsam.errors import InputError
from training.data import Sample, read_pair

_SHOWN = 10
#: First bytes of a JPEG and a PNG, and what stands at the end of a whole one.
_ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND"}
_TAIL = 64


@dataclass(frozen=True)
class Problem:
    """A pair that cannot be used, and why."""

    sample: Sample
    reason: str

    def __str__(self) -> str:
        return f"{self.sample.name}: {self.reason}"


@dataclass(frozen=True)
class Leak:
    """Samples of different splits that belong together.

    Attributes
    ----------
    reason : str
        For example "group 'patient 7'" or "identical pixels".
    samples : tuple of Sample
        All samples concerned, at least two.
    """

    reason: str
    samples: tuple[Sample, ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{s.name} ({s.split})" for s in self.samples[:_SHOWN])
        more = ", ..." if len(self.samples) > _SHOWN else ""
        return f"{self.reason}: {shown}{more}"


@dataclass(frozen=True)
class Finding:
    """What reading one pair showed: a reason against it, or the digest of its image."""

    sample: Sample
    reason: str = ""
    digest: str = ""


def find_problems(samples: Sequence[Sample]) -> list[Problem]:
    """Pairs that are missing, cannot be read to their end, or differ in size.

    A mask without foreground is none of these: a set may hold images without any object.
    """
    return _problems(inspect_samples(samples))


def find_leaks(samples: Sequence[Sample]) -> list[Leak]:
    """Groups, and images with the same pixels, that lie in several splits.

    Images are compared by their decoded pixels, so that a PNG and a TIFF of one image are found,
    and a grey image with its copy in RGB. Images that cannot be read are left out: see
    :func:`find_problems`.
    """
    return leaks_of(inspect_samples(samples))


def check_samples(
    samples: Sequence[Sample],
    *,
    skip_damaged: bool = False,
    report: Callable[[str], None],
) -> list[Sample]:
    """Read every pair once and refuse what training must not see.

    Parameters
    ----------
    samples : sequence of Sample
        Of all splits and sources that belong to one training. A group name means the same patient
        or slide wherever it occurs.
    skip_damaged : bool
        Leave damaged pairs out instead of refusing.
    report : callable
        Receives one line per damaged pair.

    Returns
    -------
    list of Sample
        The usable samples, in the order given.

    Raises
    ------
    InputError
        If a group or an image crosses splits; if pairs are damaged and ``skip_damaged`` is False;
        if nothing is left.
    """
    findings = inspect_samples(samples)
    usable = refuse_damaged(findings, skip_damaged=skip_damaged, report=report)
    leaks = leaks_of(usable)
    if leaks:
        more = f"\n  ... and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
        raise InputError(
            f"{len(leaks)} leak(s) between splits would make every score too good:\n  "
            + "\n  ".join(str(leak) for leak in leaks[:_SHOWN])
            + more
            + "\nGive the samples of each line one split, or take out all but one."
        )
    return [finding.sample for finding in usable]


def refuse_damaged(
    findings: Sequence[Finding], *, skip_damaged: bool, report: Callable[[str], None]
) -> list[Finding]:
    """Report damaged pairs by name; raise unless they may be skipped; return the rest."""
    problems = _problems(findings)
    for problem in problems:
        report(f"damaged: {problem}")
    if problems and not skip_damaged:
        shown = "\n  ".join(str(problem) for problem in problems[:_SHOWN])
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(
            f"{len(problems)} of {len(findings)} pairs are damaged:\n  {shown}{more}\n"
            "Replace them, take them out of the list, or ask for damaged pairs to be skipped."
        )
    usable = [finding for finding in findings if not finding.reason]
    if problems:
        report(f"{len(problems)} damaged pair(s) skipped, {len(usable)} left")
    if not usable:
        raise InputError(f"none of the {len(findings)} pairs can be used; check the data.")
    return usable


def inspect_samples(samples: Sequence[Sample]) -> list[Finding]:
    """Read every pair once, on all cores. Decoders leave Python's lock, so threads do."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(_inspect_one, samples))


def leaks_of(findings: Sequence[Finding]) -> list[Leak]:
    """Leaks among pairs that have been read, see :func:`find_leaks`."""
    by_pixels: defaultdict[str, list[Sample]] = defaultdict(list)
    for finding in findings:
        if finding.digest:
            by_pixels[finding.digest].append(finding.sample)
    groups = groups_of(finding.sample for finding in findings)
    together = [(f"group {group!r}", members) for group, members in groups.items()]
    together += [("identical pixels", members) for members in by_pixels.values()]
    return [
        Leak(reason, tuple(members))
        for reason, members in together
        if len({member.split for member in members}) > 1
    ]


def groups_of(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples by group, for groups of which something is known.

    A group that is merely the name of each of its samples says nothing: two sources may well both
    have an image "1".
    """
    groups: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    return {g: members for g, members in groups.items() if any(s.name != g for s in members)}


def pixel_digest(image: NDArray[np.generic]) -> str:
    """Digest of an image's type, size and pixels; grey and the same grey in RGB are equal.

    Parameters
    ----------
    image : ndarray
        (H, W) or (H, W, 3), any type.
    """
    if image.ndim == 3 and bool((image == image[..., :1]).all()):
        image = image[..., 0]
    head = f"{image.dtype.str} {image.shape}".encode()
    content = np.ascontiguousarray(image).tobytes()
    return hashlib.blake2b(head + content, digest_size=16).hexdigest()


def _inspect_one(sample: Sample) -> Finding:
    for what, path in (("image", sample.image), ("mask", sample.mask)):
        reason = _damage(path)
        if reason:
            return Finding(sample, f"{what} {path} {reason}")
    try:
        image, _ = read_pair(sample)
    except (InputError, cv2.error) as error:
        return Finding(sample, str(error))
    return Finding(sample, digest=pixel_digest(image))


def _damage(path: Path) -> str:
    """Say why a file is no whole image as far as its two ends tell, or nothing.

    OpenCV, which reads for training, fills the missing part of a JPEG with grey and says nothing.
    Pillow refuses, so it decodes the files that do not end as their kind should (some whole ones
    do not either: a camera has added something).
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(max(path.stat().st_size - _TAIL, 0))
            end = file.read()
    except OSError as error:
        return f"cannot be opened ({error.strerror or error})"
    if not start:
        return "is empty (0 bytes)"
    if any(start.startswith(mark) and last not in end for mark, last in _ENDS.items()):
        try:
            with Image.open(path) as image:
                image.load()
        except Exception as error:  # Pillow's decoders raise many kinds
            return f"is cut short or damaged ({error})"
    return ""


def _problems(findings: Iterable[Finding]) -> list[Problem]:
    return [Problem(finding.sample, finding.reason) for finding in findings if finding.reason]

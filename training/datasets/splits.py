"""Splits of a published set: the owners' where they have some, and never a leak between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from training.check import Finding, leaks_of
from training.data import SPLITS, Sample
from training.manifest import assign_splits

#: Share of the owners' training images that becomes val where they name none: 1 : 7, as 10 : 70.
_VAL = 0.125


def make_splits(findings: Sequence[Finding], report: Callable[[str], None]) -> list[Sample]:
    """Complete the splits of samples such that :func:`training.check.find_leaks` finds nothing.

    Owners' splits stay, except that an image that also belongs to a later split (by its group or
    its pixels) is left out of the earlier one, and that val is taken from train where there is
    none. Samples without splits get 70 % train, 10 % val and 20 % test, by group, seed 0.

    Parameters
    ----------
    findings : sequence of Finding
        Usable pairs with their digests. Either all samples have a split, or none has.
    report : callable
        Receives one line per image left out.

    Returns
    -------
    list of Sample
        Sorted by name.
    """
    kept = _without_leaks(findings, report)
    samples = {
        split: _unite_identical([f for f in kept if f.sample.split == split])
        for split in ("", *SPLITS)
    }
    free, train, val, test = samples[""], samples["train"], samples["val"], samples["test"]
    done = assign_splits(free)
    if train and not val:
        train = assign_splits(train, (1 - _VAL, _VAL, 0.0))
    return sorted([*done, *train, *val, *test], key=lambda sample: sample.name)


def _without_leaks(findings: Sequence[Finding], report: Callable[[str], None]) -> list[Finding]:
    """Leave out of train what is in val or test too, and of val what is in test."""
    official = [finding for finding in findings if finding.sample.split]
    dropped: set[str] = set()
    for leak in leaks_of(official):
        last = max((sample.split for sample in leak.samples), key=SPLITS.index)
        for sample in leak.samples:
            if sample.split != last and sample.name not in dropped:
                dropped.add(sample.name)
                report(f"left out of {sample.split}: {sample.name}, in {last} too ({leak.reason})")
    return [finding for finding in findings if finding.sample.name not in dropped]


def _unite_identical(findings: Sequence[Finding]) -> list[Sample]:
    """Samples with one group for all images that have the same pixels."""
    groups_of_image: defaultdict[str, list[str]] = defaultdict(list)
    for finding in findings:
        groups_of_image[finding.digest].append(finding.sample.group)
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while leader.get(group, group) != group:
            group = leader[group]
        return group

    for groups in groups_of_image.values():
        for group in groups[1:]:
            first, second = sorted((find(groups[0]), find(group)))
            leader[second] = first
    return [replace(f.sample, group=find(f.sample.group)) for f in findings]

"""What a process holds: memory, threads, open files; and whether that has grown."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

import psutil

GROWTH = 0.05
M_MMAP_THRESHOLD, LARGE = -3, 128 * 1024  # of mallopt(3); bytes, as glibc begins with
MEBIBYTE = 2**20
LAST = 8  # readings whose median is a level: one alone depends on what was done last


def give_back_at_once() -> None:
    """Have the C library return each large block to the system when it is freed.

    With every large block that is freed glibc maps fewer of them apart (up to 32 MiB) and lets each
    thread's arena keep twice as much at its end, where ``malloc_trim`` does not reach: memory that
    nobody holds, of an amount that depends on which threads met.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, LARGE)


@dataclass(frozen=True)
class Reading:
    """What the process holds at one moment, with nothing going on.

    Attributes
    ----------
    seconds : float
        Since the start.
    memory : int
        Bytes of memory of its own, after all garbage was collected and given back.
    names : tuple of str
        Threads that Python knows.
    threads : int
        Threads that the system knows.
    handles : int
        Open files, sockets, pipes.
    files : frozenset of str
        Paths of the open files.
    """

    seconds: float
    memory: int
    names: tuple[str, ...]
    threads: int
    handles: int
    files: frozenset[str]

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.0f} s {self.memory / MEBIBYTE:7.1f} MiB {self.threads:3} threads "
            f"{self.handles:3} handles {', '.join(self.names)}"
        )


@dataclass
class Meter:
    """Takes readings and compares those after the warm-up with the later ones."""

    readings: list[Reading] = field(default_factory=list)
    warm: int = 0  # readings of the warm-up
    process: psutil.Process = field(default_factory=psutil.Process)

    def read(self, seconds: float) -> Reading:
        """Collect the garbage, give free memory back, and note what is left."""
        for _ in range(3):  # what finalizers let go of
            gc.collect()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        with self.process.oneshot():
            reading = Reading(
                seconds=seconds,
                memory=_own_memory(self.process),
                names=tuple(sorted(each.name for each in threading.enumerate())),
                threads=self.process.num_threads(),
                handles=_count_handles(self.process),
                files=frozenset(each.path for each in self.process.open_files()),
            )
        self.readings.append(reading)
        return reading

    def end_warm_up(self) -> None:
        """Take what was held at most until now as what may be held."""
        self.warm = len(self.readings)

    @property
    def growth(self) -> float:
        """Growth of the memory since the warm-up: median of the last readings over the first."""
        later = [each.memory for each in self.readings[self.warm :]]
        n = min(LAST, max(1, len(later) // 2))
        return median(later[-n:]) / median(later[:n]) - 1

    def faults(self) -> list[str]:
        """Say what has grown since the warm-up: memory, threads, handles."""
        before, later = self.readings[: self.warm], self.readings[self.warm :]
        if not before or len(later) < 2:
            return ["too short: it takes a reading in the warm-up and two after it"]
        found = []
        if self.growth > GROWTH:
            found.append(f"memory has grown by {self.growth:.1%}; the limit is {GROWTH:.0%}")
        # What lies in each of the last readings has stayed.
        last = later[-3:]
        for name in ("threads", "handles"):
            allowed = max(getattr(each, name) for each in before)
            left = min(getattr(each, name) for each in last)
            if left > allowed:
                found.append(f"{left} {name}; after the warm-up there were {allowed}")
        known = [_kinds(each) for each in before]
        stayed = _kinds(last[0])
        for each in last:
            stayed &= _kinds(each)
        for name, count in stayed.items():
            allowed = max(each[name] for each in known)
            if count > allowed:
                found.append(f"{count} threads '{name}'; after the warm-up there were {allowed}")
        files = frozenset.intersection(*(each.files for each in last))
        left_open = files - frozenset.union(*(each.files for each in before))
        if left_open:
            found.append(f"files still open: {', '.join(sorted(left_open))}")
        return found


def _kinds(reading: Reading) -> Counter[str]:
    """Count the threads of each kind: pools number theirs, and the pools as well."""
    return Counter(re.sub(r"\d+", "N", name) for name in reading.names)


def _own_memory(process: psutil.Process) -> int:
    """Leave out pages of libraries: the system drops and reads them as other programs need room."""
    info = process.memory_info()
    if hasattr(info, "shared"):  # Linux
        return int(info.rss - info.shared)
    return int(process.memory_full_info().uss)


def _count_handles(process: psutil.Process) -> int:
    count = getattr(process, "num_fds", None) or process.num_handles
    return int(count())

"""What benchmarks write: the machine in words, and their part of ``docs/benchmarks.md``."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def machine(threads: int, packages: Sequence[str]) -> str:
    """Name processor, cores, load of the last minute, and versions: a figure means nothing else."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    libraries = [f"{name} {found}" for name in packages if (found := _version(name))]
    return (
        f"{processor()}, {cores} of {os.cpu_count()} cores, {threads} thread"
        f"{'' if threads == 1 else 's'}{load}; {platform.system()}, Python "
        f"{platform.python_version()}, {', '.join(libraries)}."
    )


def processor() -> str:
    """Name of the processor, as well as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_part(name: str, text: str, page: Path = PAGE) -> None:
    """Put a text between the markers of a part.

    Raises
    ------
    ValueError
        If the page lacks them.
    """
    start, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(start) != 1 or whole.count(end) != 1:
        raise ValueError(f"{page} has no part {start} ... {end}")
    before, rest = whole.split(start)
    after = rest.split(end)[1]
    page.write_text(f"{before}{start}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def read_part(name: str, page: Path = PAGE) -> str:
    """What stands between the markers of a part."""
    whole = page.read_text(encoding="utf-8")
    return whole.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0].strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

"""Check that an sdist and a wheel hold what a release promises, and nothing else.

    python scripts/check_dist.py dist [--tag v0.1.0]

The wheel needs the manifest, the mark of typed packages, and the bundled weights with their cards,
unharmed. It holds nothing that is for a checkout. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

PACKAGE = "napari_espmedsam"
LIMIT = 100_000_000  # bytes: what PyPI takes for a file without being asked
IN_SDIST = (
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "docs/index.md",
    "pyproject.toml",
    "setup.cfg",
    "tests/run.sh",
    "tox.ini",
    "training/__main__.py",
)


def main() -> int:
    """Print every problem, or the sizes; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", help="what the version has to be, after a v")
    options = parser.parse_args()
    wheels, sdists = (sorted(options.folder.glob(p)) for p in ("*.whl", "*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        print(f"{options.folder} should hold one wheel and one sdist", file=sys.stderr)
        return 1
    problems = [*check_wheel(wheels[0], options.tag), *check_sdist(sdists[0])]
    for path in (*wheels, *sdists):
        size = path.stat().st_size
        print(f"{path.name}: {size / 1e6:.1f} MB")
        if size > LIMIT:
            problems.append(f"{path.name} has more than the {LIMIT / 1e6:.0f} MB that PyPI takes")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


def check_wheel(path: Path, tag: str | None) -> list[str]:
    """Return what is wrong with a wheel."""
    problems = []
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        folders = {name.split("/")[0] for name in names}
        info = next(folder for folder in folders if folder.endswith(".dist-info"))
        problems += [f"the wheel holds {folder}/" for folder in folders - {PACKAGE, info}]
        needed = ["napari.yaml", "py.typed", "weights/index.json"]
        for entry in json.loads(archive.read(f"{PACKAGE}/weights/index.json")):
            weights = f"{PACKAGE}/weights/{entry['file']}"
            needed += [f"weights/{entry['file']}", f"weights/{entry['name']}.md"]
            if weights in names and _sha256(archive, weights) != entry["sha256"]:
                problems.append(f"{weights} is not the file that index.json names")
        problems += [f"the wheel lacks {n}" for n in needed if f"{PACKAGE}/{n}" not in names]
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
    if tag is not None and tag != f"v{metadata['Version']}":
        problems.append(f"the tag is {tag}, and the version is {metadata['Version']}")
    return problems


def check_sdist(path: Path) -> list[str]:
    """Return what an sdist lacks for building, testing and training from it."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return [f"the sdist lacks {name}" for name in IN_SDIST if name not in names]


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())

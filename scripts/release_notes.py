"""Print what CHANGELOG.md says of one version: ``python scripts/release_notes.py 0.1.0``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def notes(text: str, version: str) -> str:
    """Return the section of a version, without its heading.

    Raises
    ------
    SystemExit
        If there is no such section, or it has no date yet.
    """
    heading = rf"^## \[{re.escape(version)}\] - (\S+)$"
    found = re.search(rf"{heading}\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found[1]):
        raise SystemExit(f"CHANGELOG.md dates {version} '{found[1]}': write YYYY-MM-DD")
    return found[2].strip() + "\n"


if __name__ == "__main__":
    print(notes(CHANGELOG.read_text(encoding="utf-8"), *sys.argv[1:]), end="")

"""What the documents promise is there: files they link to, options and commands they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from napari_espmedsam.cli import app

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "src" / "napari_espmedsam" / "weights"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *WEIGHTS.glob("*.md")],
    key=str,
)
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


@each_document
def test_relative_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (document.parent / link).exists()]
    assert not missing


@each_document
def test_no_figure_is_left_open(document: Path) -> None:
    assert re.findall(r"\{\{.*?\}\}", document.read_text(encoding="utf-8")) == []


def test_commands_in_the_guide_exist() -> None:
    guide = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"^## ([a-z]+)$", guide, flags=re.MULTILINE)) == set(commands)


@pytest.mark.parametrize("name", ["segment", "batch"])
def test_options_in_the_guide_exist(name: str) -> None:
    guide = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    named = set(re.findall(r"`(--[a-z-]+)`", guide.split(f"## {name}\n")[1].split("\n## ")[0]))
    assert named
    assert named <= {flag for each in command.params for flag in each.opts + each.secondary_opts}

"""What the documents promise is there: files they link to, options and commands they name."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.main import get_command

from napari_espmedsam.cli import app

ROOT = Path(__file__).resolve().parents[1]
OWNER = "napari-espmedsam"
REPOSITORY = f"https://github.com/{OWNER}/napari-espmedsam"
ELSEWHERE = (f"{REPOSITORY}/issues", "https://pypi.org/project/napari-espmedsam/")
WEIGHTS = ROOT / "src" / "napari_espmedsam" / "weights"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *WEIGHTS.glob("*.md")],
    key=str,
)
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


PAGES_OF_OURS = f"{REPOSITORY}/blob/main/"
PICTURES_OF_OURS = f"https://raw.githubusercontent.com/{OWNER}/napari-espmedsam/main/"


def links_of(document: Path) -> list[tuple[bool, str]]:
    """Return the links of a document without their fragments, and which of them are pictures."""
    text = document.read_text(encoding="utf-8")
    return [(bool(bang), link) for bang, link in re.findall(r"(!?)\[[^]]*\]\(([^)#\s]+)", text)]


@each_document
def test_links_to_files_of_ours_lead_somewhere(document: Path) -> None:
    missing = []
    for is_picture, link in links_of(document):
        start = PICTURES_OF_OURS if is_picture else PAGES_OF_OURS
        if link.startswith(start):
            target = ROOT / link.removeprefix(start)
        elif "://" in link:
            # Another way to write the address of our repository would go by unchecked.
            assert f"{OWNER}/" not in link or link.startswith(ELSEWHERE), link
            continue
        else:
            target = document.parent / link
        missing += [] if target.exists() else [link]
    assert not missing


def test_links_of_the_readme_work_away_from_the_repository() -> None:
    """PyPI and the napari hub show it, too."""
    links = links_of(ROOT / "README.md")
    assert sum(is_picture for is_picture, _ in links) >= 2
    assert [link for _, link in links if "://" not in link] == []


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


def test_what_the_architecture_names_is_in_the_code() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    code = [*ROOT.glob("src/napari_espmedsam/**/*.py"), *ROOT.glob("training/**/*.py")]
    scripts = [*code, *ROOT.glob("docs/*.py"), *ROOT.glob("benchmarks/*.py")]
    missing = set(re.findall(r"\b(\w+\.py)\b", page)) - {path.name for path in scripts}
    assert sorted(missing) == []
    defined = set(
        re.findall(
            r"^ *(?:def|class) (\w+)|^ *(?:self\.)?(\w+)(?:: [^=\n]+)? = |^    (\w+): ",
            "\n".join(path.read_text(encoding="utf-8") for path in code),
            re.MULTILINE,
        )
    )
    known = {name for names in defined for name in names if name}
    quoted = re.findall(r"`([A-Za-z_]+(?:\.[A-Za-z_]+)*)`", page)
    names = [each for each in quoted if re.search(r"[._A-Z]", each)]
    files = (".cfg", ".py", ".pt", ".yaml")
    parts = {part for name in names if not name.endswith(files) for part in name.split(".")}
    assert len(parts) > 30
    modules = {path.stem for path in code} | {path.parent.name for path in code}
    assert sorted(parts - known - modules) == []


def test_the_architecture_tells_of_every_part() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = re.findall(r"\w+", setup["importlinter:contract:layers"]["layers"])
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = re.findall(r"`(\w+)(?:/|\.py)`", "\n".join(re.findall(r"^\| (`.*?) \|", table, re.M)))
    assert set(told) == {*layers, "training"}

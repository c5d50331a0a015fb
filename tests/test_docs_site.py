"""The docs site builds without a warning, and its references hold what the program offers."""

from __future__ import annotations

import html
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import napari_espmedsam
from napari_espmedsam.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    # Examples are run although they are those of the last build: the program may be another.
    options = ["-d", str(tmp_path / "trees"), "-D", "sphinx_gallery_conf.run_stale_examples=1"]
    done = subprocess.run(
        [*build, *options, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
    assert "Segmenter.iter_segment" in text
    for example in EXAMPLES:
        text = (tmp_path / "html" / "_examples" / f"{example.stem}.html").read_text("utf-8")
        assert f"sphx_glr_{example.stem}_001.png" in text, "an example shows no figure"


def test_every_example_is_led_to_from_the_first_page() -> None:
    linked = re.findall(r"\(examples/(\w+)\.py\)", (DOCS / "index.md").read_text("utf-8"))
    assert sorted(linked) == [example.stem for example in EXAMPLES]
    assert len(EXAMPLES) >= 5


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE))
    assert listed == set(napari_espmedsam.__all__) - {"__version__"}


@pytest.mark.parametrize("name", list(get_command(app).commands))  # type: ignore[attr-defined]
def test_the_list_of_options_is_that_of_the_program(name: str) -> None:
    text = html.unescape((DOCS / "cli-reference.md").read_text(encoding="utf-8"))
    section = text.split(f"\n## `napari-espmedsam {name}`\n")[1].split("\n## ")[0]
    command: Any = get_command(app).commands[name]  # type: ignore[attr-defined]
    options = [each for each in command.params if each.param_type_name == "option"]
    flags = {flag for each in options for flag in [*each.opts, *each.secondary_opts]}
    listed = re.findall(r"^\* `(-.*?)`:", section, re.MULTILINE)
    assert {flag for line in listed for flag in re.findall(r"(?<!\w)--?[a-z][a-z-]*", line)} == {
        *flags,
        "--help",
    }
    plain = " ".join(section.split())
    assert [each.name for each in command.params if " ".join(each.help.split()) not in plain] == []


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of each of our commands in the bash blocks of a page."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```$", page.read_text("utf-8"), re.M | re.S)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and "=" in words[0]:  # a variable for this command alone
                words.pop(0)
            if words and words[0].endswith("napari-espmedsam") and len(words) > 1:
                yield ["napari-espmedsam", *words[1:]]
            elif "training" in words and words[words.index("training") - 1] == "-m":
                yield words[words.index("training") :]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_give_them(page: Path) -> None:
    from training.__main__ import app as training

    programs: dict[str, Any] = {
        "napari-espmedsam": get_command(app),
        "training": get_command(training),
    }
    for program, name, *words in commands_of(page):
        commands = programs[program].commands
        assert name in commands, f"{program} {name}"
        params = commands[name].params
        flags = {flag for each in params for flag in [*each.opts, *each.secondary_opts]}
        given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= {*flags, "--help"}, f"{program} {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_that_pages_name_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:python|bash) ((?:docs|benchmarks|scripts|tests)/[\w./-]+)", text)
    named += re.findall(r"\btraining/configs/[\w/.-]*\w\.toml\b", text)
    assert [name for name in named if not (ROOT / name).exists()] == []

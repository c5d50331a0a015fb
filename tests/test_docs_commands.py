"""Commands of the documents run as they stand, and their recipes are recipes.

Trained weights are replaced by tiny ones, images by small ones under the same names. Left out are
forms (``IN...``, ``[...]``), what needs other machines, and what has tests of its own: ``demo``,
``import``, ``info`` and ``--prompts`` in ``tests/cli``, ``--workers`` in ``tests/batch``.
"""

from __future__ import annotations

import glob
import re
import shlex
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_espmedsam import weights

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_HERE = {"segment", "batch", "slide", "models"}
NOT_HERE = re.compile(r"\.\.\.|\[|--workers|--scheduler|--prompts|mine\.safetensors")


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text("utf-8"), re.M | re.S)
    return [textwrap.dedent(text) for _, text in found]


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and line of each command that can run here, each line once."""
    seen = set()
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            line = shlex.join(words)
            here = len(words) > 1 and words[0] == "napari-espmedsam" and words[1] in RUN_HERE
            if here and line not in seen and not NOT_HERE.search(line):
                seen.add(line)
                yield page.name, " ".join(words)


COMMANDS = list(commands())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, save_tiny: Callable[..., Path]) -> Path:
    """Return the file of a model that runs in milliseconds."""
    inputs = {
        "microscopy": {"geometry": "tiled", "size": 64, "diameter": 20.0},
        "dermoscopy": {"geometry": "whole", "size": 64},
    }
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors", inputs)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with what the documents' readers have, and go there."""
    slide = np.full((96, 96, 3), 243, np.uint8)
    slide[30:70, 30:70] = (230, 180, 210)
    slide[40:48, 40:48] = slide[56:64, 56:64] = (70, 40, 120)
    cells = np.random.default_rng(0).integers(0, 4000, (5, 6)).repeat(8, 0).repeat(8, 1)
    for name in ("images/a.tif", "plates/a.tif", "plates/day 1/b.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, cells.astype(np.uint16))
    for name in ("SLIDE.tif", "slide.svs"):
        tifffile.imwrite(tmp_path / name, slide, photometric="rgb")
    (tmp_path / "photos").mkdir()
    tifffile.imwrite(tmp_path / "photos" / "a.jpg", slide, photometric="rgb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda text: text[:60])
def test_commands_run(
    page: str, line: str, images: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.cli import app

    entry = weights.WeightEntry(
        "espmedsam", ("microscopy", "dermoscopy"), ("nuclei", "lesions"), "", "", tiny
    )
    monkeypatch.setattr(weights, "_read_index", lambda _: (entry,))
    words = [found for word in line.split() for found in (sorted(glob.glob(word)) or [word])]
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{page}: {line}\n{done.output}"


def test_there_are_commands_to_run() -> None:
    assert {line.split()[1] for _, line in COMMANDS} == RUN_HERE


@pytest.mark.parametrize("page", ["add-modality.md", "training.md"])
def test_recipes_are_recipes(page: str) -> None:
    from training.config import FinetuneConfig, parse_config

    recipes = blocks(ROOT / "docs" / page, "toml")
    assert recipes
    for recipe in recipes:
        assert parse_config(tomllib.loads(recipe), FinetuneConfig, page).warm_start == "checkpoint"


@pytest.mark.parametrize("page", ["add-modality.md", "data.md"])
def test_manifests_are_manifests(page: str, tmp_path: Path) -> None:
    from training.manifest import read_manifest

    text = (ROOT / "docs" / page).read_text("utf-8")
    table = re.search(r"^( *)```(?:text)?\n( *image,mask.*?)^ *```$", text, re.M | re.S)
    assert table is not None
    path = tmp_path / "manifest.csv"
    path.write_text(textwrap.dedent(table[2]), encoding="utf-8")
    assert {sample.split for sample in read_manifest(path)} >= {"train", "val"}

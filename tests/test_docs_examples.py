"""Every Python example of the documents runs as it stands: page by page, in an empty folder."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tifffile

from napari_espmedsam import weights

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
Names = dict[str, Any]


def python_blocks(page: Path) -> list[str]:
    """Return the examples of a page, as many lines down as they stand there."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        lines = [line.removeprefix(match[1]) for line in match[2].splitlines()]
        found.append("\n" * text.count("\n", 0, match.start(2)) + "\n".join(lines) + "\n")
    return found


PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.md")])
    if "_cards" not in page.parts and "_build" not in page.parts and python_blocks(page)
]


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a model with random weights that runs in milliseconds."""
    import torch

    from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
    from napari_espmedsam.model.registry import create_model

    torch.manual_seed(0)
    model = create_model("esp_medsam_test", modalities=("microscopy",))
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs={"microscopy": InputSpec(geometry="tiled", size=64, diameter=20.0)},
        licence="CC0-1.0",
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return save_checkpoint(path, model, header)


def write_plates() -> Names:
    """Leave two images in folders."""
    values = np.random.default_rng(0).integers(0, 4000, (5, 6)).repeat(8, 0).repeat(8, 1)
    for name in ("plates/a.tif", "plates/day 1/b.tif"):
        Path(name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(name, values.astype(np.uint16))
    return {}


def write_slide() -> Names:
    """Leave a slide: tissue with dark nuclei on white."""
    slide = np.full((128, 128, 3), 243, np.uint8)
    slide[40:88, 40:88] = (230, 180, 210)
    slide[48:56, 48:56] = slide[70:78, 70:78] = (70, 40, 120)
    tifffile.imwrite("SLIDE.tif", slide, photometric="rgb")
    return {}


def write_manifest() -> Names:
    """Leave a table of images; the page is about their splits."""
    Path("my").mkdir()
    rows = [f"images/{i}.tif,masks/{i}.png,microscopy,train,slide{i}" for i in range(10)]
    text = "\n".join(["image,mask,modality,split,group", *rows, ""])
    Path("my/manifest.csv").write_text(text, encoding="utf-8")
    return {}


def some_labels() -> Names:
    """Return labels, where the page takes those of its reader."""
    labels = np.zeros((32, 32), np.uint32)
    labels[4:12, 6:20] = 1
    return {"labels": labels}


# What a page expects its reader to have. Other pages need nothing.
GIVEN: dict[str, Callable[[], Names]] = {
    "docs/batch.md": write_plates,
    "docs/data.md": write_manifest,
    "docs/files.md": some_labels,
    "docs/slides.md": write_slide,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_run_without_a_network(
    page: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = weights.WeightEntry("espmedsam", ("microscopy",), ("nuclei",), "", "", tiny_weights)
    monkeypatch.setattr(weights, "_read_index", lambda _: (entry,))
    monkeypatch.setattr(socket.socket, "connect", _refuse)
    monkeypatch.chdir(tmp_path)
    names = GIVEN.get(page.relative_to(ROOT).as_posix(), dict)()
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)


def test_the_pages_with_examples_are_found() -> None:
    found = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert found >= {*GIVEN, "README.md", "docs/api.md"}


def _refuse(*_: object) -> NoReturn:
    raise AssertionError("an example of the documents opens a connection")

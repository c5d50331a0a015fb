"""The tab "Batch" on a viewer without a window, a model that runs in milliseconds, a folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_espmedsam.batch import work as batch_work
from napari_espmedsam.batch.models import release_model
from napari_espmedsam.model.header import read_header
from napari_espmedsam.widgets.batch_tab import BatchTab
from napari_espmedsam.widgets.form import SegmentForm
from napari_espmedsam.widgets.prompts_tab import PromptsTab

SHAPE = (64, 96)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, save_tiny: Callable[..., Path]) -> Path:
    """Return the file of a model that runs in milliseconds."""
    inputs = {"microscopy": {"geometry": "tiled", "size": 64, "scale": 1.0, "diameter": 20.0}}
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors", inputs)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with three images and a broken one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 10):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 4000, (SHAPE[0] // 8, SHAPE[1] // 8)).astype(np.uint16)
        tifffile.imwrite(folder / f"img{number}.tif", np.kron(blocks, np.ones((8, 8), np.uint16)))
    (folder / "img3.tif").write_bytes((folder / "img1.tif").read_bytes()[:200])
    return folder


OpenTab = Callable[..., BatchTab]


@pytest.fixture
def open_tab(qtbot: Any, checkpoint: Path, images: Path, tmp_path: Path) -> Iterator[OpenTab]:
    """Return a function that makes the tab on a viewer without a window, filled in."""
    tabs: list[BatchTab] = []

    def open_() -> BatchTab:
        viewer = ViewerModel()
        form = SegmentForm(viewer)
        form.model.add_file(checkpoint)
        form.model.set_header(str(checkpoint), read_header(checkpoint))
        form.take({"threshold": 0.5, "min_size": 4})
        prompts = PromptsTab(viewer, form.prepare)
        tab = BatchTab(viewer, form, prompts)
        tab.parts = SimpleNamespace(viewer=viewer, form=form, prompts=prompts)
        for widget in (form, prompts, tab):
            qtbot.addWidget(widget)
        tab.fields.inputs.add(str(images))
        tab.fields.results.setText(str(tmp_path / "out"))
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.release()
        tab.parts.prompts.close_session()
    qtbot.waitUntil(lambda: not _threads(), timeout=30_000)
    release_model()


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("espmedsam")]


@pytest.fixture
def no_threads(qtbot: Any) -> Callable[[], None]:
    """Return a function that waits until no thread of ours is left."""
    return lambda: qtbot.waitUntil(lambda: not _threads(), timeout=30_000)


@pytest.fixture
def states() -> Callable[[BatchTab], dict[str, str]]:
    """Return a function that reads the states of the rows by the names of the images."""
    return lambda tab: {row.task.relative: row.state for row in tab.model.rows}


@pytest.fixture
def click(qtbot: Any) -> Callable[[Any], None]:
    """Return a function that clicks a button that is on."""

    def press(button: Any) -> None:
        assert button.isEnabled()
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return press


@pytest.fixture
def end(qtbot: Any) -> Callable[[BatchTab], None]:
    """Return a function that waits until a job has ended."""
    return lambda tab: qtbot.waitUntil(lambda: not tab.is_running, timeout=60_000)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Let a tile be segmented for each permit only."""
    permits = threading.Semaphore(0)
    inner = batch_work.segment_steps

    def steps(*args: Any) -> Any:
        assert permits.acquire(timeout=30)
        return (yield from inner(*args))

    monkeypatch.setattr(batch_work, "segment_steps", steps)
    return permits

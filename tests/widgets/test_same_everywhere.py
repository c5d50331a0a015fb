"""One image, model and settings: the same array from the window, the command line and a batch.

That clusters give it too is checked where one is running, in ``tests/batch/test_cluster.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qtpy.QtWidgets import QVBoxLayout, QWidget
from typer.testing import CliRunner

from napari_espmedsam.batch.api import segment_file
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.image_readers import layers_of

SETTINGS = {"threshold": 0.5, "min_size": 4, "output": "split", "modality": "microscopy"}
SHAPES = {"YX": (150, 170), "ZYX": (3, 90, 110)}  # several tiles of 64 px


@pytest.fixture(params=SHAPES)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a file with a plane or a stack of blocks."""
    shape = SHAPES[request.param]
    small = (*shape[:-2], shape[-2] // 10, shape[-1] // 10)
    values = np.random.default_rng(0).integers(0, 4000, small).astype(np.uint16)
    path = tmp_path / "image.ome.tif"
    pixels = values.repeat(10, -1).repeat(10, -2)
    tifffile.imwrite(path, pixels, metadata={"axes": request.param})
    return path


@pytest.fixture
def dock(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any, idle: Any) -> Any:
    """Return a dock on a viewer without a window, with the tiny model."""
    for module in ("widgets.pickers", "widgets.segment", "inference.segmenter"):
        name = f"napari_espmedsam.{module}.resolve_checkpoint"
        monkeypatch.setattr(name, lambda _name=None: checkpoint)
    viewer, holder = ViewerModel(), QWidget()
    dock = Dock(viewer)
    dock.viewer = viewer
    QVBoxLayout(holder).addWidget(dock)
    qtbot.addWidget(holder)
    yield dock
    dock.setParent(None)  # as napari closes a dock
    dock.deleteLater()
    qtbot.wait(20)


def _open(dock: Any, image: Path) -> None:
    """Show an image as napari does that our reader has read."""
    for data, attributes, _kind in layers_of(open_image(image)):
        dock.viewer.add_image(data, **attributes)


def _in_window(dock: Any, image: Path, finish: Callable[[Any], None]) -> np.ndarray:
    """Segment all planes by the button, as a user does."""
    _open(dock, image)
    dock.segment.form.take(SETTINGS)
    dock.segment.form.fields["output"].value = SETTINGS["output"]
    dock.segment.run_button.click()
    finish(dock.segment)
    return np.asarray(dock.viewer.layers[-1].data)


def _on_command_line(image: Path, checkpoint: Path, folder: Path) -> np.ndarray:
    from napari_espmedsam.cli import app

    flags = {name: name.replace("_", "-") for name in SETTINGS}
    flags["output"] = "objects"  # --output names the folder
    options = [f"--{flags[name]}={value}" for name, value in SETTINGS.items()]
    fixed = ["segment", str(image), "-o", str(folder), "-m", str(checkpoint)]
    result = CliRunner().invoke(app, [*fixed, *options])
    assert result.exit_code == 0, result.output
    return _labels_in(folder)


def _labels_in(folder: Path) -> np.ndarray:
    (path,) = folder.glob("*_labels.tif")
    return np.asarray(tifffile.imread(path))


def test_window_command_line_and_batch_agree(
    dock: Any, image: Path, checkpoint: Path, finish: Any, tmp_path: Path
) -> None:
    shown = _in_window(dock, image, finish)
    typed = _on_command_line(image, checkpoint, tmp_path / "typed")
    segment_file(image, tmp_path / "batch", checkpoint=str(checkpoint), **SETTINGS)
    assert shown.max() > 3
    np.testing.assert_array_equal(typed, shown)
    np.testing.assert_array_equal(_labels_in(tmp_path / "batch"), shown)


def test_the_live_session_agrees(
    dock: Any, image: Path, checkpoint: Path, idle: Any, tmp_path: Path
) -> None:
    typed = _on_command_line(image, checkpoint, tmp_path / "typed")
    _open(dock, image)
    dock.segment.form.take(SETTINGS)
    dock.prompts.show_prompts()
    idle(dock.prompts.studio)
    dock.prompts.run_button.click()
    idle(dock.prompts.studio)
    live = np.asarray(dock.prompts.studio.layers.labels.layer.data)
    # Objects of a stack keep the numbers that they got when their plane was computed, the shown
    # one first, so the numbers may differ, and nothing else.
    pairs = np.unique(np.stack([live, typed]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == np.unique(live).size == np.unique(typed).size
    assert (0, 0) in zip(*pairs, strict=True)
    if live.ndim == 2:
        np.testing.assert_array_equal(live, typed)

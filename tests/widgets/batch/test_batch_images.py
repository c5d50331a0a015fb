"""Channels, stacks and regions through the tab "Batch": run, opened, corrected, written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_espmedsam.batch.api import segment_file
from napari_espmedsam.batch.record import read_record
from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.events import Failed
from napari_espmedsam.widgets import objects_jobs
from napari_espmedsam.widgets.batch_tab import BatchTab
from napari_espmedsam.widgets.regions import SHAPE as BY_SHAPE

SHAPE = (64, 96)
OpenTab = Callable[..., BatchTab]
MINE = 200  # an id that no model gives here


def _planes(n: int, seed: int = 0) -> np.ndarray:
    """Return (n, 64, 96) uint16 of random blocks of 8 px."""
    blocks = np.random.default_rng(seed).integers(0, 4000, (n, 8, 12)).astype(np.uint16)
    return blocks.repeat(8, 1).repeat(8, 2)


@pytest.fixture
def open_on(open_tab: OpenTab, tmp_path: Path) -> Callable[..., BatchTab]:
    """Return a function that writes an OME-TIFF and fills the tab in for it."""

    def open_(pixels: np.ndarray, axes: str) -> BatchTab:
        path = tmp_path / "one" / "image.ome.tif"
        path.parent.mkdir()
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})
        tab = open_tab()
        tab.fields.inputs.setPlainText(str(path))
        return tab

    return open_


@pytest.fixture
def correct(click: Any, idle: Any, qtbot: Any, states: Any) -> Callable[..., np.ndarray]:
    """Return a function that opens the first file, paints on a plane and writes it."""

    def act(tab: BatchTab, *plane: int) -> np.ndarray:
        show(tab)
        painted = tab.parts.prompts.studio.layers.labels.layer
        place = (*(np.array([z, z]) for z in plane), np.array([5, 5]), np.array([7, 8]))
        painted.data_setitem(place, MINE)
        idle(tab.parts.prompts.studio)
        live = np.array(painted.data)
        assert (live == MINE).sum() == 2
        click(tab.write_button)
        qtbot.waitUntil(lambda: "edited" in states(tab).values(), timeout=60_000)
        return live

    def show(tab: BatchTab) -> None:
        tab.open_file(0)
        qtbot.waitUntil(lambda: not tab.files.is_busy, timeout=30_000)
        tab.parts.prompts.show_prompts()
        idle(tab.parts.prompts.studio)

    act.show = show  # type: ignore[attr-defined]
    return act


def _out(tab: BatchTab, name: str = "image_labels.tif") -> Path:
    return Path(tab.fields.results.text(), name)


def test_one_channel_of_several(
    open_on: Any, click: Any, end: Any, states: Any, correct: Any, tmp_path: Path, checkpoint: Path
) -> None:
    pixels = _planes(3)
    tab = open_on(pixels, "CYX")
    click(tab.run_button)
    end(tab)
    assert states(tab) == {"image.ome.tif": "failed"}
    assert "3 channels" in tab.model.rows[0].reason
    tab.fields.channel.setValue(2)
    click(tab.run_button)
    end(tab)
    assert states(tab) == {"image.ome.tif": "done"}
    tifffile.imwrite(tmp_path / "third.tif", pixels[2])
    alone = segment_file(
        tmp_path / "third.tif", tmp_path / "alone", checkpoint=str(checkpoint), threshold=0.5,
        min_size=4,
    )  # fmt: skip
    before = tifffile.imread(_out(tab))
    np.testing.assert_array_equal(before, tifffile.imread(alone.outputs[0]))
    assert before.max() > 0
    live = correct(tab)
    assert len(tab.parts.viewer.layers) >= 4, "a layer for each channel, and the labels"
    np.testing.assert_array_equal(tab.parts.form.image.layer.data, pixels[2])
    np.testing.assert_array_equal(tifffile.imread(_out(tab)), live)
    click(tab.run_button)
    end(tab)
    assert states(tab) == {"image.ome.tif": "finished"}


def test_a_stack_is_corrected_on_one_plane(
    open_on: Any, click: Any, end: Any, states: Any, correct: Any
) -> None:
    tab = open_on(_planes(3), "ZYX")
    click(tab.run_button)
    end(tab)
    assert states(tab) == {"image.ome.tif": "done"}
    before = tifffile.imread(_out(tab))
    assert before.shape == (3, *SHAPE)
    tab.open_file(0)
    tab.parts.viewer.dims.set_current_step(0, 1)
    correct(tab, tab.parts.viewer.dims.current_step[0])
    after = tifffile.imread(_out(tab))
    edited = np.flatnonzero((after == MINE).any((1, 2)))
    assert edited.tolist() == [1]
    for z in (0, 2):  # the same objects under other numbers
        pairs = set(zip(before[z].ravel().tolist(), after[z].ravel().tolist(), strict=True))
        assert len(pairs) == np.unique(before[z]).size == np.unique(after[z]).size
    assert np.unique(after).size == 3 * 9 + 2, "numbers are unique in the whole stack"
    assert (after == MINE).sum() == 2
    assert read_record(_out(tab, "image.esprun.json")).prompts.name == "image.espprompts.json"


def test_a_correction_of_a_region_is_refused_and_nothing_is_lost(
    open_on: Any,
    click: Any,
    end: Any,
    correct: Any,
    idle: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(objects_jobs, "show_error", shown.append)
    tab = open_on(_planes(1)[0], "YX")
    click(tab.run_button)
    end(tab)
    before = {path.name: path.read_bytes() for path in _out(tab).parent.iterdir()}
    tab.open_file(0)
    qtbot.waitUntil(lambda: not tab.files.is_busy, timeout=30_000)
    corners = np.array([[0, 0], [0, 48], [32, 48], [32, 0]]) - 0.5
    tab.parts.viewer.add_shapes([corners], shape_type="rectangle")
    tab.parts.prompts.region.setCurrentText(BY_SHAPE)
    correct.show(tab)
    click(tab.write_button)
    qtbot.waitUntil(lambda: bool(shown), timeout=60_000)
    assert "made on a part of it" in tab.status.text()
    assert "whole plane" in tab.status.text()
    assert {path.name: path.read_bytes() for path in _out(tab).parent.iterdir()} == before
    assert tab.write_button.isEnabled(), "the session and its prompts are still there"


@pytest.mark.parametrize("hide", [False, True])
def test_what_cannot_be_recorded_is_not_written(
    hide: bool, open_on: Any, click: Any, end: Any, correct: Any, qtbot: Any
) -> None:
    tab = open_on(_planes(1)[0], "YX")
    click(tab.run_button)
    end(tab)
    before = {path.name: path.read_bytes() for path in _out(tab).parent.iterdir()}
    tab.open_file(0)
    qtbot.waitUntil(lambda: not tab.files.is_busy, timeout=30_000)
    correct.show(tab)
    click(tab.write_button)
    assert tab.status.text() == "Writing once all is up to date …"
    if hide:
        tab.parts.prompts.hide_prompts()
    else:
        error = InputError("The disk is gone.")
        tab.parts.prompts.studio.failed.emit(Failed("record", None, error))
    reason = "The prompts were hidden before they were saved." if hide else "The disk is gone."
    assert tab.status.text().startswith(f"Nothing was written. {reason}")
    assert {path.name: path.read_bytes() for path in _out(tab).parent.iterdir()} == before

"""The tab "Batch" through its buttons: a folder with a broken file, pause, cancel, a correction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QMimeData, QPoint, Qt, QUrl
from qtpy.QtGui import QDesktopServices

from napari_espmedsam.batch.record import read_record
from napari_espmedsam.studio.record_file import read_record as read_prompts
from napari_espmedsam.widgets import objects_jobs
from napari_espmedsam.widgets.batch_tab import BatchTab

OpenTab = Callable[..., BatchTab]


def _cell(tab: BatchTab, row: int, column: int, role: Any = Qt.ItemDataRole.DisplayRole) -> Any:
    return tab.model.data(tab.model.index(row, column), role)


def test_a_folder_with_a_broken_file(
    open_tab: OpenTab,
    click: Any,
    end: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    states: Any,
) -> None:
    tab = open_tab()
    assert "tiny.safetensors, microscopy" in tab.note.text()
    click(tab.dry_button)
    end(tab)
    assert not (tmp_path / "out").exists()
    assert "4 to do" in tab.status.text()
    assert "Nothing was written" in tab.status.text()
    tab.fields.formats["csv"].setChecked(True)
    click(tab.run_button)
    assert not tab.fields.isEnabled()
    end(tab)
    done = {f"img{n}.tif": "done" for n in (1, 2, 10)}
    assert states(tab) == done | {"img3.tif": "failed"}
    assert list(states(tab)) == ["img1.tif", "img2.tif", "img3.tif", "img10.tif"]
    assert "3 done, 1 failed" in tab.status.text()
    assert "object" in _cell(tab, 0, 2)
    assert float(_cell(tab, 0, 3)) > 0
    assert "img3.tif" in _cell(tab, 2, 4, Qt.ItemDataRole.ToolTipRole)
    for name in ("img1_labels.tif", "img1_labels.csv", "img1.esprun.json"):
        assert (tmp_path / "out" / name).is_file()
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    click(tab.report_button)
    assert [Path(url.toLocalFile()).name for url in opened] == ["espmedsam-report.html"]
    click(tab.run_button)
    end(tab)
    finished = dict.fromkeys(done, "finished")
    assert states(tab) == finished | {"img3.tif": "failed"}


def test_pause_and_cancel(
    open_tab: OpenTab, click: Any, end: Any, gate: Any, qtbot: Any, states: Any
) -> None:
    tab = open_tab()
    click(tab.run_button)
    qtbot.waitUntil(lambda: "running" in states(tab).values(), timeout=30_000)
    click(tab.pause_button)
    assert tab.pause_button.text() == "Resume"
    gate.release(10)
    qtbot.wait(300)
    assert "done" not in states(tab).values(), "it waits"
    click(tab.pause_button)
    qtbot.waitUntil(lambda: "done" in states(tab).values(), timeout=30_000)
    click(tab.pause_button)
    click(tab.cancel_button)
    end(tab)
    assert "not done" in states(tab).values() or "failed" in states(tab).values()
    assert tab.run_button.isEnabled()
    assert not tab.pause_button.isEnabled()


def test_a_paused_job_ends_with_its_tab(
    open_tab: OpenTab, gate: Any, qtbot: Any, states: Any, no_threads: Any
) -> None:
    tab = open_tab()
    tab.run()
    qtbot.waitUntil(lambda: "running" in states(tab).values(), timeout=30_000)
    tab.pause()
    gate.release(10)
    tab.release()
    no_threads()


def test_what_is_wrong_is_said(
    open_tab: OpenTab, click: Any, end: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(objects_jobs, "show_error", shown.append)
    tab = open_tab()
    tab.fields.results.clear()
    click(tab.run_button)
    assert "no folder for the results" in tab.status.text()
    tab.fields.results.setText(str(tmp_path / "out"))
    tab.fields.inputs.setPlainText(str(tmp_path / "in" / "*.png"))
    click(tab.run_button)
    end(tab)
    assert "no file fits the pattern" in tab.status.text()
    assert shown == [tab.status.text()]
    tab.fields.inputs.setPlainText("")
    click(tab.dry_button)
    assert "no input" in tab.status.text()


def test_dropped_files_become_inputs(open_tab: OpenTab, images: Path) -> None:
    tab = open_tab()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(images / "img1.tif"))])
    tab.fields.inputs.insertFromMimeData(data)
    assert tab.fields.inputs.paths == (str(images), str(images / "img1.tif"))


def test_the_fields_become_the_job(open_tab: OpenTab) -> None:
    tab = open_tab()
    fields, form = tab.fields, tab.parts.form
    job = fields.job(form.request_for_files())
    assert (job.recursive, job.pattern, job.overwrite, job.formats) == (
        False,
        None,
        False,
        ("tiff",),
    )
    assert (job.request.channel, job.request.axes, job.request.planes) == (None, None, None)
    assert job.request.min_size == 4
    fields.channel.setValue(0)
    fields.axes.setText("cyx")
    fields.pattern.setText("*_dapi.tif")
    assert not job.dicom_series
    for box in (fields.recursive, fields.dicom_series, fields.overwrite, fields.formats["geojson"]):
        box.setChecked(True)
    job = fields.job(form.request_for_files())
    assert (job.request.channel, job.request.axes) == (0, "CYX")
    assert (job.recursive, job.pattern, job.overwrite) == (True, "*_dapi.tif", True)
    assert job.dicom_series
    assert job.formats == ("tiff", "geojson")


def test_two_viewers_share_nothing(open_tab: OpenTab, click: Any, end: Any) -> None:
    one, other = open_tab(), open_tab()
    click(one.dry_button)
    end(one)
    assert len(one.model.rows) == 4
    assert other.model.rows == ()
    assert other.run_button.isEnabled()


def test_a_file_is_corrected_and_stays_so(
    open_tab: OpenTab,
    click: Any,
    end: Any,
    idle: Any,
    qtbot: Any,
    images: Path,
    tmp_path: Path,
    states: Any,
) -> None:
    tab = open_tab()
    viewer, prompts, out = tab.parts.viewer, tab.parts.prompts, tab.fields.results.text()
    click(tab.run_button)
    end(tab)
    before = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    tab.show()
    qtbot.waitExposed(tab)
    place = QPoint(tab.table.visualRect(tab.model.index(1, 0)).center())
    for act in (qtbot.mouseClick, qtbot.mouseDClick):  # as a hand does it
        act(tab.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    image, labels = viewer.layers
    np.testing.assert_array_equal(labels.data, tifffile.imread(Path(out, "img2_labels.tif")))
    assert tab.parts.form.image.layer == image
    assert not tab.write_button.isEnabled()
    prompts.show_prompts()
    idle(prompts.studio)
    painted = prompts.studio.layers.labels.layer
    painted.data_setitem((np.array([5, 5]), np.array([7, 8])), 200)
    idle(prompts.studio)
    live = np.array(painted.data)
    assert (live == 200).sum() == 2
    click(tab.write_button)
    qtbot.waitUntil(lambda: states(tab)["img2.tif"] == "edited", timeout=60_000)
    np.testing.assert_array_equal(tifffile.imread(Path(out, "img2_labels.tif")), live)
    record = read_record(Path(out, "img2.esprun.json"))
    assert record.prompts.name == "img2.espprompts.json"
    assert read_prompts(Path(out, "img2.espprompts.json")).planes
    changed = {n for n, content in before.items() if Path(out, n).read_bytes() != content}
    assert changed == {"img2_labels.tif", "img2.esprun.json"}
    click(tab.run_button)
    end(tab)
    assert states(tab)["img2.tif"] == "finished"
    assert _cell(tab, 1, 4) == "corrected in napari"
    np.testing.assert_array_equal(tifffile.imread(Path(out, "img2_labels.tif")), live)
    tab.parts.form.fields["min_size"].value = 9
    click(tab.run_button)
    end(tab)
    assert states(tab)["img2.tif"] == "failed"
    assert "corrected by hand" in _cell(tab, 1, 4)
    assert states(tab)["img1.tif"] == "done", "made again with other settings"
    np.testing.assert_array_equal(tifffile.imread(Path(out, "img2_labels.tif")), live)

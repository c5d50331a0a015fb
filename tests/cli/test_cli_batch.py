"""``batch`` on the command line: what it prints, its exit codes, and Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import Result

from napari_espmedsam.batch import models
from napari_espmedsam.inference.request import request_options

Run = Callable[..., Result]


@pytest.fixture
def batch(run: Run, checkpoint: Path, tmp_path: Path) -> Run:
    """Run ``batch`` on ``tmp_path/in`` with the tiny model, into ``tmp_path/out``."""
    models._loaded.clear()
    for i, name in enumerate(("a.tif", "ü x.tif", "sub/c.tif")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 4000, (40, 48)).astype(np.uint16)
        tifffile.imwrite(path, pixels)

    def invoke(*arguments: object) -> Result:
        fixed = ("-o", tmp_path / "out", "-m", checkpoint, "--modality", "microscopy")
        return run("batch", tmp_path / "in", *fixed, *arguments)

    return invoke


def test_dry_run_then_run_then_nothing_to_do(batch: Run, tmp_path: Path) -> None:
    result = batch("-r", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "3 to do. Nothing was written." in result.stdout
    assert not (tmp_path / "out").exists()
    result = batch("-r")
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[1] for line in result.stdout.splitlines()[:3]] == ["YX 40 x 48"] * 3
    assert "3 done. Report: " in result.stdout
    assert (tmp_path / "out" / "sub" / "c_labels.tif").is_file()
    assert "3 finished before. Nothing was written." in batch("-r", "--dry-run").stdout
    assert "3 finished before." in batch("-r", "--resume").stdout
    assert "3 done." in batch("-r", "--overwrite").stdout


def test_a_broken_file_gives_2_and_its_reason(batch: Run, tmp_path: Path) -> None:
    (tmp_path / "in" / "b.tif").write_text("no image")
    result = batch("--no-report", "--format", "csv")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path / 'in' / 'b.tif'} is not a TIFF")
    assert "2 done, 1 failed." in result.stdout
    assert sorted(os.listdir(tmp_path / "out")) == [
        "a.esprun.json", "a_labels.csv", "ü x.esprun.json", "ü x_labels.csv"
    ]  # fmt: skip


def test_a_dry_run_says_what_would_be_refused(batch: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_labels.tif").write_text("mine")
    result = batch("--dry-run")
    assert result.exit_code == 2
    assert "a_labels.tif exists already" in result.stderr
    assert "1 cannot be done, 1 to do. Nothing was written." in result.stdout


def test_ctrl_c_stops_after_the_tile_and_the_same_command_goes_on(
    batch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.batch import work

    real = work.segment_steps

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(work, "segment_steps", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = batch()
    assert result.exit_code == 130, result.output
    assert "Stopped: the job was cancelled." in result.stderr
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "out" / "espmedsam-report.html").is_file()
    monkeypatch.undo()
    assert batch().exit_code == 0


def test_bad_options_are_said_once(batch: Run, tmp_path: Path) -> None:
    for arguments, part in (
        (("--format", "bmp"), "no format 'bmp'"),
        (("--pattern", "*.czi"), "holds no image"),
        (("--min-size", "-1"), "min_size is -1"),
    ):
        result = batch(*arguments)
        assert result.exit_code == 2
        assert part in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_every_field_of_the_request_is_an_option(run: Run) -> None:
    text = run("batch", "--help").stdout
    for info in request_options():
        assert all(flag in text for flag in info.flags), info.name


def test_workers_of_this_machine(batch: Run, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs napari-espmedsam[distributed]")
    assert batch("-r").exit_code == 0
    alone = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*_labels.tif")}
    assert len(alone) == 3
    (tmp_path / "in" / "b.tif").write_text("no image")
    result = batch("-r", "--overwrite", "--workers", 1)
    assert result.exit_code == 2, result.output
    assert "3 done, 1 failed." in result.stdout
    assert ": 1 worker\n" in result.stderr
    assert "is not a TIFF" in result.stderr
    assert {path: path.read_bytes() for path in alone} == alone


def test_no_scheduler_gives_2_and_says_so(
    batch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs napari-espmedsam[distributed]")
    monkeypatch.setattr("napari_espmedsam.batch.cluster._CONNECT", "1s")
    result = batch("--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 2
    assert "no scheduler answers at tcp://127.0.0.1:9" in result.stderr
    assert not (tmp_path / "out").exists()
    assert "give its scheduler" in batch("--gpu-workers", "--workers", 1).stderr


@pytest.mark.parametrize("command", ["segment", "batch"])
def test_a_dicom_folder_is_one_image_if_asked_for(
    command: str, run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    import pydicom
    from pydicom.data import get_testdata_file

    scan = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    (tmp_path / "1.2.840").mkdir()
    for k in range(2):
        scan.ImagePositionPatient = [0, 0, k]
        scan.save_as(tmp_path / "1.2.840" / f"{k}.dcm")
    fixed = ("-o", tmp_path / "out", "-m", checkpoint, "--modality", "microscopy")
    result = run(command, tmp_path / "1.2.840", "--dicom-series", *fixed)
    assert result.exit_code == 0, result.stderr
    assert "ZYX 2 x 128 x 128" in result.stdout
    assert tifffile.imread(tmp_path / "out" / "1.2.840_labels.tif").shape == (2, 128, 128)
    single = run(command, tmp_path / "1.2.840", *fixed)
    assert single.exit_code == 0, single.stderr
    assert (tmp_path / "out" / "1_labels.tif").is_file()

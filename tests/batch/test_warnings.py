"""Images that can be used although something is wrong with them: done, and said everywhere."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.record import read_record


def test_missing_planes_are_counted_in_record_result_and_report(
    write_image: Callable[..., Path],
    write_lacking: Callable[[Path], Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
    tmp_path: Path,
) -> None:
    write_image("whole.tif")
    write_lacking(tmp_path / "in" / "lacking.ome.tif")
    for state in ("done", "skipped"):  # what is finished says so again
        result = run_job(make_job())
        assert result.ok
        lacking, whole = result.results
        assert (lacking.state, whole.warnings) == (state, ())
        assert "2 of 5 planes" in lacking.warnings[0]
        record = read_record(tmp_path / "out" / "lacking.esprun.json")
        assert record is not None
        assert tuple(record.warnings) == lacking.warnings
        with (tmp_path / "out" / "espmedsam-report.csv").open(newline="") as file:
            rows = {row["image"]: row["warnings"] for row in csv.DictReader(file)}
        assert rows["whole.tif"] == ""
        assert "2 of 5 planes" in rows["lacking.ome.tif"]
        assert "2 of 5 planes" in (tmp_path / "out" / "espmedsam-report.html").read_text()


def test_why_another_device_computed_it_is_in_record_result_and_report(
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_espmedsam.inference import segmenter
    from napari_espmedsam.inference.device import DeviceChoice
    from napari_espmedsam.inference.runner import ModelRunner

    note = "The CPU, as mps cannot be trusted with this model: a test."
    monkeypatch.setattr(
        segmenter,
        "checked_runner",
        lambda model, *_, **__: (
            DeviceChoice("cpu", note, distrusted=True),
            ModelRunner(model, "cpu"),
        ),
    )
    write_image("a.tif")
    for state in ("done", "skipped"):
        (found,) = run_job(make_job()).results
        assert (found.state, found.warnings) == (state, (note,))
    record = read_record(tmp_path / "out" / "a.esprun.json")
    assert record is not None
    assert record.warnings == [note]
    assert record.provenance["device_note"] == note
    assert note in (tmp_path / "out" / "espmedsam-report.html").read_text()

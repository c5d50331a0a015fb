"""What counts as finished, what is done again, and what is never replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.record import read_record
from napari_espmedsam.batch.standing import look
from napari_espmedsam.errors import InputError
from napari_espmedsam.io.formats import FORMATS

Run = Callable[[BatchJob], JobResult]
Make = Callable[..., BatchJob]
Results = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def done(write_image: Callable[..., Path], make_job: Make, run_job: Run) -> BatchJob:
    """Return a job of two images that has been done."""
    write_image("a.tif", 1), write_image("sub/b.tif", 2)
    job = make_job(recursive=True, report=False)
    assert run_job(job).ok
    return job


def _states(result: JobResult) -> list[str]:
    return [each.state for each in result.results]


def test_what_is_finished_is_kept_and_no_model_is_loaded(
    done: BatchJob, run_job: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from napari_espmedsam.batch import work

    inodes = {p: p.stat().st_ino for p in (tmp_path / "out").rglob("*")}
    monkeypatch.setattr(work, "model_of", lambda _: pytest.fail("loaded"))
    result = run_job(done)
    assert _states(result) == ["skipped", "skipped"]
    assert result.ok
    assert {p: p.stat().st_ino for p in (tmp_path / "out").rglob("*")} == inodes


def test_it_is_the_content_that_counts_not_place_and_time(
    done: BatchJob, run_job: Run, make_job: Make, tmp_path: Path, checkpoint: Path
) -> None:
    shutil.move(tmp_path / "in", tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.tif"):
        os.utime(path, (1, 1))
    weights = shutil.copy(checkpoint, tmp_path / "same.safetensors")
    moved = make_job(
        tmp_path / "elsewhere",
        recursive=True,
        settings={"checkpoint": str(weights), "device": "cpu", "precision": "float32"},
    )
    assert _states(run_job(moved)) == ["skipped", "skipped"]


def test_other_pixels_with_the_old_size_and_time_are_done_again(
    done: BatchJob, run_job: Run, write_image: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "in" / "a.tif"
    old = path.stat()
    labels = (tmp_path / "out" / "a_labels.tif").read_bytes()
    write_image("a.tif", 3)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size
    assert look(done.plan()[0]).reason == "the image has changed since"
    assert _states(run_job(done)) == ["done", "skipped"]
    assert (tmp_path / "out" / "a_labels.tif").read_bytes() != labels


def test_other_settings_or_weights_are_done_again(
    done: BatchJob, run_job: Run, other_checkpoint: Path
) -> None:
    other = replace(done, request=replace(done.request, min_size=5))
    assert look(other.plan()[0]).reason == "made with other settings"
    assert _states(run_job(other)) == ["done", "done"]
    other = replace(done, request=replace(other.request, checkpoint=str(other_checkpoint)))
    assert look(other.plan()[0]).reason == "made with other weights"
    assert _states(run_job(other)) == ["done", "done"]


def test_a_missing_result_or_one_more_format(done: BatchJob, run_job: Run, tmp_path: Path) -> None:
    (tmp_path / "out" / "a_labels.tif").unlink()
    assert _states(run_job(done)) == ["done", "skipped"]
    more = replace(done, formats=("tiff", "csv"))
    assert look(more.plan()[0]).reason == "a_labels.csv is missing"
    assert _states(run_job(more)) == ["done", "done"]
    assert _states(run_job(done)) == ["skipped", "skipped"]


@pytest.mark.parametrize("record", ["kept", "removed", "damaged"])
def test_what_no_run_wrote_is_not_replaced_unless_told(
    done: BatchJob, run_job: Run, tmp_path: Path, record: str
) -> None:
    labels, note = tmp_path / "out" / "a_labels.tif", tmp_path / "out" / "a.esprun.json"
    labels.write_bytes(b"corrected by hand")
    if record == "removed":
        note.unlink()
    elif record == "damaged":
        note.write_bytes(note.read_bytes()[:200])
    result = run_job(done)
    assert _states(result) == ["failed", "skipped"]
    assert "--overwrite" in result.failed[0].reason
    assert labels.read_bytes() == b"corrected by hand"
    assert _states(run_job(replace(done, overwrite=True))) == ["done", "done"]
    assert labels.read_bytes() != b"corrected by hand"
    assert _states(run_job(done)) == ["skipped", "skipped"]


def test_a_run_that_was_killed_while_it_gave_names(
    done: BatchJob, run_job: Run, tmp_path: Path, results_in: Results
) -> None:
    before = results_in(tmp_path / "out")
    note = tmp_path / "out" / "a.esprun.json"
    note.write_text(note.read_text().replace('"state": "done"', '"state": "writing"'))
    (tmp_path / "out" / "a_labels.tif").write_bytes(b"of the run before")
    rest = tmp_path / "out" / ".a.esprun-part"
    rest.mkdir()
    (rest / "a_labels.tif").write_bytes(b"half")
    assert _states(run_job(done)) == ["done", "skipped"]
    assert results_in(tmp_path / "out") == before
    assert not rest.exists()


def test_all_formats_are_the_same_bytes_each_time(
    done: BatchJob, run_job: Run, tmp_path: Path, results_in: Results
) -> None:
    every = replace(done, formats=tuple(FORMATS), folder=tmp_path / "first")
    assert _states(run_job(every)) == ["done", "done"]
    assert run_job(replace(every, folder=tmp_path / "second")).ok
    first = results_in(tmp_path / "first")
    assert len(first) > 2 * len(FORMATS)
    assert results_in(tmp_path / "second") == first
    assert _states(run_job(every)) == ["skipped", "skipped"]
    assert _states(run_job(replace(every, overwrite=True))) == ["done", "done"]
    assert results_in(tmp_path / "first") == first


def test_the_record_says_how(done: BatchJob, tmp_path: Path, checkpoint: Path) -> None:
    import hashlib

    record = read_record(tmp_path / "out" / "sub" / "b.esprun.json")
    assert record is not None
    source = (tmp_path / "in" / "sub" / "b.tif").read_bytes()
    labels = (tmp_path / "out" / "sub" / "b_labels.tif").read_bytes()
    assert record.input.path == "sub/b.tif"
    assert record.input.sha256 == hashlib.sha256(source).hexdigest()
    assert record.outputs[0].sha256 == hashlib.sha256(labels).hexdigest()
    assert record.weights.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record.settings["min_size"] == 4
    assert record.provenance["created"]
    assert record.times.seconds > 0
    assert record.machine["python"]


def test_a_record_of_a_later_version_is_refused(done: BatchJob, tmp_path: Path) -> None:
    note = tmp_path / "out" / "a.esprun.json"
    note.write_text(note.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match=r"a\.esprun\.json is no record .*version"):
        look(done.plan()[0])

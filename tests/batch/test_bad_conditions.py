"""Disks that are full or read-only, images that change, faults of ours: said, and the rest done."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from napari_espmedsam.batch import work
from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.errors import CheckpointError, InputError, ModalityError, OutputError

Run = Callable[[BatchJob], JobResult]
Make = Callable[..., BatchJob]


@pytest.fixture
def three(write_image: Callable[..., Path]) -> list[Path]:
    """Return three images."""
    return [write_image(f"{name}.tif", i) for i, name in enumerate("abc")]


def _states(result: JobResult) -> list[str]:
    return [each.state for each in result.results]


def test_a_file_that_changes_while_it_is_segmented(
    three: list[Path], make_job: Make, run_job: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = work.segment_steps

    def changing(segmenter: Any, array: Any, options: Any) -> Generator[float, None, Any]:
        found = yield from real(segmenter, array, options)
        if array[0, 0] == first:
            three[0].write_bytes(three[0].read_bytes() + b"more")
        return found

    import tifffile

    first = tifffile.imread(three[0])[0, 0]
    monkeypatch.setattr(work, "segment_steps", changing)
    result = run_job(make_job())
    assert _states(result) == ["failed", "done", "done"]
    assert "was changed while it was segmented" in result.failed[0].reason
    assert not list((tmp_path / "out").glob("a*"))


def test_a_file_that_is_still_being_written(
    three: list[Path], make_job: Make, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.io import images

    whole = three[1].read_bytes()
    three[1].write_bytes(whole[:800])
    real = images.read_image

    def reading(path: Path, axes: str | None = None) -> Any:
        try:
            return real(path, axes)
        finally:
            if path == three[1]:
                path.write_bytes(whole)

    monkeypatch.setattr(images, "read_image", reading)
    result = run_job(make_job())
    assert _states(result) == ["done", "failed", "done"]
    assert "was changed" in result.failed[0].reason
    assert _states(run_job(make_job())) == ["skipped", "done", "skipped"]


def test_a_full_disk_stops_the_job_and_loses_nothing(
    three: list[Path], make_job: Make, run_job: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, calls = os.fsync, []

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) > 3:  # labels and two records of the first image
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    result = run_job(make_job())
    assert _states(result) == ["done", "failed", "cancelled"]
    assert "No space left on device" in result.failed[0].reason
    assert "No space left on device" in result.results[2].reason
    assert not result.ok
    names = sorted(p.name for p in (tmp_path / "out").iterdir() if "espmedsam" not in p.name)
    assert names == ["a.esprun.json", "a_labels.tif"]
    monkeypatch.undo()
    assert _states(run_job(make_job())) == ["skipped", "done", "done"]


def test_a_report_without_room_is_a_problem_not_a_crash(
    three: list[Path], make_job: Make, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.batch import report

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "_write_csv", full)
    result = run_job(make_job())
    assert _states(result) == ["done"] * 3
    assert "No space left" in result.problem
    assert not result.ok


def test_one_folder_that_cannot_be_written(
    write_image: Callable[..., Path], make_job: Make, run_job: Run, tmp_path: Path
) -> None:
    write_image("a.tif"), write_image("sub/b.tif", 1), write_image("c.tif", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file in its place")
    result = run_job(make_job(recursive=True))
    assert {r.relative: r.state for r in result.results} == {
        "a.tif": "done", "c.tif": "done", "sub/b.tif": "failed"
    }  # fmt: skip
    assert (tmp_path / "out" / "sub").read_text() == "a file in its place"


def test_an_output_folder_that_cannot_be_used_is_said_first(
    three: list[Path],
    make_job: Make,
    run_job: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(work, "model_of", lambda _: pytest.fail("loaded"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="choose another output folder"):
        run_job(make_job(folder=tmp_path / "file"))

    real = Path.mkdir

    def read_only(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name.endswith("-part"):
            raise OSError(30, "Read-only file system")
        real(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OutputError, match=r"Read-only file system\); choose"):
        run_job(make_job())


def test_a_fault_of_ours_is_isolated_and_keeps_its_traceback(
    three: list[Path], make_job: Make, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.io import images

    real = images.read_image

    def broken(path: Path, axes: str | None = None) -> Any:
        return real(path, axes) if path != three[1] else 1 / 0

    monkeypatch.setattr(images, "read_image", broken)
    result = run_job(make_job())
    assert _states(result) == ["done", "failed", "done"]
    assert "ZeroDivisionError" in result.failed[0].reason
    assert "in broken" in result.failed[0].traceback


def test_an_image_too_large_for_the_memory(
    three: list[Path], make_job: Make, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(work, "segment_steps", full)
    result = run_job(make_job())
    assert _states(result) == ["failed"] * 3
    assert "does not fit into memory" in result.failed[0].reason


def test_what_is_wrong_with_the_model_is_said_before_any_image(
    three: list[Path], make_job: Make, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModalityError, match="'xray'"):
        make_job(settings={"modality": "xray"}).plan()
    with pytest.raises(CheckpointError):
        make_job(settings={"checkpoint": str(tmp_path / "no.safetensors")}).plan()
    with pytest.raises(InputError, match="there is no format 'bmp'"):
        make_job(formats=("bmp",)).plan()


def test_weights_without_their_tensors_stop_the_job(
    three: list[Path], make_job: Make, run_job: Run, checkpoint: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(checkpoint, "numpy") as file:
        header = file.metadata()
    save_file({}, tmp_path / "hollow.safetensors", metadata=header)
    result = run_job(make_job(settings={"checkpoint": str(tmp_path / "hollow.safetensors")}))
    assert _states(result) == ["failed", "cancelled", "cancelled"]
    assert "hollow.safetensors describes a model" in result.stopped

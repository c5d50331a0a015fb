"""One bad input among good ones, by command: the reason reported, the rest done, exit code 2.

A scheduler that goes is in ``tests/batch/test_cluster.py``; kills are in ``test_kill.py``.
"""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import Result

from napari_espmedsam.batch import models, work
from napari_espmedsam.io.zarr_labels import write_labels_zarr

Run = Callable[..., Result]
Make = Callable[[Path, pytest.MonkeyPatch], str]
NAME = "Präparat 細胞 #2 (b).tif"  # sorts after "a.tif", before "z.tif"
PIXELS = np.random.default_rng(0).integers(0, 4000, (40, 48)).astype(np.uint16)


def _cut(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    path = folder / NAME
    path.write_bytes((folder / "a.tif").read_bytes()[:900])
    return "cut short or damaged"


def _axes(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    stack = np.zeros((2, 2, 2, 2, 20, 24), np.uint8)
    tifffile.imwrite(folder / NAME, stack, metadata={"axes": "PTZCYX"})
    return "PTZCYX"


def _dtype(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    tifffile.imwrite(folder / NAME, PIXELS.astype(np.complex64))
    return "complex64"


def _unreadable(folder: Path, patch: pytest.MonkeyPatch) -> str:
    (folder / NAME).write_bytes((folder / "a.tif").read_bytes())
    real = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == NAME:  # by its mode, root could read it
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    patch.setattr(Path, "open", refuse)
    return "Permission denied"


def _loop(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    (folder / NAME).symlink_to(folder / NAME)
    return "cannot be opened"


def _pipe(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    os.mkfifo(folder / NAME)
    return "is a pipe or a device"


def _largest_level(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    path = folder / NAME.replace(".tif", ".ome.zarr")
    write_labels_zarr(path, np.kron(PIXELS, np.ones((16, 16), np.uint16)), "YX")
    assert "1" in zarr.open_group(str(path), mode="r")
    (path / "0" / ".zarray").unlink()
    return "level"


def _twins(folder: Path, _patch: pytest.MonkeyPatch) -> str:
    (folder / "A.tif").write_bytes((folder / "a.tif").read_bytes())
    return "would both become"


def _during(act: Callable[[Path], object]) -> Make:
    """Do something to the image while it is segmented."""

    def make(folder: Path, patch: pytest.MonkeyPatch) -> str:
        path = folder / NAME
        tifffile.imwrite(path, PIXELS[::-1])
        real = work.segment_steps

        def steps(segmenter: Any, array: Any, options: Any) -> Any:
            found = yield from real(segmenter, array, options)
            if np.array_equal(array, PIXELS[::-1]):
                act(path)
            return found

        patch.setattr(work, "segment_steps", steps)
        return ""

    return make


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


BAD: dict[str, tuple[Make, str]] = {
    "cut": (_cut, ""),
    "axes": (_axes, ""),
    "dtype": (_dtype, ""),
    "unreadable": (_unreadable, ""),
    "loop": (_loop, ""),
    "pipe": (_pipe, ""),
    "largest level": (_largest_level, ""),
    "twins": (_twins, ""),
    "changed": (_during(_grow), "was changed while it was segmented"),
    "removed": (_during(Path.unlink), "does not exist"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two good images."""
    made = tmp_path / "in"
    made.mkdir()
    for name, pixels in (("a.tif", PIXELS), ("z.tif", PIXELS.T)):
        tifffile.imwrite(made / name, pixels)
    return made


@pytest.fixture
def batch(run: Run, folder: Path, checkpoint: Path, tmp_path: Path) -> Run:
    """Run ``batch`` on the folder, into ``tmp_path/out``."""
    models._loaded.clear()
    fixed = ("-o", tmp_path / "out", "-m", checkpoint, "--modality", "microscopy")
    return lambda *options: run("batch", folder, *fixed, *options)


def _failures(tmp_path: Path) -> dict[str, str]:
    with (tmp_path / "out" / "espmedsam-failures.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and letter case")
@pytest.mark.parametrize("kind", BAD)
def test_one_bad_input(
    kind: str, batch: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = BAD[kind]
    with monkeypatch.context() as patch:
        reason = make(folder, patch) or reason
        good = {p: p.read_bytes() for p in (folder / "a.tif", folder / "z.tif") if p.exists()}
        result = batch()
    assert result.exit_code == 2, result.output
    failures = _failures(tmp_path)
    assert len(failures) == 1, failures
    (told,) = failures.values()
    assert reason in told
    assert reason in result.stderr
    assert "Traceback" not in result.output
    report = (tmp_path / "out" / "espmedsam-report.html").read_text(encoding="utf-8")
    assert "1 failed" in report
    assert list((tmp_path / "out").glob("[aA]*_labels.tif"))
    assert len(list((tmp_path / "out").glob("*.esprun.json"))) >= 2
    assert all(path.read_bytes() == content for path, content in good.items())
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more(
    number: int, batch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def refuse(file: int) -> None:
        calls.append(file)
        if len(calls) > 3:  # labels and two records of the first image
            raise OSError(number, os.strerror(number))
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        result = batch("--no-report")
    assert result.exit_code == 2
    assert os.strerror(number) in result.stderr
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["a.esprun.json", "a_labels.tif"]
    kept = (out / "a_labels.tif").read_bytes()
    again = batch()
    assert again.exit_code == 0, again.stderr
    assert "1 done, 1 finished before" in again.stdout
    assert (out / "a_labels.tif").read_bytes() == kept


def test_a_smaller_level_that_is_missing_is_only_a_warning(
    batch: Run, folder: Path, tmp_path: Path
) -> None:
    path = folder / "levels.ome.zarr"
    write_labels_zarr(path, np.kron(PIXELS, np.ones((16, 16), np.uint16)), "YX")
    (path / "1" / ".zarray").unlink()
    result = batch()
    assert result.exit_code == 0, result.stderr
    assert "level 1" in result.stderr
    assert tifffile.imread(tmp_path / "out" / "levels_labels.tif").shape == (640, 768)


def test_an_output_folder_that_another_job_holds(batch: Run, tmp_path: Path) -> None:
    from napari_espmedsam.batch.lock import locked

    with locked(tmp_path / "out"):
        result = batch()
    assert result.exit_code == 2
    assert "another job is writing into" in result.stderr
    assert not list((tmp_path / "out").iterdir())

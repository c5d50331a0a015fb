"""A job that is killed at random moments and started again ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from napari_espmedsam.batch.api import segment_folder
from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.record import read_record

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
N_IMAGES = 12


@pytest.mark.parametrize("n_kills", [4, pytest.param(50, marks=pytest.mark.long)])
def test_killed_and_started_again(
    n_kills: int,
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
    results_in: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    for i in range(N_IMAGES):
        write_image(f"{'sub/' if i % 3 else ''}img{i}.tif", i, (2, 40, 48))
    job = make_job(recursive=True, formats=("tiff", "csv"))
    assert run_job(replace(job, folder=tmp_path / "undisturbed")).ok
    expected = results_in(tmp_path / "undisturbed")
    assert len(expected) == 2 * N_IMAGES

    chance, kills, rounds = random.Random(n_kills), 0, 0
    while kills < n_kills:
        folder = tmp_path / f"round {rounds}"
        finished: dict[Path, tuple[int, int]] = {}
        while kills < n_kills and len(finished) < N_IMAGES:
            kills += _start_and_kill(replace(job, folder=folder), chance)
            now = _finished(folder)
            assert now.items() >= finished.items(), "a finished image was computed again"
            finished = now
        assert run_job(replace(job, folder=folder)).ok
        assert _finished(folder).items() >= finished.items()
        assert results_in(folder) == expected
        assert not [p for p in folder.rglob("*") if p.name.startswith(".")]
        rounds += 1
    print(f"{kills} kills in {rounds} rounds of {N_IMAGES} images")


def _start_and_kill(job: BatchJob, chance: random.Random) -> bool:
    """Run the job in a process and kill it; False if it was finished before."""
    # The server has torch loaded, so that a start costs nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["napari_espmedsam.inference.segmenter"])
    process = context.Process(
        target=segment_folder,
        args=(job.inputs, job.folder),
        kwargs={"request": job.request, "formats": job.formats, "recursive": True},
    )
    before = _snapshot(job.folder)
    process.start()
    if chance.random() < 0.8:  # else as likely while it starts
        _wait_for_work(process, job.folder, before)
    time.sleep(chance.uniform(0, 0.2))
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


def _wait_for_work(process: BaseProcess, folder: Path, before: set[str]) -> None:
    end = time.monotonic() + 120
    while process.is_alive() and _snapshot(folder) == before and time.monotonic() < end:
        time.sleep(0.001)


def _snapshot(folder: Path) -> set[str]:
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names}


def _finished(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of each record of a finished image."""
    found = {}
    for path in folder.rglob("*.esprun.json"):
        record = read_record(path) if ".esprun-part" not in str(path) else None
        if record is not None and record.state == "done":
            found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found

"""Events, statuses, pause and cancel, the remaining time; tasks that cross processes."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_espmedsam.batch.events import (
    FileCancelled,
    FileDone,
    FileFailed,
    FileProgress,
    FileSkipped,
    FileStarted,
    JobResult,
)
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.run import JobRun
from napari_espmedsam.batch.work import run_file

Make = Callable[..., BatchJob]


@pytest.fixture
def job(write_image: Callable[..., Path], make_job: Make) -> BatchJob:
    """Return a job of a plane, a broken file and a stack of 5 planes."""
    write_image("a.tif"), write_image("c.tif", 2, (5, 40, 48))
    (write_image("b.tif")).write_bytes(b"")
    return make_job()


def test_events_in_order(job: BatchJob) -> None:
    run = JobRun(job)
    assert [status.state for status in run.statuses] == ["waiting"] * 3
    assert run.seconds_left is None
    told = list(run.events())
    assert [type(event) for event in told] == [
        FileStarted, FileProgress, FileDone, FileStarted, FileFailed, FileStarted,
        *[FileProgress] * 5, FileDone, JobResult,
    ]  # fmt: skip
    shares = [e.fraction for e in told if isinstance(e, FileProgress) and e.index == 2]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [status.state for status in run.statuses] == ["done", "failed", "done"]
    assert run.fraction == 1.0
    assert run.seconds_left == 0
    again = [type(event) for event in JobRun(job).events()]
    assert again.count(FileSkipped) == 2


def test_statuses_and_time_left_while_it_runs(job: BatchJob) -> None:
    run = JobRun(job)
    for event in run.events():
        if isinstance(event, FileProgress) and event.index == 2 and event.fraction < 0.5:
            assert [status.state for status in run.statuses] == ["done", "failed", "running"]
            assert run.statuses[2].fraction == event.fraction
            assert 0 < run.fraction < 1
            assert run.seconds_left is not None
            assert run.seconds_left > 0


def test_cancel_stops_after_the_tile_and_keeps_what_is_done(job: BatchJob, tmp_path: Path) -> None:
    run = JobRun(job)
    told = []
    for event in run.events():
        told.append(event)
        if isinstance(event, FileProgress) and event.index == 2:
            run.cancel()
    assert sum(isinstance(e, FileProgress) and e.index == 2 for e in told) == 1
    assert isinstance(told[-2], FileCancelled)
    result = told[-1]
    assert isinstance(result, JobResult)
    assert [r.state for r in result.results] == ["done", "failed", "cancelled"]
    assert "cancelled" in result.stopped
    assert result.reports[0].exists()
    assert not list((tmp_path / "out").glob("c*"))
    assert not list((tmp_path / "out").glob(".*"))


def test_closing_the_events_leaves_nothing_half_done(job: BatchJob, tmp_path: Path) -> None:
    events = JobRun(job).events()
    for event in events:
        if isinstance(event, FileProgress) and event.index == 2:
            break
    events.close()  # type: ignore[attr-defined]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.esprun.json", "a_labels.tif"]


def test_pause_waits_between_tiles_until_told(job: BatchJob) -> None:
    run = JobRun(job)
    seen: list[object] = []
    reached, finished = threading.Event(), threading.Event()

    def work() -> None:
        for event in run.events():
            seen.append(event)
            if isinstance(event, FileProgress) and event.index == 2 and event.fraction < 0.3:
                run.pause()
                reached.set()
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(60)
    assert not finished.wait(0.3)
    assert run.paused
    n = len(seen)
    run.resume()
    assert finished.wait(60)
    thread.join()
    assert len(seen) > n
    assert isinstance(seen[-1], JobResult)


def test_cancel_ends_a_pause(job: BatchJob) -> None:
    run = JobRun(job)
    run.pause()
    timer = threading.Timer(0.2, run.cancel)
    timer.start()
    *_, last = run.events()
    timer.join()
    assert isinstance(last, JobResult)
    assert [r.state for r in last.results] == ["cancelled"] * 3


def test_a_task_runs_in_another_process(job: BatchJob, tmp_path: Path) -> None:
    """What a cluster does: tasks out, results back, the same statuses."""
    tasks = job.plan()
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        results = pool.map(run_file, tasks)
    assert [r.state for r in results] == ["done", "failed", "done"]
    assert [r.state for r in map(run_file, tasks)] == ["skipped", "failed", "skipped"]

"""Two jobs that want one output folder, in one process and in two, one of them killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest

from napari_espmedsam.batch.events import FileStarted, JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.lock import LOCK, locked
from napari_espmedsam.batch.run import JobRun
from napari_espmedsam.errors import OutputError

Run = Callable[[BatchJob], JobResult]
Make = Callable[..., BatchJob]
_HOLD = """
import sys, time
from pathlib import Path
from napari_espmedsam.batch.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def job(write_image: Callable[..., Path], make_job: Make) -> BatchJob:
    """Return a job on two images."""
    write_image("a.tif"), write_image("b.tif", 1)
    return make_job()


@pytest.fixture
def holder(job: BatchJob) -> Iterator[subprocess.Popen[bytes]]:
    """Return another process that holds the folder of the job."""
    command = [sys.executable, "-c", _HOLD, str(job.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        yield process
        process.kill()


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_second_job_is_refused_and_writes_nothing(job: BatchJob, run_job: Run) -> None:
    first = JobRun(job).events()
    assert isinstance(next(first), FileStarted)
    before = _files(job.folder)
    with pytest.raises(OutputError, match=r"another job is writing into .*out, and only 1 may"):
        run_job(job)
    assert _files(job.folder) == before
    *_, last = first
    assert isinstance(last, JobResult)
    assert last.ok
    assert run_job(job).count("skipped") == 2
    assert not [name for name in _files(job.folder) if name.startswith(".")]


def test_a_job_that_is_dropped_lets_go(job: BatchJob, run_job: Run) -> None:
    events = JobRun(job).events()
    next(events)
    events.close()
    assert run_job(job).ok


def test_another_process_and_its_sudden_death(
    job: BatchJob, run_job: Run, holder: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(OutputError, match="wait until it has ended or cancel it"):
        run_job(job)
    assert _files(job.folder) == [LOCK]
    os.kill(holder.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    holder.wait(30)
    assert _files(job.folder) == [LOCK], "a kill leaves the file, and the file holds nothing"
    assert run_job(job).ok
    assert LOCK not in _files(job.folder)


def test_other_folders_are_free(job: BatchJob, run_job: Run, make_job: Make) -> None:
    with locked(job.folder):
        assert run_job(make_job(folder=job.folder.with_name("other"))).ok


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_noted_and_the_work_done(
    job: BatchJob, run_job: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    result = run_job(job)
    assert result.ok
    assert f"without locks ({os.strerror(number)})" in result.note
    assert "without locks" in (job.folder / "espmedsam-report.html").read_text()
    assert LOCK not in _files(job.folder)


def test_a_drive_that_is_read_only_is_refused(
    job: BatchJob, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*Read-only file system\); choose"):
        run_job(job)

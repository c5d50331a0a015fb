"""Jobs on a real scheduler and real worker processes, some of which die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

pytest.importorskip("distributed", reason="cluster runs need napari-espmedsam[distributed]")

from napari_espmedsam.batch.api import segment_folder
from napari_espmedsam.batch.cluster import Cluster, open_cluster
from napari_espmedsam.batch.cluster_stream import Returned
from napari_espmedsam.batch.cluster_work import NotSeen, do_file
from napari_espmedsam.batch.events import FileDone, FileStarted, JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.run import JobRun
from napari_espmedsam.batch.slide_cluster import chunks_on
from napari_espmedsam.batch.slide_plan import plan_slide
from napari_espmedsam.batch.slide_run import run_slide
from napari_espmedsam.batch.slide_source import open_slide
from napari_espmedsam.errors import ClusterError, InputError, OutputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.segmenter import Segmenter

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
N_IMAGES = 8
Results = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster(workers=2) as opened:
        yield opened


@pytest.fixture
def job(write_image: Callable[..., Path], make_job: Callable[..., BatchJob]) -> BatchJob:
    for i in range(N_IMAGES):
        write_image(f"{'sub/' if i % 3 else ''}img{i}.tif", i, (4, 40, 48))
    return make_job(recursive=True, formats=("tiff", "csv", "geojson"))


@pytest.fixture
def expected(
    job: BatchJob, run_job: Callable[[BatchJob], JobResult], results_in: Results, tmp_path: Path
) -> dict[str, bytes]:
    """Return the results of a run in this process."""
    assert run_job(replace(job, folder=tmp_path / "local")).ok
    found = results_in(tmp_path / "local")
    assert len(found) == 3 * N_IMAGES
    return found


def test_the_same_bytes_as_here_with_a_worker_killed(
    cluster: Cluster, job: BatchJob, expected: dict[str, bytes], results_in: Results
) -> None:
    run, killed, states = JobRun(job, cluster.execute), 0, []
    for event in run.events():
        if isinstance(event, FileStarted):
            states.append(sum(each.state == "running" for each in run.statuses))
        if isinstance(event, FileDone) and not killed:
            killed = _pids(cluster)[0]
            os.kill(killed, signal.SIGKILL)
    assert isinstance(event, JobResult)
    assert killed
    assert event.ok, event.failed
    assert event.count("done") + event.count("skipped") == N_IMAGES
    assert max(states) <= 4, "more was sent out than the workers have use for"
    assert results_in(job.folder) == expected
    assert not list(job.folder.rglob(".*"))
    again = segment_folder(
        job.inputs, job.folder, request=job.request, formats=job.formats, recursive=True,
        execute=cluster.execute,
    )  # fmt: skip
    assert again.count("skipped") == N_IMAGES


def test_the_same_arrays_as_on_the_command_line(
    cluster: Cluster,
    checkpoint: Path,
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    tmp_path: Path,
) -> None:
    """A plane and a stack of several tiles. The window's are checked in `test_same_everywhere`."""
    from typer.testing import CliRunner

    from napari_espmedsam.cli import app

    images = [write_image("plane.tif", 0, (150, 170)), write_image("stack.tif", 1, (3, 90, 110))]
    *_, result = JobRun(make_job(settings={"output": "split"}), cluster.execute).events()
    assert isinstance(result, JobResult)
    assert result.ok, result.failed
    typed = tmp_path / "typed"
    arguments = ["segment", *map(str, images), "-o", str(typed), "-m", str(checkpoint)]
    options = ["--threshold=0.5", "--min-size=4", "--objects=split"]  # as `make_job` has them
    shown = CliRunner().invoke(app, [*arguments, *options])
    assert shown.exit_code == 0, shown.output
    for image in images:
        name = f"{image.stem}_labels.tif"
        labels = tifffile.imread(typed / name)
        assert labels.max() > 3
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / name), labels)


def test_the_folder_of_a_cluster_run_is_held_by_the_driver(
    cluster: Cluster, job: BatchJob, expected: dict[str, bytes], results_in: Results
) -> None:
    events = JobRun(job, cluster.execute).events()
    next(events)
    with pytest.raises(OutputError, match="another job is writing"):
        next(JobRun(job).events())
    assert isinstance(list(events)[-1], JobResult)
    assert results_in(job.folder) == expected


@pytest.mark.parametrize(
    "n_published",
    [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow), 4],
)
def test_killed_while_results_get_their_names(
    n_published: int,
    cluster: Cluster,
    job: BatchJob,
    expected: dict[str, bytes],
    results_in: Results,
    tmp_path: Path,
) -> None:
    """Before the record that says "writing", after it, between results, before the last record."""

    def die_once(task: Any, mark: Path, flag: Path, stopped: Any) -> Any:
        from napari_espmedsam.batch import work

        left, publish = [n_published], work.publish

        def count(source: Path, target: Path) -> None:
            if not left[0] and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            publish(source, target)

        work.publish = count
        try:
            return do_file(task, mark, stopped)
        finally:
            work.publish = publish

    flag = tmp_path / "killed"
    items = [(task, tmp_path, flag) for task in job.plan()[:3]]
    back = [e for e in cluster.stream(die_once, items, lambda: False) if isinstance(e, Returned)]
    assert flag.exists()
    assert sorted(each.index for each in back) == [0, 1, 2]
    assert {each.value.state for each in back} <= {"done", "skipped"}
    found = results_in(job.folder)
    assert len(found) == 9
    assert found.items() <= expected.items()


def test_a_task_taken_for_lost_that_lives_on_does_no_harm(
    job: BatchJob, expected: dict[str, bytes], results_in: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that breaks: two workers make the same results at the same time."""
    from napari_espmedsam.batch import work

    task, publish = job.plan()[0], work.publish
    results = []

    def meanwhile(source: Path, target: Path) -> None:
        if not results:
            results.append(None)
            results[0] = work.run_file(task)
        publish(source, target)

    monkeypatch.setattr(work, "publish", meanwhile)
    late = work.run_file(task)
    assert results[0].state == "done"
    assert late.state == "failed"  # nobody waits for it any more
    monkeypatch.undo()
    assert work.run_file(task).state == "skipped"
    assert results_in(job.folder).items() <= expected.items()


def test_cancelled_in_work(cluster: Cluster, job: BatchJob) -> None:
    run = JobRun(job, cluster.execute)
    for event in run.events():
        if isinstance(event, FileDone):
            run.cancel()
    assert isinstance(event, JobResult)
    assert 1 <= event.count("done") < N_IMAGES
    assert event.count("done") + event.count("cancelled") == N_IMAGES
    assert "cancelled" in event.stopped
    assert event.reports[0].exists()
    assert not list(job.folder.rglob(".*"))


def test_broken_images_fail_alone_and_a_missing_one_says_so(
    cluster: Cluster, job: BatchJob, tmp_path: Path
) -> None:
    (tmp_path / "in" / "img0.tif").write_bytes(b"")
    run = JobRun(job, cluster.execute)
    (tmp_path / "in" / "img3.tif").unlink()
    *_, result = run.events()
    assert isinstance(result, JobResult)
    assert result.count("done") == N_IMAGES - 2
    reasons = {each.relative: each.reason for each in result.failed}
    assert "empty" in reasons["img0.tif"]
    assert "does not see" in reasons["img3.tif"]


def test_a_folder_that_the_worker_does_not_share(job: BatchJob, tmp_path: Path) -> None:
    lost = do_file(job.plan()[0], tmp_path / "elsewhere", lambda: False)
    assert isinstance(lost, NotSeen)
    assert lost.path == tmp_path / "elsewhere"


def test_relative_paths_mean_those_of_the_job(
    cluster: Cluster, job: BatchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = replace(job, inputs=("in/img0.tif",), folder=Path("out"), recursive=False)
    *_, result = JobRun(here, cluster.execute).events()
    assert isinstance(result, JobResult)
    assert result.results[0].outputs[0] == Path("out/img0_labels.tif")
    assert (tmp_path / "out" / "img0_labels.tif").is_file()


def test_another_version_on_the_workers_stops_the_job(
    cluster: Cluster, job: BatchJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_espmedsam.batch.cluster_stream.__version__", "0.0.0")
    *_, result = JobRun(job, cluster.execute).events()
    assert isinstance(result, JobResult)
    assert result.count("done") == 0
    assert "install the same version" in result.stopped


def test_gpu_workers_by_their_tag(cluster: Cluster) -> None:
    # Not 2: one that an earlier test killed may still be starting again.
    assert Cluster(cluster.client).n_workers >= 1
    assert Cluster(cluster.client, gpu=True).n_workers == 0


@pytest.mark.parametrize(
    "options", [{}, {"scheduler": "tcp://a:1", "workers": 2}, {"workers": 2, "gpu": True}]
)
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(InputError), open_cluster(**options):
        pass


def test_no_scheduler_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_espmedsam.batch.cluster._CONNECT", "1s")
    with (
        pytest.raises(ClusterError, match="no scheduler answers at tcp://127"),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_the_scheduler_dies(
    job: BatchJob,
    expected: dict[str, bytes],
    results_in: Results,
    tmp_path: Path,
    run_job: Callable[[BatchJob], JobResult],
) -> None:
    with _scheduler(tmp_path) as (process, address), open_cluster(address, gpu=True) as remote:
        assert remote.n_workers == 1
        for event in JobRun(job, remote.execute).events():
            if isinstance(event, FileDone):
                process.kill()
        assert isinstance(event, JobResult)
        assert not event.ok
        assert event.count("done") >= 1
        assert event.failed
        assert f"the scheduler {address} is gone" in event.stopped
    assert run_job(job).ok
    assert results_in(job.folder) == expected


@pytest.mark.slow
def test_an_image_that_kills_every_worker(cluster: Cluster, job: BatchJob, tmp_path: Path) -> None:
    def die(task: Any, mark: Path, stopped: Any) -> Any:
        if task.path.name == "img3.tif":
            os.kill(os.getpid(), signal.SIGKILL)
        return do_file(task, mark, stopped)

    items = [(task, tmp_path) for task in job.plan()]
    back = [e for e in cluster.stream(die, items, lambda: False) if isinstance(e, Returned)]
    lost = [each for each in back if each.problem]
    assert len(back) == N_IMAGES
    assert len(lost) == 1
    assert "each of 4 workers was lost" in lost[0].problem
    assert not lost[0].stops


def _pids(cluster: Cluster) -> list[int]:
    return sorted(cluster.client.run(os.getpid).values())


@contextmanager
def _scheduler(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start `dask scheduler` and a `dask worker` with a GPU tag, as a user would."""
    port, processes = _free_port(), []
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    worker = ("worker", address, "--nthreads", "1", "--no-dashboard", "--resources", "GPU=1")
    try:
        for arguments in (scheduler, (*worker, "--memory-limit", "0", "--death-timeout", "60")):
            log = (folder / f"{arguments[0]}.log").open("wb")
            with log:
                command = [sys.executable, "-m", "dask", *arguments]
                processes.append(
                    subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
                )
        _wait_for_worker(address)
        yield processes[0], address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for_worker(address: str) -> None:
    from distributed import Client

    with Client(address, timeout="60s", set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)


def test_chunks_of_a_slide_with_a_worker_killed(
    cluster: Cluster, checkpoint: Path, tmp_path: Path
) -> None:
    request = SegmentRequest(
        checkpoint=str(checkpoint), threshold=0.5, min_size=4, tile=256, scale=0.5
    )
    values = np.random.default_rng(0).integers(0, 4000, (270, 520)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "slide.tif", values.repeat(8, 0).repeat(8, 1), tile=(256, 256))
    slide = open_slide(tmp_path / "slide.tif", request)
    segmenter = Segmenter.from_checkpoint(**request.model_options())
    plan = plan_slide(slide, segmenter.header, request, tissue=False)
    assert len(plan.chunks) == 6
    here, there = tmp_path / "here.zarr", tmp_path / "there.zarr"
    list(run_slide(slide, segmenter, plan, here))
    killed = 0
    steps = []
    for step in run_slide(slide, segmenter, plan, there, compute=chunks_on(cluster)):
        steps.append(step)
        if not killed:
            killed = _pids(cluster)[0]
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert (steps[-1].chunks, steps[-1].n_chunks) == (6, 6)
    assert np.asarray(zarr.open_group(str(here), mode="r")["0"]).max() > 6
    assert _chunk_files(here) == _chunk_files(there)


def _chunk_files(folder: Path) -> dict[str, bytes]:
    """Read all of an OME-Zarr but its attributes, which hold the date."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".zattrs"
    }

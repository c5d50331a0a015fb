"""Measure what a task of a cluster costs beyond its work: `python benchmarks/cluster_overhead.py`.

Starts a scheduler and worker processes on this machine, sends tasks that do nothing through the
same window, the same submission and the same way back as images, and prints the time for each.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from pathlib import Path

from napari_espmedsam.batch.cluster import Cluster, open_cluster
from napari_espmedsam.batch.cluster_stream import AHEAD
from napari_espmedsam.batch.cluster_work import Stopped
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.inference.request import SegmentRequest


def do_nothing(task: FileTask, mark: Path, stopped: Stopped) -> FileResult:
    """Return a result as long as that of an image."""
    outputs = (task.folder / f"{task.stem}_labels.tif",)
    return FileResult(task.relative, "done", "", outputs, "123 objects", "YX 2048 x 2048", 1.0)


def measure(tasks: int, workers: int) -> tuple[float, float, float]:
    """Return seconds for each of many tasks, the start of the cluster left out.

    By the clock; of one core for this process, which is client and scheduler; and for the workers.
    The last two do not depend on what else the machine does.
    """
    request = SegmentRequest(modality="microscopy")
    items = [
        (
            FileTask(
                path=Path(f"/data/plates/plate 1/well {i}.tif"),
                relative=f"plate 1/well {i}.tif",
                folder=Path("/data/results/plate 1"),
                stem=f"well {i}",
                formats=("tiff",),
                request=request,
                weights_sha256="0" * 64,
                size=8_400_000,
            ),
            Path("/data/results/.job.esprun-part/0"),
        )
        for i in range(tasks)
    ]
    print(f"{len(pickle.dumps(items[0]))} bytes a task, {AHEAD} tasks ahead for each worker")
    with open_cluster(workers=workers) as cluster:
        list(cluster.stream(do_nothing, items[: 8 * workers], lambda: False))  # imports
        before = _clocks(cluster)
        events = sum(1 for _ in cluster.stream(do_nothing, items, lambda: False))
        clock, here, there = (b - a for a, b in zip(before, _clocks(cluster), strict=True))
    assert events == 2 * tasks
    return clock / tasks, here / tasks, there / tasks


def _clocks(cluster: Cluster) -> tuple[float, float, float]:
    there = sum(cluster.client.run(time.process_time).values())
    return time.perf_counter(), time.process_time(), there


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    clock, here, there = measure(arguments.tasks, arguments.workers)
    print(f"{arguments.tasks} tasks, {arguments.workers} workers, {os.cpu_count()} cores")
    print(f"{1000 * clock:.1f} ms a task by the clock, load {os.getloadavg()[0]:.1f}")
    print(
        f"{1000 * here:.1f} ms of a core for client and scheduler: {1 / here:.0f} tasks a second,"
    )
    print(f"{1e6 * here / 3600:.1f} h for a million; {1000 * there:.1f} ms of a core on the worker")


if __name__ == "__main__":
    main()

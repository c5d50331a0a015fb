"""Measure what a task of a cluster costs beyond its work: `python benchmarks/cluster_overhead.py`.

Starts a scheduler and worker processes on this machine, sends tasks that do nothing through the
same window, submission and way back as images, and prints the time for each.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from pathlib import Path

from napari_espmedsam.batch.cluster import AHEAD, open_cluster
from napari_espmedsam.batch.cluster_work import Stopped
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.inference.request import SegmentRequest


def do_nothing(task: FileTask, mark: Path, stopped: Stopped) -> FileResult:
    """Return a result as long as that of an image."""
    outputs = (task.folder / f"{task.stem}_labels.tif",)
    return FileResult(task.relative, "done", "", outputs, "123 objects", "YX 2048 x 2048", 1.0)


def measure(tasks: int, workers: int) -> float:
    """Return the seconds that each of many tasks takes, the start of the cluster left out."""
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
        start = time.perf_counter()
        events = sum(1 for _ in cluster.stream(do_nothing, items, lambda: False))
        seconds = time.perf_counter() - start
    assert events == 2 * tasks
    return seconds / tasks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    each = measure(arguments.tasks, arguments.workers)
    print(
        f"{arguments.tasks} tasks, {arguments.workers} workers, {os.cpu_count()} cores: "
        f"{1000 * each:.2f} ms a task, {1e6 * each / 3600:.1f} h for a million"
    )


if __name__ == "__main__":
    main()

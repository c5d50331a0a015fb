"""Workers for a command: those of a cluster, or some of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from napari_espmedsam.batch.cluster import Cluster, open_cluster


@contextmanager
def enter_cluster(scheduler: str | None, workers: int, *, gpu: bool) -> Iterator[Cluster]:
    """Open a cluster and say on the error stream how many workers it has.

    Raises
    ------
    ClusterError, InputError
        As ``open_cluster``.
    """
    with open_cluster(scheduler, workers=workers, gpu=gpu) as cluster:
        n, kind = cluster.n_workers, "GPU workers" if gpu else "workers"
        wait = "" if n else "; waiting for the first, Ctrl-C stops"
        typer.echo(f"{cluster.address}: {n} {kind[:-1] if n == 1 else kind}{wait}", err=True)
        yield cluster

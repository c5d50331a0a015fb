"""Workers for a command: those of a cluster, or some of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from napari_espmedsam.batch.cluster import Cluster, open_cluster

Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Do the work on a Dask cluster: tcp://host:8786. All its machines have to see images "
        "and results under the same path.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", metavar="N", min=0, help="Do the work in N processes of this machine."
    ),
]
GpuWorkers = Annotated[
    bool,
    typer.Option(
        "--gpu-workers",
        help="With --scheduler: use only workers that were started with --resources GPU=1.",
    ),
]


@contextmanager
def enter_cluster(scheduler: str | None, workers: int, *, gpu: bool) -> Iterator[Cluster | None]:
    """Open a cluster and say on stderr how many workers it has; None if none is asked for.

    Raises
    ------
    ClusterError, InputError
        As ``open_cluster``.
    """
    if scheduler is None and not workers and not gpu:
        yield None
        return
    with open_cluster(scheduler, workers=workers, gpu=gpu) as cluster:
        n, kind = cluster.n_workers, "GPU workers" if gpu else "workers"
        wait = "" if n else "; waiting for the first, Ctrl-C stops"
        typer.echo(f"{cluster.address}: {n} {kind[:-1] if n == 1 else kind}{wait}", err=True)
        yield cluster

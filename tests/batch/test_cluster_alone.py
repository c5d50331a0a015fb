"""A cluster whose workers are all gone for good: the job ends instead of waiting for ever."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("distributed", reason="cluster runs need napari-espmedsam[distributed]")

from napari_espmedsam.batch import cluster as cluster_module
from napari_espmedsam.batch.cluster import Cluster, open_cluster
from napari_espmedsam.batch.cluster_stream import Returned


class _Client:
    """A scheduler that answers, takes calls and has no workers."""

    status = "running"
    cancelled = 0

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"address": "tcp://here:1", "workers": {}}

    def submit(self, function: Any, *arguments: Any, key: str, resources: Any) -> _Never:
        return _Never()

    def cancel(self, futures: list[Any]) -> None:
        self.cancelled += len(futures)

    def run(self, *arguments: Any, on_error: str) -> None: ...


class _Never:
    """What never ends."""

    status = "pending"

    def add_done_callback(self, call: Any) -> None: ...


def test_a_job_on_this_machine_ends_when_no_worker_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_module, "_RESTART", 0.3)
    monkeypatch.setattr(cluster_module, "_REFRESH", 0.0)
    client: Any = _Client()
    events = list(Cluster(client, local=True).stream(int, [("1",), ("2",), ("3",)], lambda: False))
    assert events[:2] == [0, 1]  # sent
    assert [each.index for each in events[2:]] == [0, 1]
    assert all(isinstance(each, Returned) and each.stops for each in events[2:])
    assert "all workers on this machine were lost" in events[2].problem


def test_a_scheduler_elsewhere_may_get_workers_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_RESTART", 0.0)
    client: Any = _Client()
    cluster = Cluster(client)
    assert cluster.n_workers == 0
    cluster.check_workers()


def test_silent_workers_of_this_machine_are_kept() -> None:
    with open_cluster(workers=1) as cluster:
        scheduler = cluster.client.cluster.scheduler
        assert scheduler.worker_ttl is None
        assert "worker-ttl" not in scheduler.periodic_callbacks

"""Items on their way through the workers of a cluster, a few ahead of what has come back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from napari_espmedsam import __version__
from napari_espmedsam.batch.cluster_work import work_on
from napari_espmedsam.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Future

    from napari_espmedsam.batch.cluster import Cluster

AHEAD = 2
"""Items that are sent for each worker: one in work, one to follow it without a pause."""
_POLL = 0.2  # s between two looks at whether to stop


@dataclass(frozen=True)
class Returned:
    """What came back for one of the items that were sent out.

    Attributes
    ----------
    index : int
        Which item.
    value : Any
        What the function returned; None if it did not.
    problem : str
        Why it did not; "" if it did.
    stops : bool
        Whether the same would happen to all other items.
    """

    index: int
    value: Any = None
    problem: str = ""
    stops: bool = False


class Stream:
    """One call of a function for each of many items; see :meth:`Cluster.stream`."""

    def __init__(
        self, cluster: Cluster, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]
    ) -> None:
        self._cluster, self._function = cluster, function
        self._left = enumerate(items)
        self._run = secrets.token_hex(8)
        self._arrived: SimpleQueue[Future[Any]] = SimpleQueue()
        self._waiting: dict[Future[Any], int] = {}

    def events(self, stopped: Callable[[], bool]) -> Generator[int | Returned, None, None]:
        """Send items and take back what comes of them."""
        more, told = True, False
        try:
            while more or self._waiting:
                if not told and stopped():
                    self._cluster.tell_to_stop(self._run)
                    told, more = True, False
                if told and not self._cluster.n_workers:
                    return
                while more and len(self._waiting) < self._window():
                    if more := (following := next(self._left, None)) is not None:
                        self._send(*following)
                        yield following[0]
                for future in self._ended():
                    back = self._cluster.outcome(future, self._waiting[future])
                    del self._waiting[future]
                    yield back
                self._cluster.check()
                self._cluster.check_workers()
        except ClusterError as error:
            lost = self._waiting.values() or [index for index, _ in islice(self._left, 1)]
            for index in lost:
                yield Returned(index, problem=str(error), stops=True)
            self._waiting.clear()
        finally:
            self._abandon()

    def _window(self) -> int:
        # Two without any worker: a cluster that grows with its work has to see some.
        return AHEAD * max(1, self._cluster.n_workers)

    def _send(self, index: int, item: tuple[Any, ...]) -> None:
        future = self._cluster.submit(
            f"espmedsam-{self._run}-{index}",
            work_on,
            *(self._run, __version__, self._function, item),
        )
        future.add_done_callback(self._arrived.put)
        self._waiting[future] = index

    def _ended(self) -> list[Future[Any]]:
        """Return the next future that has ended, if there is one soon."""
        try:
            future = self._arrived.get(timeout=_POLL if self._waiting else 0)
        except Empty:
            return []
        if future.status in ("finished", "error", "cancelled"):
            return [future]
        future.add_done_callback(self._arrived.put)  # its worker was lost with the result
        return []

    def _abandon(self) -> None:
        if self._waiting:
            with suppress(Exception):  # on the way out, whatever the cluster is like
                self._cluster.client.cancel(list(self._waiting))
                self._cluster.tell_to_stop(self._run)

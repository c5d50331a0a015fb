"""The tasks of a job on the workers of a Dask cluster, a few at a time.

This is the only module that knows ``distributed``. It comes with ``napari-espmedsam[distributed]``.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from napari_espmedsam import __version__
from napari_espmedsam.batch.cluster_work import NotSeen, do_file, portable, stop_run, work_on
from napari_espmedsam.batch.events import FileStarted, TaskEvent, ended
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.errors import ClusterError, EspMedSamError, InputError

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2
"""Tasks that are sent for each worker: one in work, one to follow it without a pause."""
_CONNECT = "15s"
_REFRESH = 2.0  # s between two looks at how many workers there are
_POLL = 0.2  # s between two looks at whether to stop
_GPU = "GPU"


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


class Cluster:
    """Workers that do tasks. Make it with :func:`open_cluster`.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    gpu : bool
        Whether only workers with the resource ``GPU`` are used, one task for each.

    Attributes
    ----------
    client : distributed.Client
        As given.
    address : str
        Of the scheduler.
    """

    def __init__(self, client: Client, *, gpu: bool = False) -> None:
        self.client = client
        self._resources = {_GPU: 1} if gpu else None
        self.address = str(client.scheduler_info(n_workers=0)["address"])
        self._looked = -_REFRESH
        self._n_workers = 0

    @property
    def n_workers(self) -> int:
        """How many workers could do a task, as of the last few seconds.

        Raises
        ------
        ClusterError
            If the scheduler does not answer.
        """
        now = time.monotonic()
        if now - self._looked > _REFRESH:
            with self._answering():
                workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
            needed = self._resources or {}
            self._n_workers = sum(needed.keys() <= each["resources"].keys() for each in workers)
            self._looked = now
        return self._n_workers

    def execute(
        self, tasks: Sequence[FileTask], mark: Path, stopped: Callable[[], bool]
    ) -> Generator[TaskEvent, None, None]:
        """Do the tasks of a job; see :data:`napari_espmedsam.batch.run.Execute`.

        An image counts as started once it is sent out. There is no progress within an image.
        """
        items = ((_absolute(task), mark.absolute()) for task in tasks)
        for event in self.stream(do_file, items, stopped):
            if isinstance(event, int):
                yield FileStarted(event, tasks[event])
                continue
            result = _file_result(tasks[event.index], event)
            if result.state != "cancelled":
                yield ended(event.index, result)

    def stream(
        self,
        function: Callable[..., Any],
        items: Iterable[tuple[Any, ...]],
        stopped: Callable[[], bool],
    ) -> Generator[int | Returned, None, None]:
        """Call a function on the workers, a few items ahead of what they have done.

        Parameters
        ----------
        function : callable
            Called with the elements of an item, and a function that says whether to stop.
        items : iterable of tuple
            What to call it with; taken as it is sent. A worker that is lost costs its current
            item, which is sent to another one.
        stopped : callable
            Whether to stop: nothing more is sent then, and what is in work is told so.

        Yields
        ------
        int or Returned
            Index of an item as it is sent out, and what came back for it, in any order. Items that
            were sent out before the scheduler went come back with that problem.
        """
        run, told = secrets.token_hex(8), False
        left, more = enumerate(items), True
        arrived: SimpleQueue[Future[Any]] = SimpleQueue()
        waiting: dict[Future[Any], int] = {}
        try:
            while more or waiting:
                if not told and stopped():
                    self._tell_to_stop(run)
                    told, more = True, False
                if told and not self.n_workers:
                    return
                while more and len(waiting) < self._window():
                    if more := (following := next(left, None)) is not None:
                        waiting[self._send(run, function, *following, arrived)] = following[0]
                        yield following[0]
                for future in self._ended(arrived, bool(waiting)):
                    back = self._open(future, waiting[future])
                    del waiting[future]
                    yield back
                self._check()
        except ClusterError as error:
            for index in waiting.values() or [index for index, _ in islice(left, 1)]:
                yield Returned(index, problem=str(error), stops=True)
            waiting.clear()
        finally:
            if waiting:
                self._abandon(run, list(waiting))

    def _window(self) -> int:
        # Two without any worker: a cluster that grows with its work has to see some.
        return AHEAD * max(1, self.n_workers)

    def _send(
        self,
        run: str,
        function: Callable[..., Any],
        index: int,
        item: tuple[Any, ...],
        arrived: SimpleQueue[Future[Any]],
    ) -> Future[Any]:
        self._check()
        future: Future[Any] = self.client.submit(
            work_on,
            *(run, __version__, function, item),
            key=f"espmedsam-{run}-{index}",
            resources=self._resources,
        )
        future.add_done_callback(arrived.put)
        return future

    def _ended(self, arrived: SimpleQueue[Future[Any]], wait: bool) -> list[Future[Any]]:
        """Return the next future that has ended, if there is one soon."""
        try:
            future = arrived.get(timeout=_POLL if wait else 0)
        except Empty:
            return []
        if future.status in ("finished", "error", "cancelled"):
            return [future]
        future.add_done_callback(arrived.put)  # its worker was lost with the result: done again
        return []

    def _open(self, future: Future[Any], index: int) -> Returned:
        from distributed import KilledWorker

        if future.status == "cancelled":
            raise self._gone()
        with self._answering():
            error = future.exception() if future.status == "error" else None
            if error is None:
                return Returned(index, future.result())
        if isinstance(error, KilledWorker):
            problem = (
                f"each of {error.allowed_failures + 1} workers was lost with it in work, most "
                "likely for want of memory; give the workers more, or segment it alone."
            )
            return Returned(index, problem=problem)
        if isinstance(error, EspMedSamError):
            return Returned(index, problem=str(error), stops=True)
        problem = (
            f"a worker cannot do it ({type(error).__name__}: {error}); install the same version of "
            "napari-espmedsam and of what it needs on all machines."
        )
        return Returned(index, problem=problem, stops=True)

    def _check(self) -> None:
        if self.client.status != "running":
            raise self._gone()

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"the scheduler {self.address} is gone; what is finished stays. Start it and its "
            "workers again, and the same job goes on."
        )

    @contextmanager
    def _answering(self) -> Iterator[None]:
        self._check()
        try:
            yield
        except (CancelledError, OSError, TimeoutError, RuntimeError) as error:
            raise self._gone() from error

    def _tell_to_stop(self, run: str) -> None:
        with self._answering():
            self.client.run(stop_run, run, on_error="ignore")

    def _abandon(self, run: str, futures: list[Future[Any]]) -> None:
        with suppress(Exception):  # on the way out, whatever the cluster is like
            self.client.cancel(futures)
            self._tell_to_stop(run)


@contextmanager
def open_cluster(
    scheduler: Any = None, *, workers: int = 0, gpu: bool = False
) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine; it is let go at the end.

    Parameters
    ----------
    scheduler : str or dask cluster, optional
        Address of a scheduler (``tcp://host:8786``), or a cluster object such as dask-jobqueue's.
    workers : int
        Worker processes to start on this machine instead. They share its cores.
    gpu : bool
        Use only workers that were started with ``--resources GPU=1``; not with `workers`.

    Yields
    ------
    Cluster
        Its ``execute`` is what ``JobRun`` and ``segment_folder`` take.

    Raises
    ------
    ClusterError
        If ``distributed`` is not installed, or the scheduler does not answer.
    InputError
        If neither or both of scheduler and workers are given, or `gpu` with `workers`.
    """
    if (scheduler is None) == (workers < 1):
        raise InputError(
            f"scheduler is {scheduler} and workers is {workers}; give the address of a scheduler, "
            "or a number of workers from 1 to start here."
        )
    if gpu and scheduler is None:
        raise InputError(
            "GPU workers are chosen on a cluster whose workers were started with --resources "
            "GPU=1; give its scheduler. Workers that are started here use the device of the job."
        )
    with ExitStack() as stack:
        yield Cluster(_connect(stack, scheduler, workers), gpu=gpu)


def _connect(stack: ExitStack, scheduler: Any, workers: int) -> Client:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ClusterError(
            f"Dask's cluster is not installed ({error}); pip install "
            "'napari-espmedsam[distributed]'."
        ) from error
    if scheduler is None:
        scheduler = stack.enter_context(
            # Its limits would pause workers for good: the memory is the model's, not Dask's.
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=None,
                env=_share_of_cores(workers),
            )
        )  # fmt: skip
    try:
        return stack.enter_context(Client(scheduler, timeout=_CONNECT, set_as_default=False))
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no scheduler answers at {scheduler} ({error}); check the address, e.g. "
            "tcp://host:8786, and that `dask scheduler` runs there."
        ) from error


def _share_of_cores(workers: int) -> dict[str, str]:
    """Give each worker its share of the cores, unless the user has set another number."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: os.environ.get(name, share) for name in names}


def _absolute(task: FileTask) -> FileTask:
    """Return a task that means the same in any working folder."""
    return replace(
        task,
        path=task.path.absolute(),
        folder=task.folder.absolute(),
        request=portable(task.request),
    )


def _file_result(task: FileTask, back: Returned) -> FileResult:
    """Return the result of a task as the same run here would have given it."""
    if isinstance(back.value, FileResult):
        outputs = tuple(task.folder / path.name for path in back.value.outputs)
        return replace(back.value, outputs=outputs)
    if isinstance(back.value, NotSeen):
        seen_here = back.value.path.exists()
        return FileResult(task.relative, "failed", back.value.text(), stops_job=seen_here)
    return FileResult(task.relative, "failed", f"{task.path}: {back.problem}", stops_job=back.stops)

"""The workers of a Dask cluster, and the way to them.

This is the only module that knows ``distributed``. It comes with ``napari-espmedsam[distributed]``.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_espmedsam.batch.cluster_files import send_files
from napari_espmedsam.batch.cluster_stream import Returned, Stream
from napari_espmedsam.batch.cluster_work import stop_run
from napari_espmedsam.batch.events import TaskEvent
from napari_espmedsam.batch.task import FileTask
from napari_espmedsam.errors import ClusterError, EspMedSamError, InputError

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

    from napari_espmedsam.batch.run import Execute

_CONNECT = "15s"
_REFRESH = 2.0  # s between two looks at how many workers there are
_RESTART = 60.0  # s in which Dask replaces a worker of this machine that was lost
_GPU = "GPU"


class Cluster:
    """Workers that do tasks. Make it with :func:`open_cluster`.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    gpu : bool
        Whether only workers with the resource ``GPU`` are used, one task for each.
    local : bool
        Whether its workers were started here for it: nobody adds any later.

    Attributes
    ----------
    client : distributed.Client
        As given.
    address : str
        Of the scheduler.
    """

    def __init__(self, client: Client, *, gpu: bool = False, local: bool = False) -> None:
        self.client = client
        self._local = local
        self._resources = {_GPU: 1} if gpu else None
        self.address = str(client.scheduler_info(n_workers=0)["address"])
        self._looked = -_REFRESH
        self._n_workers = 0
        self._alone_since: float | None = None

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
            if self._n_workers:
                self._alone_since = None
            elif self._alone_since is None:
                self._alone_since = now
        return self._n_workers

    def execute(
        self, tasks: Sequence[FileTask], mark: Path, stopped: Callable[[], bool]
    ) -> Generator[TaskEvent, None, None]:
        """Do the tasks of a job; see :data:`napari_espmedsam.batch.run.Execute`.

        An image counts as started once it is sent out. There is no progress within an image.

        Parameters
        ----------
        tasks : sequence of FileTask
            From ``BatchJob.plan``.
        mark : Path
            A folder that exists while the job runs, and that only processes with the same disk see.
        stopped : callable
            Says whether to stop.

        Yields
        ------
        TaskEvent
            What happens, with the number of the image.
        """
        return send_files(self.stream, tasks, mark, stopped)

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
        return Stream(self, function, items).events(stopped)

    def submit(self, key: str, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Send one call to a worker.

        Raises
        ------
        ClusterError
            If the scheduler is gone.
        """
        self.check()
        future: Future[Any] = self.client.submit(
            function, *arguments, key=key, resources=self._resources
        )
        return future

    def outcome(self, future: Future[Any], index: int) -> Returned:
        """Return what came of a call that has ended.

        Raises
        ------
        ClusterError
            If the scheduler is gone.
        """
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

    def check(self) -> None:
        """Raise a ClusterError if the scheduler is gone."""
        if self.client.status != "running":
            raise self._gone()

    def check_workers(self) -> None:
        """Raise a ClusterError if there is no worker, and will be none.

        A scheduler elsewhere may get workers at any time, so it is waited for.
        """
        if not self._local or self.n_workers or self._alone_since is None:
            return
        if time.monotonic() - self._alone_since >= _RESTART:
            raise ClusterError(
                f"all workers on this machine were lost, and none came back within {_RESTART:.0f} "
                "s; what is finished stays. Start the same job again to go on, with fewer workers "
                "if memory is short."
            )

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"the scheduler {self.address} is gone; what is finished stays. Start it and its "
            "workers again, and the same job goes on."
        )

    @contextmanager
    def _answering(self) -> Iterator[None]:
        self.check()
        try:
            yield
        except (CancelledError, OSError, TimeoutError, RuntimeError) as error:
            raise self._gone() from error

    def tell_to_stop(self, run: str) -> None:
        """Let what is in work end after its tile."""
        with self._answering():
            self.client.run(stop_run, run, on_error="ignore")


def is_installed() -> bool:
    """Tell whether there can be a cluster; nothing of it is imported."""
    return importlib.util.find_spec("distributed") is not None


def execute_on(scheduler: str | None, workers: int) -> Execute:
    """Return what does the tasks of a job on a cluster that is opened for them and let go after.

    Parameters
    ----------
    scheduler, workers
        As in :func:`open_cluster`; it is called, and raises, when the work begins.
    """

    def execute(
        tasks: Sequence[FileTask], mark: Path, stopped: Callable[[], bool]
    ) -> Generator[TaskEvent, None, None]:
        with open_cluster(scheduler, workers=workers) as cluster:
            yield from cluster.execute(tasks, mark, stopped)

    return execute


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
        yield Cluster(_connect(stack, scheduler, workers), gpu=gpu, local=scheduler is None)


def _connect(stack: ExitStack, scheduler: Any, workers: int) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            f"Dask's cluster is not installed ({error}); pip install "
            "'napari-espmedsam[distributed]'."
        ) from error
    if scheduler is None:
        scheduler = stack.enter_context(_start_workers(workers))
    try:
        return stack.enter_context(Client(scheduler, timeout=_CONNECT, set_as_default=False))
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no scheduler answers at {scheduler} ({error}); check the address, e.g. "
            "tcp://host:8786, and that `dask scheduler` runs there."
        ) from error


def _start_workers(workers: int) -> LocalCluster:
    from dask import config
    from distributed import LocalCluster

    # Silent workers are replaced after a while, which helps where a machine has left the network.
    # Here it would replace all of them when a computer wakes up, some of them for good.
    with config.set({"distributed.scheduler.worker-ttl": None}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,  # a limit would pause workers: the memory is the model's, not Dask's
            dashboard_address=None,
            env=_share_of_cores(workers),
        )


def _share_of_cores(workers: int) -> dict[str, str]:
    """Give each worker its share of the cores, unless the user has set another number."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: os.environ.get(name, share) for name in names}

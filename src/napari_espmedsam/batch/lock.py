"""One job at a time in an output folder: a lock that the system lets go of with its process."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_espmedsam.batch.staging import refused
from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.atomic import make_folder

LOCK = ".espmedsam.lock"
_PATIENCE = 0.5  # s: a job that is just ending removes its lock meanwhile
# What systems say of a drive that has no locks: some network drives, some containers.
_NO_LOCKS = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK")
    if hasattr(errno, name)
}


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[str]:
    """Hold a folder for one job, whatever process or machine others want it from.

    The lock belongs to the process: it ends with it, however that ends, and a file that is left
    behind holds nothing. Threads of one process exclude each other too.

    Parameters
    ----------
    folder : Path
        Where the results go; made if it is not there.
    name : str
        Of the lock's file in it, which is removed at the end.

    Yields
    ------
    str
        Why the folder could not be locked although the work may go on: its drive has no locks. ""
        where it is.

    Raises
    ------
    OutputError
        If another job holds it, or nothing can be written there.
    """
    make_folder(folder)
    path = folder / name
    lock = FileLock(path, timeout=_PATIENCE, thread_local=False, fallback_to_soft=False)
    note = ""
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout as error:
        raise OutputError(
            f"another job is writing into {folder}, and only 1 may (it holds {path}); wait until "
            "it has ended or cancel it, or choose another output folder."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise refused(folder, error) from error
        note = (
            f"{folder} is on a drive without locks ({error.strerror}): make sure yourself that no "
            "other job writes into it."
        )
    try:
        yield note
    finally:
        with suppress(OSError):  # while it is held: afterwards it may be that of another job
            path.unlink()
        lock.release()

"""Reading late: what is opened now and read minutes later may have changed or gone meanwhile."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError

# Side in pixels that a block of a lazy array should reach: a screen is a few blocks then, and the
# graph of a slide of 100,000 px has ten thousand of them, not a million.
BLOCK = 1024
MAX_BLOCKS = 500_000  # more make a graph that takes many seconds and gigabytes


class FileWatch:
    """Notices that a file is no longer the one that was opened.

    Parameters
    ----------
    path : Path
        The file or folder; a folder's time says nothing of its contents, so only its end is seen.
    close : callable, optional
        Called when nothing reads from the file any more.
    """

    def __init__(self, path: Path, close: Callable[[], object] | None = None) -> None:
        self.path = path
        self._stamp = self._look()
        if close is not None:
            weakref.finalize(self, close)

    def check(self) -> None:
        """Raise InputError if the file was changed, replaced or removed since."""
        try:
            changed = self._look() != self._stamp
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be reached any more ({error.strerror or error}); open it "
                "again when it is back."
            ) from error
        if changed:
            raise InputError(
                f"{self.path} was changed while it was open, so old and new pixels would be "
                "mixed; open it again."
            )

    def _look(self) -> tuple[int, ...]:
        stat = self.path.stat()
        return () if self.path.is_dir() else (stat.st_size, stat.st_mtime_ns)


class WatchedArray:
    """An array on disk whose failures are sentences.

    Parameters
    ----------
    array : zarr.Array or other array-like
        Read by slicing.
    watch : FileWatch
        Of the file that it lies in.
    """

    def __init__(self, array: Any, watch: FileWatch) -> None:
        self._array, self._watch = array, watch
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.ndim = len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        self._watch.check()
        try:
            part: NDArray[Any] = np.asarray(self._array[index])
        except (InputError, MemoryError):  # a file that is too large is not damaged
            raise
        except Exception as error:
            raise InputError(
                f"{self._watch.path} is damaged or cut short: a part of it cannot be decoded "
                f"({str(error).strip() or type(error).__name__}); copy or export the file again."
            ) from error
        self._watch.check()  # a change during the read may have mixed two versions
        return part.astype(self.dtype, copy=False)


def lazy(array: Any, watch: FileWatch, axes: str) -> Any:
    """Wrap an array on disk for reading in blocks.

    Parameters
    ----------
    array : zarr.Array
        Its ``chunks`` are merged to blocks of about 1024 px along Y and X.
    watch : FileWatch
        Of its file.
    axes : str
        A letter for each dimension.

    Returns
    -------
    dask.array.Array
        Same shape; native byte order.

    Raises
    ------
    InputError
        If that would be more than 500,000 blocks.
    """
    import dask.array as da

    blocks = tuple(
        n if axis == "S" else _block(n, int(chunk), axis)
        for n, chunk, axis in zip(array.shape, array.chunks, axes, strict=True)
    )
    n_blocks = math.prod(-(-n // block) for n, block in zip(array.shape, blocks, strict=True))
    if n_blocks > MAX_BLOCKS:
        raise InputError(
            f"{watch.path} has {n_blocks:,} blocks (shape {tuple(array.shape)}, chunks "
            f"{tuple(array.chunks)}); the limit is {MAX_BLOCKS:,}. Store it in larger chunks."
        )
    watched = WatchedArray(array, watch)
    meta = np.empty((0,) * watched.ndim, watched.dtype)
    # name=False: the default name is a hash of all pixels.
    return da.from_array(watched, chunks=blocks, name=False, meta=meta)


def _block(n: int, chunk: int, axis: str) -> int:
    return min(n, max(chunk, BLOCK // chunk * chunk)) if axis in "YX" else chunk

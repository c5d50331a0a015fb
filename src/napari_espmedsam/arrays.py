"""Reading arrays of any library into memory, from any thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_array(array: Any) -> NDArray[Any]:
    """Return what an array holds.

    A Dask array is computed in the calling thread, and hidden from callbacks. napari registers its
    cache as one for the whole process while it slices, and that cache fails with a KeyError where
    two threads compute at once. Nor is a pool of threads left behind, as Dask would keep one for
    each thread that ever computed. Blocks of images were read no faster by a pool.

    Parameters
    ----------
    array : array-like
        numpy, dask, zarr or alike; any shape and dtype. It is read as a whole: cut it before.

    Returns
    -------
    ndarray
        Same shape and dtype; the array itself if it is one of numpy.
    """
    if hasattr(array, "__dask_graph__"):
        array = array.compute(scheduler="synchronous", callbacks=())
    return np.asarray(array)

"""Arrays of any library are read whole, apart from what else goes on in the process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import zarr
from dask import threaded
from dask.cache import Cache
from dask.callbacks import Callback

from napari_espmedsam.arrays import read_array

PIXELS = np.arange(60, dtype=np.uint16).reshape(6, 10)


@pytest.mark.parametrize("wrap", [np.asarray, list, da.from_array, zarr.array])
def test_an_array_of_any_library_becomes_one_of_numpy(wrap):
    read = read_array(wrap(PIXELS))
    assert type(read) is np.ndarray
    np.testing.assert_array_equal(read, PIXELS)


def test_an_array_of_numpy_is_not_copied():
    assert read_array(PIXELS) is PIXELS


def test_callbacks_of_another_thread_are_not_called():
    """napari's cache is one for all threads; two that compute at once break it."""
    called = []
    with Callback(start=lambda _graph: called.append("start")):
        read_array(da.from_array(PIXELS))
        assert called == []
        np.asarray(da.from_array(PIXELS))
    assert called == ["start"]  # what the test looks for can happen


def test_a_read_beside_a_viewer_that_slices_does_not_break_it():
    """A read that began during one slicing and ends in the midst of the next broke the second."""
    began, go_on = threading.Event(), threading.Event()

    def slow(part):
        began.set()
        assert go_on.wait(30)
        return part

    def sliced(part):
        go_on.set()
        reading.result(30)
        return part

    cache = Cache(1e6)
    with ThreadPoolExecutor(1) as pool:
        with cache:
            reading = pool.submit(read_array, _mapped(slow))
            assert began.wait(30)
        with cache:
            shown = np.asarray(_mapped(sliced))
    np.testing.assert_array_equal(shown, PIXELS)


def test_no_pool_is_kept_for_a_thread_that_read():
    before = set(threaded.pools)
    thread = threading.Thread(target=read_array, args=(da.from_array(PIXELS, chunks=2),))
    thread.start()
    thread.join()
    assert set(threaded.pools) <= before


def _mapped(function):
    return da.from_array(PIXELS).map_blocks(function, meta=PIXELS)

"""A batch that does not fit into a device's memory is tried again in halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from napari_espmedsam.errors import DeviceError

T = TypeVar("T")

# What the libraries below torch say in place of torch.OutOfMemoryError; MPS raises RuntimeError.
_SAID = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_device_allocation_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a GPU, by CUDA or MPS, has too little free memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def in_halves(
    compute: Callable[[int, int], T],
    n: int,
    size: int,
    too_many: Callable[[int], object],
    *,
    device: str,
    shape: tuple[int, ...],
) -> list[T]:
    """Compute `n` tiles in parts; a part that does not fit is tried again in halves.

    Parameters
    ----------
    compute : callable
        Given the first tile and the one after the last, computes these.
    n : int
        Number of tiles.
    size : int
        Most tiles to try at once.
    too_many : callable
        Called with the smaller size before each further try: the place to free memory, and to
        remember the size. One tile alone gets a second try.
    device : str
        Where, as torch calls it, for the error.
    shape : tuple of int
        (h, w) of a tile in model px, for the error.

    Returns
    -------
    list
        What `compute` returned, part by part.

    Raises
    ------
    DeviceError
        If one tile alone does not fit.
    """
    results: list[T] = []
    start, size, last_try = 0, min(size, n), False
    while start < n:
        stop = min(start + size, n)
        try:
            results.append(compute(start, stop))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            start, last_try = stop, False
            continue
        # Outside the handler, whose traceback holds the tensors of the attempt.
        if last_try:
            raise DeviceError(
                f"{device} has too little free memory for one tile ({shape[0]} x {shape[1]}). Use "
                "a smaller tile, or device='cpu'."
            )
        last_try = stop - start == 1
        size = max(1, (stop - start) // 2)
        too_many(size)
    return results

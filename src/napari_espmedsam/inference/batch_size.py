"""How many tiles a CUDA card computes at once: as many as its free memory holds, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

MAX_TILES = 64
MAX_PIXELS = 16 * 1024**2
"""Model px of a batch: beyond it a card is busy anyhow, and two batches lie in pinned memory."""
SHARE = 0.4
"""Of the free memory. A graph keeps what a pass needs, beside passes that are run without one."""


class BatchSizer:
    """Finds the batch size of each tile shape from what its first batch, of one tile, needed.

    Sizes are powers of two, so that few CUDA graphs serve all batches.

    Parameters
    ----------
    device : str
        As torch calls it. Anything but CUDA takes one tile at a time.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._cost: dict[tuple[int, ...], int] = {}  # bytes that a tile takes
        self._chosen: dict[tuple[int, ...], int] = {}
        self._limit: dict[tuple[int, ...], int] = {}  # what has fitted, once something has not

    def ask_again(self) -> None:
        """Look at the free memory anew, at the start of a run."""
        self._chosen.clear()

    def size(self, shape: tuple[int, ...]) -> int:
        """Return how many tiles (h, w) to compute at once: 1 until one has been measured."""
        if not self.device.startswith("cuda") or shape not in self._cost:
            return 1
        if shape not in self._chosen:
            fitting = int(SHARE * self._free()) // self._cost[shape]
            self._chosen[shape] = self._bounded(shape, fitting)
        return self._chosen[shape]

    def shrink(self, shape: tuple[int, ...], size: int) -> None:
        """Never again take more than `size` tiles (h, w): more did not fit."""
        self._limit[shape] = max(1, size)
        self._chosen[shape] = min(self._limit[shape], self._chosen.get(shape, size))

    @contextmanager
    def measuring(self, shape: tuple[int, ...], n: int) -> Iterator[None]:
        """Measure what `n` tiles (h, w) need within the block, unless it is known.

        It starts torch's record of the highest memory use of this device anew.
        """
        if not self.device.startswith("cuda") or shape in self._cost:
            yield
            return
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        yield
        peak = torch.cuda.max_memory_allocated(self.device) - before
        self._cost[shape] = max(1, -(-peak // n))

    def _free(self) -> int:
        """Bytes that torch can still get, or holds and does not use."""
        free, _ = torch.cuda.mem_get_info(self.device)
        held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(free + held)

    def _bounded(self, shape: tuple[int, ...], fitting: int) -> int:
        most = min(MAX_TILES, MAX_PIXELS // (shape[0] * shape[1]), fitting)
        size = 1 << (max(1, most).bit_length() - 1)
        return min(size, self._limit.get(shape, size))

"""Batches of tiles on their way to a device, the next one while the current one is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StagedBatch:
    """Tiles that are on the device, or on their way there.

    Attributes
    ----------
    tensor : Tensor
        (B, h, w) or (B, h, w, 3) float32 in [0, 1]; get it by :meth:`take`.
    copied : torch.cuda.Event or None
        When the copy has ended; None where it has ended already.
    """

    tensor: Tensor
    copied: Any = None

    def take(self) -> Tensor:
        """Return the tiles; what is queued on the current stream from here on waits for them."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.copied)
            # They were allocated for another stream, which knows nothing of this use.
            self.tensor.record_stream(stream)
        return self.tensor


class Feed(Protocol):
    """Brings tiles to a device."""

    def put(self, tiles: Sequence[Floats]) -> StagedBatch:
        """Stage tiles of one shape, (h, w) or (h, w, 3) float32."""


class PlainFeed:
    """Hands batches on as they are: for processors, and devices without streams."""

    def __init__(self, device: str) -> None:
        self._device = device

    def put(self, tiles: Sequence[Floats]) -> StagedBatch:
        """Stage tiles of one shape, (h, w) or (h, w, 3) float32."""
        return StagedBatch(torch.from_numpy(np.stack(tiles)).to(self._device))


class PinnedFeed:
    """Copies batches to a CUDA device beside what it computes, by way of two pinned buffers.

    While the device reads one buffer the other is filled, so that no more than two batches are on
    their way. For one thread.

    Parameters
    ----------
    device : str
        "cuda:0" or alike.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._buffers: list[Tensor | None] = [None, None]
        self._copied: list[Any] = [None, None]
        self._turn = 0

    def put(self, tiles: Sequence[Floats]) -> StagedBatch:
        """Stage tiles of one shape, (h, w) or (h, w, 3) float32; returns before they are copied."""
        slot, self._turn = self._turn, 1 - self._turn
        if self._copied[slot] is not None:
            self._copied[slot].synchronize()  # the device may still read this buffer
        shape = (len(tiles), *tiles[0].shape)
        pinned = self._buffer(slot, int(np.prod(shape))).view(shape)
        for target, tile in zip(pinned.numpy(), tiles, strict=True):
            np.copyto(target, tile)
        with torch.cuda.stream(self._stream):
            tensor = torch.empty(shape, device=self._device)
            tensor.copy_(pinned, non_blocking=True)
            copied = self._stream.record_event()
        self._copied[slot] = copied
        return StagedBatch(tensor, copied)

    def _buffer(self, slot: int, length: int) -> Tensor:
        held = self._buffers[slot]
        if held is None or len(held) < length:
            self._buffers[slot] = held = None  # before the larger one is asked for
            self._buffers[slot] = held = pinned_memory(length)
        return held[:length]


def pinned_memory(length: int) -> Tensor:
    """(length,) float32 on the host that a CUDA device reads without help of the processor."""
    return torch.empty(length, pin_memory=True)


def feed_for(device: str) -> Feed:
    """Return what brings tiles to a device."""
    return PinnedFeed(device) if device.startswith("cuda") else PlainFeed(device)


def fetch(results: Tensor) -> Callable[[], Floats]:
    """Begin to copy results from their device.

    Parameters
    ----------
    results : Tensor
        (B, h, w) float32; what computes it may still be under way.

    Returns
    -------
    callable
        Waits for the copy and returns it, (B, h, w) float32.
    """
    if results.device.type != "cuda":
        return results.cpu().numpy
    pinned = torch.empty(results.shape, dtype=results.dtype, pin_memory=True)
    pinned.copy_(results, non_blocking=True)
    copied = torch.cuda.current_stream(results.device).record_event()

    def wait() -> Floats:
        copied.synchronize()
        return np.array(pinned.numpy())  # pinned memory is scarce: torch takes it back

    return wait

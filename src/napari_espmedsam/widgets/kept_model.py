"""The model of the last run, kept for the next one. No Qt, and no torch without a model."""

from __future__ import annotations

import gc
from collections.abc import Hashable

from napari_espmedsam.widgets.worker import SegmenterLike


class KeptModel:
    """Holds one model at most: two may be more than the memory takes."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, SegmenterLike] | None = None

    def take(self, key: Hashable) -> SegmenterLike | None:
        """Return the model of a key; another one is let go at once."""
        if self._kept is not None and self._kept[0] != key:
            self._kept = None
        return None if self._kept is None else self._kept[1]

    def keep(self, key: Hashable, segmenter: SegmenterLike) -> None:
        """Keep a model in place of another one."""
        self._kept = key, segmenter

    def release(self) -> None:
        """Let go of the model, and give its memory back to the device if nobody else holds it."""
        if self._kept is None:
            return
        device = str(self._kept[1].device.device)
        self._kept = None
        if device != "cpu":  # the CPU needs no such thing
            from napari_espmedsam.inference.device import free_memory

            gc.collect()
            free_memory(device)

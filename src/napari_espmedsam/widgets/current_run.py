"""What a form knows of the run that is going on."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

from napari_espmedsam.widgets.activity import ActivityBar
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.results import ResultWriter
from napari_espmedsam.widgets.worker import Ended, Job


class CurrentRun:
    """One run that is going on: what it was started with, and how far it is."""

    def __init__(
        self,
        job: Job,
        prepared: Prepared,
        writer: ResultWriter,
        model_key: Hashable,
        activity: ActivityBar,
    ) -> None:
        self.job, self.prepared, self.writer = job, prepared, writer
        self.model_key = model_key
        self.activity = activity
        self.ended: Ended | None = None
        self.fault: Exception | None = None
        self.device: Any = None
        self._start = time.monotonic()

    def summary(self) -> str:
        """Say what a complete run has done."""
        seconds = time.monotonic() - self._start
        done = count_planes(self.prepared.n_planes)
        if self.prepared.request.output != "mask":
            n = self.writer.objects
            each = ", counted plane by plane," if self.prepared.n_planes > 1 else ""
            done += f", {n} object{'s'[: n != 1]}{each}"
        device = f" on {self.device.device}" if self.device is not None else ""
        note = getattr(self.device, "note", "")  # why it is not the one that was asked for
        return f"Done: {done} in {seconds:.1f} s{device}.{f' {note}' if note else ''}"


def count_planes(count: int) -> str:
    """Write a number of planes in words: ``1 plane``, ``12 planes``."""
    return f"{count} plane{'s'[: count != 1]}"

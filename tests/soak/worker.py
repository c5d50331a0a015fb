"""What is done in a soak: all that the random user does, and batch jobs among it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import tifffile
from qtpy.QtTest import QTest

from tests.widgets.random_user import Walk

IMAGES = 4
_POOL = ThreadPoolExecutor(1)


class NoClock:
    """Measures nothing: how long the window is held up is the business of `test_random_walk`."""

    changes = 0

    def note_change(self, _event: Any = None) -> None:
        """Ignore a change of the window."""

    @contextmanager
    def measure(self, _what: str) -> Iterator[None]:
        """Do what is to be measured."""
        yield


class Mouse:
    """The part of ``qtbot`` that the random user needs, without pytest."""

    mousePress = staticmethod(QTest.mousePress)  # noqa: N815 (Qt's name)
    mouseRelease = staticmethod(QTest.mouseRelease)  # noqa: N815

    def addWidget(self, widget: Any) -> None:  # noqa: N802 (Qt's name)
        """Nothing: the worker closes what it opens."""


def write_images(folder: Path) -> Path:
    """Write images of several kinds for batch jobs, one of them broken."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(IMAGES):
        shape = (3, 64, 96) if number == 0 else (64 + 8 * number, 96)
        blocks = np.random.default_rng(number).integers(0, 4000, (*shape[:-2], shape[-2] // 8, 12))
        pixels = blocks.astype(np.uint16).repeat(8, -1).repeat(8, -2)
        tifffile.imwrite(folder / f"img{number}.tif", pixels, photometric="minisblack")
    whole = (folder / "img1.tif").read_bytes()
    (folder / "broken.tif").write_bytes(whole[: len(whole) // 3])
    return folder


class Worker(Walk):
    """A random user who has batch jobs as well. `folder` holds ``in`` and takes the rest."""

    def __init__(self, viewer: Any, folder: Path) -> None:
        super().__init__(viewer, folder, NoClock(), Mouse())
        fields = self.dock.batch.fields
        fields.inputs.setPlainText(str(folder / "in"))
        fields.results.setText(str(folder / "out"))

    def _open(self) -> None:
        super()._open()
        if hasattr(self, "rng"):
            self.dock.tabs.setCurrentIndex(self.rng.randrange(4))

    # Batch ------------------------------------------------------------------------------------

    def do_batch(self) -> None:
        """Start a job, into a folder that may hold results of another one."""
        batch = self.dock.batch
        if batch.fields.isEnabled():
            fields = batch.fields
            fields.inputs.setPlainText(str(self.folder / "in"))
            fields.results.setText(str(self.folder / f"out{self.rng.randrange(2)}"))
            for box in fields.formats.values():
                box.setChecked(self.rng.random() < 0.5)
            fields.overwrite.setChecked(self.rng.random() < 0.5)
            self.rng.choice([batch.run_button, batch.run_button, batch.dry_button]).click()

    do_batch_again = do_batch

    def do_batch_pause(self) -> None:
        self.dock.batch.pause_button.click()

    def do_batch_cancel(self) -> None:
        if self.rng.random() < 0.5:
            self.dock.batch.cancel_button.click()

    def do_batch_open(self) -> None:
        batch = self.dock.batch
        rows = len(batch.model.rows)
        if rows and len(self.viewer.layers) < 12:
            batch.table.selectRow(self.rng.randrange(rows))
            batch.open_button.click()

    def do_batch_write(self) -> None:
        self.dock.batch.write_button.click()

    # The soak ---------------------------------------------------------------------------------

    def is_busy(self) -> bool:
        batch = self.dock.batch
        working = batch.is_running and not batch.work.paused
        return super().is_busy() or working or batch.files.is_busy

    def work(self, steps: int, seed: int) -> Iterator[str]:
        """Do so many things one after the other; yields the name of each."""
        for number in range(steps):
            yield self.step(number, seed)
            self.check_mine()

    def leave(self) -> None:
        """Close the dock and remove all layers, as at the end of a day."""
        self.shut()
        self.wait_for_the_end()
        end_pools_of_ended_threads()
        self.mine.clear()
        self.viewer.layers.clear()
        self.viewer.dims.ndisplay = 2
        for _ in range(5):
            self.process("leaving")
            time.sleep(0.01)


def end_pools_of_ended_threads() -> None:
    """Have Dask end the pools that it keeps for threads that have ended.

    It does so whenever a thread other than the main one computes something: here in a pool that
    stays, since Dask keeps each new one until the process ends.
    """
    computing = threading.Thread(
        target=dask.compute,
        args=(dask.delayed(int)(),),
        kwargs={"scheduler": "threads", "pool": _POOL},
    )
    computing.start()
    computing.join()


def seed_of(seed: int, number: int) -> int:
    """Return a seed for each round."""
    return random.Random(f"{seed} {number}").randrange(2**32)

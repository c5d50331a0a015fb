"""Work for hours in one process: ``xvfb-run -a python -m tests.soak --hours 2``, from a clone.

A random user opens viewers and docks, segments, edits prompts live, undoes, saves and loads them,
looks at objects, runs batch jobs, and cancels what is going on. After each round all is closed and
what the process still holds is read. Exits with 1 where, compared with the end of the warm-up,
memory of its own (without the pages of libraries, which the system drops and reads at will) has
grown by more than 5 %, a thread or an open file is left, or where anything raises.

Without ``--window`` the viewers have layers, dims and our dock, but no canvas: under Mesa's
software OpenGL napari's own canvas ends the process after minutes of adding and removing layers,
with or without this plugin (``tests/soak/canvas_alone.py``).
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.soak.meter import MEBIBYTE, Meter, give_back_at_once

WARM_UP = 600  # s at most; less in a short soak, see _warm_up
STEPS = 60  # of a round
ROUNDS = 4  # of a viewer
MODULES = ("widgets.pickers", "widgets.segment", "widgets.worker", "inference.segmenter",
           "batch.job", "weights")  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS, help="actions between two readings")
    parser.add_argument("--window", action="store_true", help="with napari's window and canvas")
    parser.add_argument("--shipped", action="store_true", help="the bundled model, not a tiny one")
    found = parser.parse_args()
    found.seconds = 60 * (60 * found.hours + found.minutes)
    if found.seconds <= 0:
        parser.error("say how long: --hours 2, or --minutes 10")
    return found


def _prepare() -> None:
    """Keep the settings of the user out of it; before napari is imported."""
    faulthandler.enable()
    give_back_at_once()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["NAPARI_ESPMEDSAM_SETTINGS"] = ""
    os.environ["NAPARI_ESPMEDSAM_BACKEND"] = "torch"  # no export of tiny models
    os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="soak-")) / "napari.yaml")


def soak(seconds: float, seed: int, steps: int, folder: Path, viewers: Any) -> list[str]:
    """Work for some time.

    Parameters
    ----------
    seconds
        How long; the round that is going on is ended.
    seed
        Decides what is done; when it is done depends on the machine.
    steps
        Actions of a round.
    folder
        For all files.
    viewers
        Makes a viewer.

    Returns
    -------
    list of str
        What is wrong: nothing, if all is well.
    """
    from tests.soak.faults import watch
    from tests.soak.worker import Worker, seed_of, write_images

    write_images(folder / "in")
    meter, done, last = Meter(), Counter(), deque(maxlen=25)
    start, number, viewer = time.monotonic(), 0, None
    with watch() as faults:
        while (spent := time.monotonic() - start) < seconds:
            if not meter.warm and spent > min(WARM_UP, seconds / 4) and len(meter.readings) > 1:
                meter.end_warm_up()
                print("the warm-up is over", flush=True)
            viewer = viewers() if viewer is None else viewer
            worker = Worker(viewer, folder)
            try:
                for what in worker.work(steps, seed_of(seed, number)):
                    done[what], _ = done[what] + 1, last.append(what)
                    if faults:
                        break
                worker.leave()
            except Exception:
                faults.append(traceback.format_exc())
            if faults:
                return [*faults, f"seed {seed}, round {number}; the last steps: {list(last)}"]
            number += 1
            if number % ROUNDS == 0:
                getattr(viewer, "close", lambda: None)()  # without a window there is none
                worker.process("closing")
                viewer = None
            del worker
            print(f"{meter.read(time.monotonic() - start)} round {number}", flush=True)
    print(f"{sum(done.values())} actions in {number} rounds: {dict(sorted(done.items()))}")
    print(f"memory after the warm-up: {meter.growth:+.1%}")
    return meter.faults()


def main() -> int:
    """Soak with real windows, and say how it went."""
    asked = _arguments()
    _prepare()
    from contextlib import ExitStack

    import dask
    import napari
    import zarr
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    from tests.tiny_model import save_tiny

    application = QApplication.instance() or QApplication([])  # napari's window brings its own
    assert application is not None
    # Libraries keep as many threads as there was ever work for at once: here, from the first on.
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    dask.config.set(num_workers=1)
    # napari keeps what it has shown of Dask arrays, up to a quarter of the memory: full at once.
    napari.utils.resize_dask_cache(MEBIBYTE)

    def open_viewer() -> Any:
        viewer = napari.Viewer()
        viewer.window.resize(900, 700)
        return viewer

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        if not asked.shipped:
            weights = save_tiny(folder / "tiny.safetensors")
            for module in MODULES:
                name = f"napari_espmedsam.{module}.resolve_checkpoint"
                stack.enter_context(patch(name, lambda _name=None: weights))
        viewers = open_viewer if asked.window else ViewerModel
        wrong = soak(asked.seconds, asked.seed, asked.steps, folder, viewers)
    for text in wrong:
        print(f"WRONG: {text}")
    print("failed" if wrong else "passed")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())

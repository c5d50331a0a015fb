"""Make the pictures of the documentation.

Run it with ``xvfb-run -s "-screen 0 1400x900x24" python docs/make_screenshots.py``.

Opens napari with the sample images, runs the widget as a user would and writes
``docs/images/segment_stack.png``, ``segment_running.png`` and ``segment_he.png``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-espmedsam"
FOLDER = Path(__file__).parent / "images"


def wait(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    """Let Qt work until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("napari did not get there in time")
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """Let Qt draw for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def save(viewer: Any, name: str) -> None:
    """Write the whole window."""
    pause(1.0)
    viewer.screenshot(str(FOLDER / name), canvas_only=False, flash=False)
    print(FOLDER / name)


def open_sample(viewer: Any, key: str) -> None:
    """Show one sample alone."""
    viewer.layers.clear()
    viewer.open_sample(PLUGIN, key)
    viewer.reset_view()


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="weight file instead of the bundled one")
    model = parser.parse_args().model
    FOLDER.mkdir(exist_ok=True)
    os.environ["NAPARI_ESPMEDSAM_SETTINGS"] = ""  # the pictures show the defaults
    viewer = napari.Viewer(show=False)
    viewer.show()
    viewer.window.resize(1360, 860)
    _dock, tabs = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
    widget = tabs.segment
    if model is not None:
        widget.form.model.add_file(model)
        wait(lambda: bool(widget.form.model.modalities))
    open_sample(viewer, "nuclei_stack")
    widget.form.fields["output"].value = "split"
    widget.run()
    wait(lambda: widget.progress_bar.value() > widget.progress_bar.maximum() / 2)
    save(viewer, "segment_running.png")
    wait(lambda: not widget.is_running)
    viewer.dims.set_current_step(0, 6)
    save(viewer, "segment_stack.png")
    open_sample(viewer, "he_field")
    widget.run()
    wait(lambda: not widget.is_running)
    viewer.layers[-1].contour = 2
    save(viewer, "segment_he.png")
    viewer.close()


if __name__ == "__main__":
    main()

"""Make the pictures of the documentation.

Run it with ``xvfb-run -s "-screen 0 1400x900x24" python docs/make_screenshots.py``.

Opens napari with the sample images, runs the widget as a user would and writes
``docs/images/segment_stack.png``, ``segment_running.png``, ``segment_he.png``, ``objects.png`` and
``batch.png``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import tifffile
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_espmedsam.samples import nuclei_stack

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


def show_objects(viewer: Any, tabs: Any) -> None:
    """Take the picture of the tab "Objects" while the prompts of a plane are shown."""
    tabs.prompts.show_prompts()
    wait(lambda: tabs.prompts.studio is not None and tabs.prompts.studio.session is not None)
    session = tabs.prompts.studio.session
    wait(lambda: session.visible is not None and session.idle)
    for layer in viewer.layers:
        layer.visible = layer.name in ("nuclei stack", "nuclei stack - espmedsam live")
    tabs.tabs.setCurrentWidget(tabs.objects)
    tabs.objects.show_layer(tabs.prompts.studio.layers.labels.layer)
    wait(lambda: tabs.objects.table is not None and "doubt" in tabs.objects.table.columns)
    tabs.objects.next_object()
    save(viewer, "objects.png")
    tabs.prompts.hide_prompts()


def show_batch(viewer: Any, tabs: Any) -> None:
    """Take the picture of the tab "Batch" after a job with one damaged file."""
    viewer.layers.clear()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the picture shows short paths
        Path("plates").mkdir()
        for number, plane in enumerate(nuclei_stack()[4:8]):
            tifffile.imwrite(f"plates/well_A{number + 1}.tif", plane)
        Path("plates/well_A5.tif").write_bytes(Path("plates/well_A4.tif").read_bytes()[:999])
        tabs.tabs.setCurrentWidget(tabs.batch)
        tabs.batch.fields.inputs.add("plates")
        tabs.batch.fields.results.setText("results")
        tabs.batch.run()
        wait(lambda: not tabs.batch.is_running)
        tabs.batch.open_file(1)
        wait(lambda: len(viewer.layers) == 2)
        save(viewer, "batch.png")
        os.chdir(here)


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
    show_objects(viewer, tabs)
    tabs.tabs.setCurrentWidget(widget)
    open_sample(viewer, "he_field")
    widget.run()
    wait(lambda: not widget.is_running)
    viewer.layers[-1].contour = 2
    save(viewer, "segment_he.png")
    show_batch(viewer, tabs)
    viewer.close()


if __name__ == "__main__":
    main()

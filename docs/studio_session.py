"""Work in the prompt editor as a user would, check each step, and take its picture.

Run it with ``xvfb-run -s "-screen 0 1400x900x24" python docs/studio_session.py``.

Opens the sample stack in a real window, with the bundled weights: run, show prompts, erase an
object with the mouse, undo, move a slider, change the modality, save the prompts, open them again.
It ends with an error where a step does not do what it should, and writes
``docs/images/studio_*.png``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from make_screenshots import FOLDER, PLUGIN, pause, wait
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest


class Session:
    """A window with the plugin's dock, and a folder for pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer: Any = napari.Viewer(show=False)
        self.viewer.show()
        self.viewer.window.resize(1360, 860)
        _dock, self.tabs = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
        self.count = 0

    @property
    def studio(self) -> Any:
        """The live session of the tab "Prompts"."""
        return self.tabs.prompts.studio

    @property
    def labels(self) -> Any:
        """A copy of the labels on the screen."""
        plane = self.studio.layers.labels.layer.data[self.viewer.dims.current_step[0]]
        return np.array(plane)

    def picture(self, name: str) -> None:
        """Write the window."""
        pause(0.5)
        self.count += 1
        path = self.folder / f"studio_{self.count}_{name}.png"
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        print(path, flush=True)

    def settle(self) -> None:
        """Wait until all that is on the screen is up to date."""

        def is_done() -> bool:
            session = None if self.studio is None else self.studio.session
            return session is not None and session.visible is not None and session.idle

        pause(0.1)
        wait(is_done)
        pause(0.1)

    def click(self, world: Any) -> None:
        """Press and release the left mouse button over a place of the image."""
        canvas = self.viewer.window._qt_viewer.canvas
        x, y = canvas.view.scene.transform.map([*world[::-1], 0, 1])[:2]
        place = QPoint(round(float(x)), round(float(y)))
        QTest.mouseMove(canvas.native, place)
        pause(0.1)
        QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=place)
        pause(0.1)


def check(condition: Any, text: str) -> None:
    """End with an error where a step did not do what it should."""
    if not condition:
        raise SystemExit(f"not so: {text}")
    print(f"ok: {text}", flush=True)


def main() -> None:
    """Go through the session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the pictures")
    parser.add_argument("--model", type=Path, help="weight file instead of the bundled one")
    options = parser.parse_args()
    os.environ["NAPARI_ESPMEDSAM_SETTINGS"] = ""  # the defaults, whatever the user has set
    options.out.mkdir(exist_ok=True)
    session = Session(options.out)
    if options.model is not None:
        form = session.tabs.segment.form
        form.model.add_file(options.model)
        wait(lambda: bool(form.model.modalities))
    with tempfile.TemporaryDirectory() as temporary:
        go_through(session, Path(temporary) / "nuclei.espprompts.json")
    session.viewer.close()


def go_through(s: Session, file: Path) -> None:
    """Do it step by step."""
    viewer, segment, prompts = s.viewer, s.tabs.segment, s.tabs.prompts
    viewer.open_sample(PLUGIN, "nuclei_stack")
    image = viewer.layers[0]
    before = np.array(image.data)
    viewer.dims.set_current_step(0, 6)
    segment.form.fields["output"].value = "split"
    segment.form.scope.setCurrentText("this plane")
    segment.run()
    wait(lambda: not segment.is_running)
    check(viewer.layers[-1].data[6].any(), "Run finds objects")
    viewer.layers[-1].visible = False

    s.tabs.tabs.setCurrentWidget(prompts)
    prompts.show_prompts()
    s.settle()
    check(s.labels.any(), "Show prompts gives live labels")
    s.picture("prompts")

    labels = s.labels
    chosen = lonely_object(s, labels)
    erase(s, labels == chosen)
    gone = s.labels
    s.picture("erased")
    left = (gone[labels == chosen] > 0).mean()
    check(
        left < 0.1, f"an object whose cells are erased is gone ({100 * left:.0f} % of its px left)"
    )
    others = (labels > 0) & (labels != chosen)
    check(((gone > 0) == (labels > 0))[others].mean() > 0.95, "the others stay")

    while s.tabs.prompts.undo_button.isEnabled():
        s.tabs.prompts.undo_button.click()
        s.settle()
    check(np.array_equal(s.labels, labels), "Undo gives the same labels again")

    slider = prompts.controls.fields["threshold"].slider
    slider.setValue(slider.value() + 350)
    s.settle()
    check((s.labels > 0).sum() < (labels > 0).sum(), "a higher threshold finds less")
    s.picture("threshold")
    prompts.undo_button.click()
    s.settle()

    prompts.modality.setCurrentText("ultrasound")
    prompts.modality.activated.emit(prompts.modality.currentIndex())
    s.settle()
    check(not np.array_equal(s.labels, labels), "another modality gives other labels")
    wait(prompts.hint_button.isVisible)
    check("microscopy" in prompts.hint_button.text(), "the hint names the modality that suits")
    s.picture("modality")
    prompts.undo_button.click()
    s.settle()
    check(np.array_equal(s.labels, labels), "Undo goes back to the modality")

    erase(s, labels == chosen)
    edited = s.labels
    prompts.save_prompts(file)
    wait(file.is_file)
    pause(0.5)
    prompts.hide_prompts()
    live = [layer for layer in viewer.layers if layer.name.endswith("live")]
    viewer.layers.remove(live[0])
    prompts.load_prompts(file)
    wait(lambda: s.studio is not None)
    s.settle()
    check(np.array_equal(s.labels, edited), "the file gives the same labels again")
    s.picture("opened_again")
    check(np.array_equal(image.data, before), "the image is as it was")
    prompts.hide_prompts()


def lonely_object(s: Session, labels: Any) -> int:
    """Find the largest object that has its prompt cells for itself."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    for chosen in ids[np.argsort(-areas)]:
        cells = set(cells_of(s, labels == chosen))
        if cells.isdisjoint(cells_of(s, (labels > 0) & (labels != chosen))):
            return int(chosen)
    raise SystemExit("not so: some object has its prompt cells for itself")


def cells_of(s: Session, part: Any) -> list[tuple[int, ...]]:
    """Rows and columns of the prompt cells that a part of the plane touches."""
    cells = s.studio.layers.prompts.cells
    step = s.viewer.dims.current_step[0]
    shown = s.studio.layers.labels.layer
    world = (shown.data_to_world((step, y, x)) for y, x in np.argwhere(part))
    return sorted({tuple(int(i) for i in np.round(cells.world_to_data(w)[-2:])) for w in world})


def erase(s: Session, part: Any) -> None:
    """Take the eraser and click on every prompt cell that an object touches."""
    cells = s.studio.layers.prompts.cells
    s.viewer.layers.selection.active = cells
    cells.mode = "erase"
    cells.brush_size = 1
    for place in cells_of(s, part):
        s.click(cells.data_to_world(place)[-2:])
    s.settle()


if __name__ == "__main__":
    main()

"""Make the moving picture of the prompt editor, ``docs/images/prompt_editor.gif``.

Run it with ``xvfb-run -s "-screen 0 1400x900x24" python docs/make_gif.py``.

Works in a real window as ``studio_session.py`` does, with the bundled weights: shows the prompts of
the sample stack, erases a nucleus cell by cell, undoes it, moves the threshold and tries another
modality.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from make_screenshots import FOLDER, PLUGIN, pause
from PIL import Image, ImageDraw, ImageFont
from studio_session import Session, cells_of, check, lonely_object

LARGEST = 1_500_000  # bytes: pages of the napari hub and of PyPI load it at once
WINDOW = (1040, 700)
WIDTH = 832  # px of the picture
STRIP = 36  # px below it, for what is being done


class Film:
    """Frames of a window, each with the words below it and the time that it stays."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._font = ImageFont.load_default(size=17)
        self._frames: list[Image.Image] = []
        self._times: list[int] = []

    def take(self, text: str, seconds: float) -> None:
        """Add what the window shows."""
        pause(0.4)
        shot = self._session.viewer.screenshot(canvas_only=False, flash=False)
        window = Image.fromarray(shot[..., :3])
        height = round(window.height * WIDTH / window.width)
        frame = Image.new("RGB", (WIDTH, height + STRIP), "white")
        frame.paste(window.resize((WIDTH, height), Image.Resampling.LANCZOS))
        ImageDraw.Draw(frame).text((10, height + 8), text, "black", self._font)
        self._frames.append(frame)
        self._times.append(round(1000 * seconds))
        print(f"{len(self._frames)}: {text}", flush=True)

    def save(self, path: Path) -> None:
        """Write the film, in one set of colours, so that nothing flickers."""
        every = Image.fromarray(np.concatenate([np.asarray(frame) for frame in self._frames]))
        colours = every.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
        first, *others = (
            frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in self._frames
        )
        first.save(
            path, save_all=True, append_images=others, duration=self._times, loop=0, optimize=True
        )
        size = path.stat().st_size
        check(size < LARGEST, f"{path} has {size} bytes, fewer than {LARGEST}")


def open_prompts(session: Session, film: Film) -> None:
    """Show the sample in a window without the lists of layers, then its prompts."""
    viewer = session.viewer
    viewer.window.resize(*WINDOW)
    viewer.open_sample(PLUGIN, "nuclei_stack")
    viewer.dims.set_current_step(0, 6)
    for part in ("dockLayerList", "dockLayerControls"):
        getattr(viewer.window._qt_viewer, part).setVisible(False)
    session.tabs.tabs.setCurrentWidget(session.tabs.prompts)
    pause(0.5)
    viewer.reset_view()
    getattr(viewer, "scene", viewer).camera.zoom *= 1.7
    film.take("An image, and the tab Prompts", 1.5)
    session.tabs.segment.form.fields["output"].value = "split"
    session.tabs.prompts.show_prompts()
    session.settle()
    film.take("Show prompts: where the model proposes to look, and its labels", 2.5)


def central_object(session: Session, labels: Any) -> Any:
    """Return the pixels of an object near the middle that has its prompt cells for itself."""
    middle = np.zeros_like(labels)
    rows, columns = (slice(n * 3 // 10, n * 7 // 10) for n in labels.shape)
    middle[rows, columns] = labels[rows, columns]
    return labels == lonely_object(session, middle)


def erase_one(session: Session, film: Film) -> None:
    """Erase the cells of one object, one by one, and take it back."""
    labels = session.labels
    chosen = central_object(session, labels)
    cells = session.studio.layers.prompts.cells
    session.viewer.layers.selection.active = cells
    cells.mode = "erase"
    cells.brush_size = 1
    for place in cells_of(session, chosen):
        session.click(cells.data_to_world(place)[-2:])
        session.settle()
        film.take("Erase cells: the labels follow each stroke", 0.6)
    check((session.labels[chosen] > 0).mean() < 0.1, "the object is gone")
    film.take("Its nucleus is gone, the others stay", 1.8)
    while session.tabs.prompts.undo_button.isEnabled():
        session.tabs.prompts.undo_button.click()
        session.settle()
    check(np.array_equal(session.labels, labels), "Undo gives the same labels again")
    film.take("Undo brings it back", 1.8)


def move_threshold(session: Session, film: Film) -> None:
    """Move the threshold up and take it back."""
    slider = session.tabs.prompts.controls.fields["threshold"].slider
    found = (session.labels > 0).sum()
    for _ in range(2):
        slider.setValue(slider.value() + 220)
        session.settle()
        film.take("Threshold: nothing is encoded again", 1.0)
    check((session.labels > 0).sum() < found, "a higher threshold finds less")
    while session.tabs.prompts.undo_button.isEnabled():
        session.tabs.prompts.undo_button.click()
        session.settle()


def try_modality(session: Session, film: Film) -> None:
    """Decode as another modality."""
    modality = session.tabs.prompts.modality
    modality.setCurrentText("ultrasound")
    modality.activated.emit(modality.currentIndex())
    session.settle()
    film.take("Another modality; a hint offers the one that suits", 2.2)


def main() -> None:
    """Make the film."""
    os.environ["NAPARI_ESPMEDSAM_SETTINGS"] = ""  # the defaults, whatever the user has set
    session = Session(FOLDER)
    film = Film(session)
    open_prompts(session, film)
    erase_one(session, film)
    move_threshold(session, film)
    try_modality(session, film)
    session.tabs.prompts.hide_prompts()
    film.save(FOLDER / "prompt_editor.gif")
    session.viewer.close()


if __name__ == "__main__":
    main()

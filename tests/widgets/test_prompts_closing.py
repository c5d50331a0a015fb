"""A window that closes while prompts are shown, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import numpy as np, napari
from qtpy.QtCore import QTimer
from napari_espmedsam.studio.events import PlaneReady, PromptView
from napari_espmedsam.widgets.form import SegmentForm
from napari_espmedsam.widgets.prompts_tab import PromptsTab
import napari_espmedsam.widgets.bridge as bridge
import napari_espmedsam.widgets.prompts_tab as prompts_tab

class Session:
    header = type("H", (), {"modalities": ("a",), "threshold_for": lambda self, name: 0.5})()
    undo_text = redo_text = ""
    visible, revision, leading_shape = None, 0, ()
    def __init__(self, say, settings):
        self.say, self.settings = say, settings
    def show(self, plane):
        self.visible = plane
        heat, state = np.zeros((2, 2), np.float32), np.ones((2, 2), np.uint8)
        cells = PromptView(heat, state, (16, 16), (7.5, 7.5))
        self.say(PlaneReady(0, (), (0, 0), np.ones((32, 32), np.uint32), "a", 0, cells))
    def is_current(self, plane):
        return True
    def close(self, wait=False):
        pass

prompts_tab.opener = lambda prepared, load, region: lambda say: Session(say, prepared.request)
viewer = napari.Viewer(show=False)
viewer.add_image(np.zeros((32, 32), np.uint8))
form = SegmentForm(viewer)
tab = PromptsTab(viewer, form.prepare)
viewer.window.add_dock_widget(tab)
def look():
    print(len(viewer.layers), tab.status.text())
    if sys.argv[1] == "hide":
        tab.hide_prompts()
    elif sys.argv[1] == "close":
        tab.close_session()
    viewer.close()  # before Qt has deleted what was just closed
QTimer.singleShot(100, tab.show_prompts)
QTimer.singleShot(1000, look)
QTimer.singleShot(1200, napari.qt.get_qapp().quit)
napari.run()
print("ended")
"""


@pytest.mark.parametrize("first", ["nothing", "hide", "close"])
def test_a_window_closes_cleanly_with_a_session(first: str, tmp_path: Path) -> None:
    """A process of its own: what is deleted in the wrong order ends it without a word."""
    script = tmp_path / "session.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), first], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0].startswith("4 ")
    assert done.stdout.endswith("ended\n")
    for word in ("QThread", "Traceback", "deleted"):
        assert word not in done.stderr, done.stderr

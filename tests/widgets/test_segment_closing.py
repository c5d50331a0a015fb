"""Closing the dock or the viewer during a run: the worker stops, nothing is left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QThreadPool

from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.kept_model import KeptModel
from napari_espmedsam.widgets.segment import SegmentWidget


def _start(open_widget: Any, fake: Any, qtbot: Any) -> tuple[Any, Any]:
    viewer, widget = open_widget()
    viewer.add_image(np.ones((4, 32, 40), np.uint8), name="cells")
    fake.hold()
    widget.run()
    qtbot.waitUntil(lambda: fake.tiles_started == 1)
    return viewer, widget


def _dock_of(widget: Any) -> Dock:
    while not isinstance(widget, Dock):
        widget = widget.parentWidget()
    return widget


def _close_dock(open_widget: Any, fake: Any, qtbot: Any) -> tuple[Any, Any]:
    viewer, widget = _start(open_widget, fake, qtbot)
    viewer.window.remove_dock_widget(_dock_of(widget))
    fake.let(1)
    qtbot.waitUntil(lambda: fake.closed)
    qtbot.waitUntil(lambda: not widget.is_running)
    return viewer, weakref.ref(widget)


def test_closing_the_dock_stops_the_run_and_frees_the_widget(open_widget, fake, qtbot) -> None:
    _viewer, left = _close_dock(open_widget, fake, qtbot)
    assert fake.tiles_started == 1
    qtbot.wait(50)
    gc.collect()
    assert left() is None, gc.get_referrers(left())


def test_closing_the_viewer_stops_the_run(open_widget, fake, qtbot) -> None:
    viewer, _widget = _start(open_widget, fake, qtbot)
    viewer.close()
    fake.let(99)
    assert QThreadPool.globalInstance().waitForDone(10_000)
    assert fake.tiles_started <= 2


PROGRAM = """
import sys, threading, time
import numpy as np, napari
from qtpy.QtCore import QTimer
from napari_espmedsam.inference.results import TileDone

class Slow:
    class device: device, reason = "cpu", "a test"
    def awaits(self, modality): return ""
    def iter_segment(self, image, **options):
        for i in range(1000):
            time.sleep(0.05)
            yield TileDone(0, 1, i, 1000)

viewer = napari.Viewer(show=False)
assert "torch" not in sys.modules
dock, tabs = viewer.window.add_plugin_dock_widget("napari-espmedsam", "Segment")
widget = tabs.segment
viewer.open_sample("napari-espmedsam", "nuclei_stack")
print("torch" in sys.modules, widget.form.axes.text(), widget.form.image.currentText())
widget._load = lambda request: Slow()
import napari_espmedsam.widgets.segment as segment
import napari_espmedsam.widgets.pickers as pickers
import pathlib
for module in (segment, pickers):
    module.resolve_checkpoint = lambda name: pathlib.Path(__file__)
QTimer.singleShot(300, widget.run)
QTimer.singleShot(1500, viewer.close)
QTimer.singleShot(1600, napari.qt.get_qapp().quit)
napari.run()
print("closed")
"""


def test_napari_ends_cleanly_while_a_run_goes_on(tmp_path: Any) -> None:
    """A process of its own: opening needs no torch, and closing aborts nothing."""
    script = tmp_path / "session.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "ZYX", "nuclei", "stack", "closed"]
    for word in ("QThread", "Traceback", "deleted"):
        assert word not in done.stderr, done.stderr


@pytest.mark.parametrize("when", ["idle", "running"])
@pytest.mark.parametrize("how", ["the dock closes", "the widget is deleted"])
def test_closing_gives_the_memory_of_the_model_back(
    qtbot, weights, fake, finish, monkeypatch, when: str, how: str
) -> None:
    freed: list[str] = []
    monkeypatch.setattr("napari_espmedsam.inference.device.free_memory", freed.append)
    viewer, fake.device = ViewerModel(), SimpleNamespace(device="cuda:0", reason="a test")
    viewer.add_image(np.ones((32, 40), np.uint8))
    widget = SegmentWidget(viewer, loader=fake.load)
    kept = widget._model
    widget.run()
    finish(widget)
    assert freed == []
    if when == "running":
        fake.hold()
        widget.run()
        qtbot.waitUntil(lambda: fake.tiles_started == 3)
    if how == "the dock closes":
        widget.release()
        assert freed == ([] if when == "running" else ["cuda:0"]), "a tile is being computed"
        fake.let(9)
        finish(widget)
        assert freed == ["cuda:0"]
    widget.deleteLater()
    qtbot.waitUntil(lambda: freed == ["cuda:0"])
    fake.let(9)
    assert QThreadPool.globalInstance().waitForDone(10_000)
    assert kept._kept is None


class _Model:
    device = SimpleNamespace(device="cpu", reason="a test")


def test_a_model_is_kept_until_another_is_wanted() -> None:
    kept, one, two = KeptModel(), _Model(), _Model()
    assert kept.take("one") is None
    kept.keep("one", one)
    assert kept.take("one") is one
    left, one = weakref.ref(one), None
    assert kept.take("two") is None
    gc.collect()
    assert left() is None, "two models at a time"
    kept.keep("two", two)
    kept.release()
    kept.release()
    assert kept.take("two") is None

"""Whichever half of a Qt object goes first, what it leaves behind is put in order."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.farewell import Farewell


def collect_elsewhere() -> None:
    """Let the garbage be collected in a thread, as a worker's allocations may do."""
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()


@pytest.fixture
def quiet(qtbot: Any) -> Any:
    """Keep Python from collecting garbage by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Page(QWidget):
    """A widget that says farewell, and that a circle of references may hold."""

    def __init__(self, call: Callable[[], object], *, in_circle: bool) -> None:
        super().__init__()
        self.farewell = Farewell(self, call)
        if in_circle:
            self.me = self


def put_away(call: Callable[[], object], *, in_circle: bool, later: bool) -> None:
    """Make a window with a page and leave it, as napari leaves the widget of a dock."""
    top = QWidget()
    top.me = top  # type: ignore[attr-defined]
    QVBoxLayout(top).addWidget(Page(call, in_circle=in_circle))
    if later:
        top.deleteLater()


@pytest.mark.parametrize("in_circle", [False, True])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("collect", [gc.collect, collect_elsewhere])
def test_a_farewell_is_said_once_and_in_the_gui_thread(
    quiet: None, qtbot: Any, later: bool, collect: Any, in_circle: bool
) -> None:
    said: list[str] = []

    def say(what: str) -> None:
        said.append(f"{what} in {threading.current_thread().name}")

    put_away(partial(say, "farewell"), in_circle=in_circle, later=later)
    collect()
    qtbot.wait(20)
    gc.collect()
    assert said == ["farewell in MainThread"]


def test_a_cancelled_farewell_is_not_said_and_holds_nothing(qtbot: Any) -> None:
    class Thing:
        pass

    said: list[Any] = []
    leaving, thing = QObject(), Thing()
    left = weakref.ref(thing)
    farewell = Farewell(leaving, partial(said.append, thing))
    farewell.cancel()
    del thing
    assert left() is None
    leaving.deleteLater()
    qtbot.wait(20)
    assert said == []


@pytest.mark.parametrize("collect", [gc.collect, collect_elsewhere])
def test_a_dock_that_qt_deletes_ends_its_threads_and_gives_its_keys_back(
    quiet: None, qtbot: Any, checkpoint: Path, monkeypatch: Any, idle: Any, collect: Any
) -> None:
    """Nobody closes the dock: the window goes, and takes it along."""
    for module in ("widgets.pickers", "widgets.segment", "inference.segmenter"):
        name = f"napari_espmedsam.{module}.resolve_checkpoint"
        monkeypatch.setattr(name, lambda _name=None: checkpoint)
    viewer = ViewerModel()
    before = dict(viewer.keymap)
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    viewer.add_labels(np.ones((64, 64), np.uint8))
    window = QWidget()
    dock = Dock(viewer)
    QVBoxLayout(window).addWidget(dock)
    window.show()
    dock.tabs.setCurrentWidget(dock.objects)
    dock.prompts.show_prompts()
    idle(dock.prompts.studio)
    with qtbot.waitSignal(dock.objects.scores_wanted):
        dock.objects.refresh_button.click()
    assert _threads() == {"espmedsam-objects", "espmedsam-session"}
    assert viewer.keymap != before
    left = weakref.ref(dock)
    window.deleteLater()
    del window, dock
    collect()
    qtbot.wait(20)
    qtbot.waitUntil(lambda: not _threads())
    gc.collect()
    assert left() is None
    assert viewer.keymap == before


def test_napari_closes_the_dock_while_a_thread_collects(
    quiet: None, qtbot: Any, open_widget: Any
) -> None:
    viewer, widget = open_widget()
    viewer.add_labels(np.ones((64, 64), np.uint8))
    dock = widget.window().findChild(Dock)
    dock.objects.set_open(True)  # it is not on the screen
    with qtbot.waitSignal(dock.objects.scores_wanted):
        dock.objects.refresh_button.click()
    assert _threads() == {"espmedsam-objects"}
    viewer.window.remove_dock_widget(dock)
    left = weakref.ref(dock)
    del widget, dock
    collect_elsewhere()
    qtbot.wait(20)
    qtbot.waitUntil(lambda: not _threads())
    gc.collect()
    assert left() is None


def _threads() -> set[str]:
    names = {each.name for each in threading.enumerate()}
    return {name for name in names if name.startswith("espmedsam")}

"""Many runs and sessions in one viewer: what is over leaves nothing behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from napari.components import ViewerModel
from napari.utils.events import EmitterGroup
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_espmedsam.studio.engine import Engine
from napari_espmedsam.studio.session import Session
from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.studio_view import StudioView

WARM_UP, EVERY = 20, 5
MOST_GROWTH = 0.05


@pytest.fixture
def work(
    checkpoint: Path, monkeypatch: Any, qtbot: Any, idle: Any, finish: Any
) -> Iterator[Callable[[int], ViewerModel]]:
    """Return a function that makes so many runs, each result deleted, and some live sessions."""
    for module in ("widgets.pickers", "widgets.segment", "inference.segmenter"):
        name = f"napari_espmedsam.{module}.resolve_checkpoint"
        monkeypatch.setattr(name, lambda _name=None: checkpoint)
    viewer = ViewerModel()
    holder, dock = QWidget(), Dock(viewer)
    QVBoxLayout(holder).addWidget(dock)
    qtbot.addWidget(holder)
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    layer = viewer.add_image(image, name="noise")

    def repeat(runs: int) -> ViewerModel:
        for number in range(runs):
            dock.segment.run()
            finish(dock.segment)
            if number % EVERY == 0:
                dock.prompts.show_prompts()
                idle(dock.prompts.studio)
                dock.prompts.studio.layers.prompts.cells.paint((0, 0), 0)
                idle(dock.prompts.studio)
                dock.prompts.hide_prompts()
            for each in list(viewer.layers):
                if each is not layer:
                    viewer.layers.remove(each)
        qtbot.waitUntil(lambda: not _threads(), timeout=30_000)
        qtbot.wait(20)  # what is to be deleted later is deleted
        gc.collect()
        return viewer

    yield repeat
    dock.setParent(None)  # as napari closes a dock
    dock.deleteLater()
    qtbot.wait(20)
    gc.collect()  # here, and not in a thread of the next test: widgets belong to this one


def _threads() -> list[str]:
    """List the threads of sessions; that of the table stays."""
    names = [each.name for each in threading.enumerate()]
    return [name for name in names if name in ("espmedsam-session", "espmedsam-open")]


def _callbacks(*groups: EmitterGroup) -> dict[str, int]:
    """Count what is connected to the events of a viewer or a layer."""
    return {
        f"{number} {name}": len(emitter.callbacks)
        for number, group in enumerate(groups)
        for name, emitter in group.emitters.items()
    }


def test_what_is_over_is_gone(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: weakref.WeakSet[Any] = weakref.WeakSet()
    count: Counter[str] = Counter()

    def watch(kind: type) -> None:
        original = kind.__init__

        def init(self: Any, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            made.add(self)
            count[kind.__name__] += 1

        monkeypatch.setattr(kind, "__init__", init)

    viewer = work(EVERY)
    groups = viewer.events, viewer.layers.events, viewer.dims.events, viewer.layers[0].events
    before, threads = _callbacks(*groups), threading.active_count()
    for kind in (Session, StudioView, Engine):
        watch(kind)
    work(2 * EVERY)
    assert count["Session"] == count["StudioView"] == 2
    assert count["Engine"] >= 4
    assert not list(made), [gc.get_referrers(each) for each in made]
    assert threading.active_count() <= threads
    assert _callbacks(*groups) == before
    assert len(viewer.layers) == 1


@pytest.mark.long
def test_two_hundred_runs_need_no_more_memory(work: Any) -> None:
    process = psutil.Process()
    work(WARM_UP)
    before = process.memory_info().rss
    work(200)
    after = process.memory_info().rss
    growth = after / before - 1
    print(f"{before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after: {growth:+.1%}")
    assert growth < MOST_GROWTH

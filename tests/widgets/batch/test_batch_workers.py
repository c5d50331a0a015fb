"""A job of the tab "Batch" on workers: real processes, and a cluster that is slow or gone."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from napari_espmedsam.batch import cluster as cluster_module
from napari_espmedsam.batch.events import FileStarted
from napari_espmedsam.widgets import objects_jobs
from napari_espmedsam.widgets.batch_form import BatchForm
from napari_espmedsam.widgets.batch_settings import BatchSettings
from napari_espmedsam.widgets.batch_tab import BatchTab

OpenTab = Callable[..., BatchTab]
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs the extra distributed"
)


def _results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*_labels.*")}


@needs_dask
def test_workers_write_what_the_window_would(
    open_tab: OpenTab, click: Any, end: Any, states: Any, tmp_path: Path
) -> None:
    tab = open_tab()
    click(tab.run_button)
    end(tab)
    here = states(tab)
    tab.fields.results.setText(str(tmp_path / "there"))
    tab.fields.workers.setValue(1)
    click(tab.run_button)
    end(tab)
    assert states(tab) == here
    assert list(here.values()).count("done") == 3
    assert _results(tmp_path / "there") == _results(tmp_path / "out")
    assert len(_results(tmp_path / "there")) == 3


@pytest.fixture
def slow_cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a cluster in place that begins all images and ends none before it is told to."""
    seen = SimpleNamespace(asked=None, thread="", open=0, may_open=threading.Event())

    def execute(tasks: Any, mark: Path, stopped: Callable[[], bool]) -> Iterator[Any]:
        assert mark.is_dir()
        for index, task in enumerate(tasks):
            yield FileStarted(index, task)
        while not stopped():
            threading.Event().wait(0.01)

    @contextmanager
    def opened(scheduler: Any, *, workers: int) -> Iterator[Any]:
        seen.asked, seen.thread = (scheduler, workers), threading.current_thread().name
        assert seen.may_open.wait(30)
        seen.open += 1
        yield SimpleNamespace(execute=execute)
        seen.open -= 1

    monkeypatch.setattr(cluster_module, "open_cluster", opened)
    return seen


def test_the_window_waits_for_no_cluster_and_cancels_it(
    open_tab: OpenTab, click: Any, end: Any, states: Any, slow_cluster: Any, qtbot: Any
) -> None:
    tab = open_tab()
    tab.fields.scheduler.setText("tcp://host:8786")
    click(tab.run_button)
    qtbot.waitUntil(lambda: len(tab.model.rows) == 4, timeout=30_000)  # it is still being opened
    assert set(states(tab).values()) == {"waiting"}
    slow_cluster.may_open.set()
    qtbot.waitUntil(lambda: set(states(tab).values()) == {"running"}, timeout=30_000)
    assert slow_cluster.asked == ("tcp://host:8786", 0)
    assert slow_cluster.thread.startswith("espmedsam")
    assert slow_cluster.open == 1
    click(tab.cancel_button)
    end(tab)
    assert slow_cluster.open == 0, "let go at the end"
    assert set(states(tab).values()) == {"not done"}
    assert tab.run_button.isEnabled()


@needs_dask
def test_a_cluster_that_does_not_answer_is_said(
    open_tab: OpenTab, click: Any, end: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(objects_jobs, "show_error", shown.append)
    monkeypatch.setattr(cluster_module, "_CONNECT", "1s")
    tab = open_tab()
    tab.fields.scheduler.setText("tcp://127.0.0.1:9")
    click(tab.run_button)
    end(tab)
    assert "no scheduler answers at tcp://127.0.0.1:9" in tab.status.text()
    tab.fields.workers.setValue(2)
    click(tab.run_button)
    end(tab)
    assert "workers is 2; give the address of a scheduler, or a number" in tab.status.text()
    assert len(shown) == 2
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("installed", [True, False])
def test_shown_and_obeyed_only_where_there_can_be_a_cluster(
    installed: bool, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_espmedsam.widgets.batch_form.is_installed", lambda: installed)
    fields = BatchForm()
    qtbot.addWidget(fields)
    fields.show()
    fields._more.expand(False)
    assert fields.workers.isVisible() == fields.scheduler.isVisible() == installed
    remembered = BatchSettings(workers=3, scheduler="tcp://host:8786")
    fields.take(remembered)
    assert fields.settings == (remembered if installed else BatchSettings())
    fields.reset()
    assert fields.settings == BatchSettings()


def test_a_number_of_workers_that_is_not_allowed_is_dropped() -> None:
    good = BatchSettings(workers=4)
    assert BatchSettings.from_json(good.changed()) == good
    for wrong in (-1, 10**12, True, 2.5, "4"):
        assert BatchSettings.from_json({"workers": wrong}) == replace(good, workers=0)

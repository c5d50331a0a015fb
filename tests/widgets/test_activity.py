"""The bar in napari's activity dock goes with what it belongs to, and keeps nothing alive."""

from __future__ import annotations

import gc
import weakref

from napari.utils.progress import progress
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QObject, QTimer

from napari_espmedsam.widgets.activity import ActivityBar


class _Tab(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.cancelled = 0
        self.activity = ActivityBar("ESP-MedSAM: test", self.cancel, self)

    def cancel(self) -> None:
        self.cancelled += 1


def _bars() -> int:
    return sum(each.desc.startswith("ESP-MedSAM: test") for each in progress._all_instances)


def _tab_with_bar(qtbot: QtBot) -> _Tab:
    tab = _Tab()
    tab.activity.set_progress(0.5, "half")
    qtbot.waitUntil(lambda: _bars() == 1)
    return tab


def test_close_removes_the_bar_once(qtbot: QtBot) -> None:
    tab = _tab_with_bar(qtbot)
    tab.activity.close()
    assert _bars() == 0
    QTimer.singleShot(0, tab.deleteLater)
    with qtbot.waitSignal(tab.destroyed):
        pass
    qtbot.wait(20)  # nothing is closed twice, which would raise


def test_the_bar_goes_with_a_tab_that_is_deleted_during_a_job(qtbot: QtBot) -> None:
    tab = _tab_with_bar(qtbot)
    QTimer.singleShot(0, tab.deleteLater)
    with qtbot.waitSignal(tab.destroyed):
        pass
    qtbot.waitUntil(lambda: _bars() == 0)


def test_the_bar_keeps_no_tab_alive(qtbot: QtBot) -> None:
    tab = _tab_with_bar(qtbot)
    (bar,) = (each for each in progress._all_instances if each.desc.startswith("ESP-MedSAM: test"))
    bar.cancel()
    assert tab.cancelled == 1
    known = weakref.ref(tab)
    del tab
    gc.collect()
    assert known() is None
    bar.cancel()  # nobody is there to be told
    qtbot.waitUntil(lambda: _bars() == 0)

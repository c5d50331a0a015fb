"""The tab "Objects" on a viewer without a window, and what its tests do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_espmedsam.widgets import objects_table
from napari_espmedsam.widgets.layers import METADATA_KEY
from napari_espmedsam.widgets.objects_tab import ObjectsTab

SCALE = (2.0, 0.5, 0.5)
PLACE = {"scale": SCALE, "translate": (10, 20, 30), "units": ("micrometer",) * 3}


def _labels() -> np.ndarray:
    """Return three planes with the objects 1 and 2, 3 and 4, 5 and 6."""
    labels = np.zeros((3, 40, 60), np.uint32)
    for z in range(3):
        labels[z, 4:14, 6:16] = 2 * z + 1
        labels[z, 20 : 30 + 2 * z, 40:50] = 2 * z + 2
    return labels


def _add_ours(viewer: Any, name: str = "result", labels: Any = None) -> Any:
    """Add an image and a layer as a run leaves it."""
    image = np.full((3, 40, 60), 5, np.uint16)
    if "cells" not in viewer.layers:
        viewer.add_image(image, name="cells", **PLACE)
    layer = viewer.add_labels(_labels() if labels is None else labels, name=name, **PLACE)
    record = {"image": "cells", "shape": [3, 40, 60], "dtype": "uint16", "axes": "ZYX"}
    layer.metadata = {METADATA_KEY: {**record, "channel": None, "rgb": False}}
    return layer


@pytest.fixture
def wait(qtbot: Any) -> Callable[[ObjectsTab], None]:
    """Return a function that waits until a tab has nothing to do."""
    return lambda tab: qtbot.waitUntil(lambda: not tab.is_busy, timeout=30_000)


@pytest.fixture
def open_tab(qtbot: Any, wait: Any) -> Iterator[Callable[..., ObjectsTab]]:
    """Return a function that shows the tab on a viewer and waits for its table."""
    tabs = []

    def open_(viewer: Any) -> ObjectsTab:
        tab = ObjectsTab(viewer)
        qtbot.addWidget(tab)
        tabs.append(tab)
        tab.show()
        wait(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.set_open(False)


@pytest.fixture
def viewer() -> ViewerModel:
    """Return a viewer without a window."""
    return ViewerModel()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each measurement."""
    counts: list[int] = []
    original = objects_table.measure_objects

    def count(*args: Any, **kwargs: Any) -> Any:
        counts.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(objects_table, "measure_objects", count)
    return counts


def _row_of(tab: ObjectsTab, label: int) -> int:
    """Return where a label stands on the screen."""
    assert tab.table is not None
    return tab.model.rows_on_screen([tab.table.find(label)])[0]


def _click(tab: ObjectsTab, qtbot: Any, label: int) -> None:
    """Click on the row of a label, as a user does."""
    index = tab.model.index(_row_of(tab, label), 0)
    tab.view.scrollTo(index)
    qtbot.mouseClick(
        tab.view.viewport(), Qt.MouseButton.LeftButton, pos=tab.view.visualRect(index).center()
    )


def _scores(**doubt: float) -> dict[str, np.ndarray]:
    labels = [int(name[1:]) for name in doubt]
    return {"label": np.array(labels), "doubt": np.array(list(doubt.values()))}


@pytest.fixture
def helpers() -> SimpleNamespace:
    """Return this module's functions and constants, which test files cannot import."""
    return SimpleNamespace(
        SCALE=SCALE,
        PLACE=PLACE,
        labels=_labels,
        add_ours=_add_ours,
        row_of=_row_of,
        click=_click,
        scores=_scores,
    )

"""The tab through its buttons: show, edit, undo, settings, files, and an end without traces."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.events import Failed
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.layers import describe, plan_result
from napari_espmedsam.widgets.prompt_files import read_prompts
from napari_espmedsam.widgets.prompts_tab import PromptsTab

SHAPE = (96, 128)
CENTRES = ((16, 16), (16, 80), (48, 48), (80, 112))


class Form:
    """Stands in for the form: settings of an image layer."""

    def __init__(self, layer: Any, axes: str) -> None:
        self.layer, self.axes = layer, axes
        self.request = SegmentRequest(modality="near", axes=axes, min_size=0, planes=(0,))

    def prepare(self) -> Prepared:
        if self.layer is None:
            raise InputError("There is no image layer.")
        image = describe(self.layer)
        plan = plan_result(image, self.axes, None)
        n_planes = len(PlaneStack.from_array(self.layer.data, self.axes))
        return Prepared(self.layer, image, self.request, plan, n_planes, None)


Opened = tuple[Any, PromptsTab]


@pytest.fixture
def open_tab(qtbot: Any, segmenter: Any, discs: Any) -> Iterator[Callable[..., Opened]]:
    """Return a function that makes the tab on a stack of three planes, or on one plane."""
    tabs = []

    def open_(axes: str = "ZYX", viewer: Any = None, load: Any = None) -> Opened:
        viewer = ViewerModel() if viewer is None else viewer
        plane = discs(SHAPE, *CENTRES)
        image = np.stack([plane] * 3) if "Z" in axes else plane
        form = Form(viewer.add_image(image, name="cells"), axes)
        tab = PromptsTab(viewer, form.prepare, load or (lambda _request: segmenter))
        tab.form = form
        qtbot.addWidget(tab)
        tabs.append(tab)
        return viewer, tab

    yield open_
    for tab in tabs:
        tab.close_session()
    qtbot.waitUntil(lambda: not _threads())


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("espmedsam")]


def test_a_dock_that_is_opened_again_offers_dropped_prompts_once(open_tab, show, click) -> None:
    viewer, tab = open_tab("YX")
    for act in (tab.close_session, tab.close_session, tab.reopen, tab.reopen):
        act()
    inserted = viewer.layers.events.inserted.callbacks
    assert sum("_on_inserted" in str(each) for each in inserted) == 1
    tab.close_session()
    assert not any("_on_inserted" in str(each) for each in viewer.layers.events.inserted.callbacks)
    tab.reopen()
    show(tab)
    assert tab.studio.session is not None


@pytest.fixture
def show(qtbot: Any, idle: Callable[[Any], None], click: Any) -> Callable[[PromptsTab], None]:
    """Return a function that presses "Show prompts" and waits."""

    def press(tab: PromptsTab) -> None:
        click(tab.show_button)
        assert tab.studio is not None, tab.status.text()
        idle(tab.studio)

    return press


@pytest.fixture
def click(qtbot: Any) -> Callable[[Any], None]:
    """Return a function that clicks a button."""
    return lambda button: qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_show_and_hide(open_tab, show, click) -> None:
    viewer, tab = open_tab()
    assert not tab.live_part.isEnabled()
    assert tab.show_button.text() == "Show prompts"
    told: list[Any] = []
    tab.opened.connect(told.append)
    tab.closed.connect(lambda: told.append("closed"))
    show(tab)
    assert tab.live_part.isEnabled()
    assert tab.show_button.text() == "Hide prompts"
    assert "up to date" in tab.status.text().lower()
    assert len(viewer.layers) == 4
    assert tab.studio.session.settings.planes is None
    click(tab.show_button)
    assert tab.studio is None
    assert [layer.name for layer in viewer.layers] == ["cells", "cells - espmedsam live"]
    assert told[0].prepared.image.name == "cells"
    assert told[1] == "closed"
    show(tab)
    assert len(viewer.layers) == 5


def test_what_stands_in_the_way_is_said(open_tab, click) -> None:
    _viewer, tab = open_tab()
    tab.form.layer = None
    click(tab.show_button)
    assert tab.status.text() == "There is no image layer."
    assert tab.studio is None


def test_a_model_that_cannot_be_loaded_is_said(open_tab, click, qtbot, monkeypatch) -> None:
    def load(_request: Any) -> Any:
        raise CheckpointError("No such weights.")

    shown: list[str] = []
    monkeypatch.setattr("napari_espmedsam.widgets.prompts_tab.show_error", shown.append)
    _viewer, tab = open_tab(load=load)
    click(tab.show_button)
    qtbot.waitUntil(lambda: tab.studio is None)
    assert tab.status.text() == "No such weights."
    assert shown == ["No such weights."]
    assert tab.show_button.text() == "Show prompts"


def test_undo_and_redo_say_what_they_do(open_tab, show, click, idle) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    assert not tab.undo_button.isEnabled()
    tab.studio.layers.prompts.cells.paint((0, 0), 0)
    idle(tab.studio)
    assert tab.undo_button.text() == "Undo paint prompts"
    labels = tab.studio.layers.labels.layer
    assert labels.data[CENTRES[0]] == 0
    click(tab.undo_button)
    idle(tab.studio)
    assert labels.data[CENTRES[0]] > 0
    assert tab.redo_button.text() == "Redo paint prompts"
    assert not tab.undo_button.isEnabled()
    click(tab.redo_button)
    idle(tab.studio)
    assert labels.data[CENTRES[0]] == 0


def test_a_slider_is_live_and_does_not_jump_back(open_tab, show, idle) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    slider = tab.controls.fields["min_size"].slider
    for step in range(100, 400, 5):
        slider.setValue(step)
        assert slider.value() == step, "the slider was set back while it was dragged"
    idle(tab.studio)
    assert slider.value() == 395
    wanted = tab.controls.fields["min_size"].value
    assert tab.studio.session.settings.min_size == wanted
    assert tab.studio.layers.labels.layer.data.any() == (wanted <= 200)
    tab.undo_button.click()
    idle(tab.studio)
    assert tab.controls.fields["min_size"].value == 0
    assert slider.value() == 0


def test_tools_are_taken_and_put_down(open_tab, show, click, idle) -> None:
    viewer, tab = open_tab()
    show(tab)
    click(tab.tool_buttons["- point"])
    points = viewer.layers.selection.active
    assert points.mode == "add"
    points.add((1, *CENTRES[1]))
    idle(tab.studio)
    assert tab.studio.layers.labels.layer.data[1][CENTRES[1]] == 0
    click(tab.tool_buttons["+ box"])
    pressed = [name for name, button in tab.tool_buttons.items() if button.isChecked()]
    assert pressed == ["+ box"]
    click(tab.tool_buttons["+ box"])
    assert not any(button.isChecked() for button in tab.tool_buttons.values())
    assert viewer.layers.selection.active is tab.studio.layers.prompts.cells
    viewer.layers.selection.active = points
    points.mode = "add"  # in napari's own controls
    assert tab.tool_buttons["- point"].isChecked()
    viewer.layers.selection.active = viewer.layers["cells"]
    assert not any(button.isChecked() for button in tab.tool_buttons.values())


def test_planes(open_tab, show, click, idle) -> None:
    viewer, tab = open_tab()
    show(tab)
    viewer.dims.set_current_step(0, 1)
    idle(tab.studio)
    assert tab.copy_buttons["Z"].isVisibleTo(tab)
    assert not tab.copy_buttons["T"].isVisibleTo(tab)
    tab.studio.layers.prompts.cells.paint((0, 0), 0)
    idle(tab.studio)
    click(tab.copy_buttons["Z"])
    idle(tab.studio)
    assert viewer.dims.current_step[0] == 2
    assert not tab.copy_buttons["Z"].isEnabled()
    click(tab.run_button)
    idle(tab.studio)
    data = tab.studio.layers.labels.layer.data
    assert [int(plane[CENTRES[0]] > 0) for plane in data] == [1, 0, 0]


def test_one_plane_needs_no_buttons_of_stacks(open_tab, show) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    for button in (*tab.copy_buttons.values(), tab.run_button, tab.stop_button):
        assert not button.isVisibleTo(tab)


def test_modality_and_comparison(open_tab, show, idle, qtbot) -> None:
    viewer, tab = open_tab("YX")
    show(tab)
    assert [tab.modality.itemText(i) for i in range(tab.modality.count())] == ["near", "far"]
    tab.compare.setCurrentText("far")
    tab.compare.activated.emit(1)
    qtbot.waitUntil(lambda: "cells as far" in viewer.layers)
    tab.modality.setCurrentText("far")
    tab.modality.activated.emit(1)
    idle(tab.studio)
    assert tab.studio.session.settings.modality == "far"
    assert [tab.compare.itemText(i) for i in range(tab.compare.count())] == ["nothing", "near"]
    assert "cells as far" not in viewer.layers


def test_a_clearer_modality_is_offered(open_tab, show, click, idle) -> None:
    _viewer, tab = open_tab("YX")
    tab.form.request = SegmentRequest(modality="far", axes="YX")
    show(tab)
    assert "near is clearly more confident" in tab.hint.text()
    click(tab.hint_button)
    idle(tab.studio)
    assert tab.studio.session.settings.modality == "near"
    assert not tab.hint.isVisibleTo(tab)


def test_an_offer_goes_when_its_modality_is_chosen_otherwise(open_tab, show, click, idle) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    tab.modality.setCurrentText("far")
    tab.modality.activated.emit(tab.modality.currentIndex())
    idle(tab.studio)
    assert "near is clearly more confident" in tab.hint.text()
    click(tab.undo_button)
    idle(tab.studio)
    assert tab.modality.currentText() == "near"
    assert not tab.hint.isVisibleTo(tab)


def test_confidence(open_tab, show, click, qtbot, idle) -> None:
    viewer, tab = open_tab("YX")
    show(tab)
    tab.confidence.click()
    qtbot.waitUntil(lambda: "Confidence of cells" in viewer.layers)
    idle(tab.studio)
    assert tab.confidence.isChecked()
    viewer.layers.remove("Confidence of cells")
    tab.studio.set("threshold", 0.7)
    idle(tab.studio)
    assert not tab.confidence.isChecked()


def test_saving_and_loading(open_tab, show, click, idle, qtbot, tmp_path, monkeypatch) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    tab.studio.layers.prompts.cells.paint((0, 0), 0)
    path = tmp_path / "mine"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(path), ""))
    click(tab.save_button)
    written = tmp_path / "mine.espprompts.json"
    qtbot.waitUntil(written.is_file)
    qtbot.waitUntil(lambda: str(written) in tab.status.text())
    expected = tab.studio.layers.labels.layer.data.copy()
    click(tab.show_button)
    show(tab)
    assert (tab.studio.layers.labels.layer.data != expected).any()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_args: (str(written), ""))
    click(tab.load_button)
    qtbot.waitUntil(lambda: tab.studio.layers.prompts.cells.data[0, 0] == 3)
    idle(tab.studio)
    np.testing.assert_array_equal(tab.studio.layers.labels.layer.data, expected)


def test_a_file_that_is_none_is_said(open_tab, qtbot, tmp_path, monkeypatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari_espmedsam.widgets.prompts_tab.show_error", shown.append)
    _viewer, tab = open_tab("YX")
    (tmp_path / "bad.espprompts.json").write_text("{}")
    tab.load_prompts(tmp_path / "bad.espprompts.json")
    qtbot.waitUntil(lambda: bool(shown))
    assert "bad.espprompts.json" in tab.status.text()


def test_a_dropped_file_is_offered_and_opens_the_prompts(
    open_tab, show, click, idle, qtbot, tmp_path: Path
) -> None:
    viewer, tab = open_tab("YX")
    show(tab)
    tab.studio.layers.prompts.cells.paint((0, 0), 0)
    tab.save_prompts(tmp_path / "a.espprompts.json")
    qtbot.waitUntil((tmp_path / "a.espprompts.json").is_file)
    qtbot.waitUntil(lambda: tab.status.text().startswith("Saved"))
    click(tab.show_button)
    data, attributes, _kind = read_prompts(tmp_path / "a.espprompts.json")[0]
    viewer.add_labels(data, **attributes)
    assert "prompts for 'cells'" in tab.hint.text()
    click(tab.hint_button)
    assert tab.studio is not None
    idle(tab.studio)
    assert tab.studio.layers.prompts.cells.data[0, 0] == 3
    assert tab.studio.layers.labels.layer.data[CENTRES[0]] == 0


def test_a_region(open_tab, show) -> None:
    viewer, tab = open_tab("YX")
    viewer.add_shapes([[[31.5, 31.5], [31.5, 95.5], [95.5, 95.5], [95.5, 31.5]]])
    tab.region.setCurrentText("selected shape")
    show(tab)
    labels = tab.studio.layers.labels.layer.data
    assert labels.shape == SHAPE
    assert labels[CENTRES[2]] > 0
    assert labels[CENTRES[0]] == 0
    cells = tab.studio.layers.prompts.cells
    np.testing.assert_allclose(cells.data_to_world((-0.5, -0.5)), (31.5, 31.5))
    tab.studio.layers.markers.use("- point")
    tab.studio.layers.markers.layers[0].add(CENTRES[2])
    assert tab.studio.session.edits(0)[0, 0] == 0


@pytest.mark.parametrize("how", ["removed", "cleared", "data"])
def test_an_image_that_goes_hides_the_prompts(open_tab, show, qtbot, how: str) -> None:
    viewer, tab = open_tab()
    show(tab)
    if how == "removed":
        viewer.layers.remove("cells")
    elif how == "cleared":
        viewer.layers.clear()
    else:
        viewer.layers["cells"].data = np.zeros((3, *SHAPE), np.uint8)
    qtbot.waitUntil(lambda: tab.studio is None)
    assert "cells" in tab.status.text()
    left = {layer.name for layer in viewer.layers} - {"cells"}
    assert left == (set() if how == "cleared" else {"cells - espmedsam live"})


def test_closing_while_the_model_is_loaded(open_tab, click, qtbot, segmenter) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(_request: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return segmenter

    viewer, tab = open_tab(load=load)
    click(tab.show_button)
    assert begun.wait(10)
    tab.close_session()
    go_on.set()
    qtbot.waitUntil(lambda: not _threads())
    assert len(viewer.layers) == 1


def test_two_viewers_share_nothing(open_tab, show, click, idle) -> None:
    (_, one), (_, two) = open_tab(), open_tab()
    show(one)
    assert two.studio is None
    show(two)
    before = two.studio.layers.labels.layer.data.copy()
    assert before.any()
    one.controls.fields["threshold"].value = 0.9
    session = one.studio.session
    session.edit(session.visible, session.canvas.cells_of(0, 0, *SHAPE), 0)
    idle(one.studio)
    idle(two.studio)
    assert not one.studio.layers.labels.layer.data.any()
    np.testing.assert_array_equal(two.studio.layers.labels.layer.data, before)
    assert two.controls.fields["threshold"].value is None
    assert not two.undo_button.isEnabled()
    click(one.show_button)
    assert two.studio.session is not None


def test_renaming_layers_of_a_session_is_harmless(open_tab, show, idle) -> None:
    viewer, tab = open_tab()
    show(tab)
    for number, layer in enumerate(list(viewer.layers)):
        layer.name = f"renamed {number}"
    tab.controls.fields["min_size"].value = 3
    tab.studio.set("modality", "far")
    idle(tab.studio)
    assert tab.studio.session.settings.modality == "far"
    assert tab.studio.layers.labels.layer.data.any()
    assert len(viewer.layers) == 4
    tab.hide_prompts()
    assert len(viewer.layers) == 2


def test_closing_lets_go_of_the_model(open_tab, show, qtbot, make_segmenter) -> None:
    models: list[weakref.ref[Any]] = []

    def load(_request: Any) -> Any:
        model = make_segmenter()
        models.append(weakref.ref(model))
        return model

    _viewer, tab = open_tab(load=load)
    show(tab)
    assert models[0]() is not None
    tab.close_session()

    def is_free() -> bool:
        gc.collect()
        return models[0]() is None

    qtbot.waitUntil(is_free, timeout=10_000)


def test_it_fits_a_narrow_dock(open_tab, show) -> None:
    _viewer, tab = open_tab()
    show(tab)
    assert tab.minimumSizeHint().width() <= 320


def test_an_offer_outlives_the_session_that_is_hidden(open_tab, show, click) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    records: list[Any] = []
    tab.record(records.append)
    tab.studio.session.wait(10)
    QApplication.processEvents()
    tab.offer(records[0])
    click(tab.show_button)
    assert tab.studio is None
    assert tab.hint_button.text() == "Use these prompts"
    assert not tab.hint_button.isHidden()


def test_each_of_two_savings_at_once_gets_its_file(open_tab, show, qtbot, tmp_path) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    records: list[Any] = []
    tab.record(records.append)  # as the tab "Batch" does
    files = [tmp_path / f"{name}.espprompts.json" for name in "ab"]
    for file in files:
        tab.save_prompts(file)
    qtbot.waitUntil(lambda: all(file.exists() for file in files))
    assert len(records) == 1


def test_prompts_that_are_hidden_before_they_are_saved_are_told(open_tab, show, tmp_path) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    file = tmp_path / "a.espprompts.json"
    tab.save_prompts(file)
    tab.hide_prompts()
    assert tab.status.text() == "The prompts were hidden before they were saved. Save them again."
    show(tab)
    tab.record(lambda record: None)
    tab.studio.session.wait(10)
    QApplication.processEvents()
    assert not file.exists()


def test_who_waits_for_a_record_is_told_why_none_comes(open_tab, show) -> None:
    _viewer, tab = open_tab("YX")
    show(tab)
    reasons: list[str] = []
    tab.record(lambda record: None, reasons.append)  # as the tab "Batch" does
    tab.studio.failed.emit(Failed("others", 0, OSError("gone")))
    assert reasons == []
    tab.studio.failed.emit(Failed("record", None, InputError("The disk is gone.")))
    assert reasons == ["The disk is gone."]
    tab.hide_prompts()
    assert len(reasons) == 1


def test_the_end_of_one_session_does_not_close_the_next(open_tab, show, discs, qtbot) -> None:
    viewer, tab = open_tab("YX")
    show(tab)
    viewer.layers.remove(tab.form.layer)  # its end is told a moment later
    tab.hide_prompts()
    tab.form.layer = viewer.add_image(discs(SHAPE, *CENTRES), name="other")
    tab.show_prompts()
    qtbot.wait(5)
    assert tab.studio is not None


def test_prompts_are_hidden_though_a_handler_of_others_fails(open_tab, show) -> None:
    viewer, tab = open_tab("YX")
    show(tab)

    def fail(event: Any) -> None:
        raise ZeroDivisionError

    viewer.layers.events.removed.connect(fail, position="first")
    with pytest.raises(ZeroDivisionError):
        tab.hide_prompts()
    viewer.layers.events.removed.disconnect(fail)
    assert tab.studio is None
    assert tab.show_button.text() == "Show prompts"
    assert not tab.live_part.isEnabled()

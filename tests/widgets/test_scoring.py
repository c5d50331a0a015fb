"""Scores of a live session in the table: another model beside it, and all planes of a stack."""

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

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio import second_opinion
from napari_espmedsam.weights import WeightEntry
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.layers import describe, plan_result
from napari_espmedsam.widgets.objects_tab import ObjectsTab
from napari_espmedsam.widgets.prompts_tab import PromptsTab
from napari_espmedsam.widgets.studio_link import StudioLink

SHAPE = (96, 128)
BRIGHT, DIM = (48, 48), (16, 112)


class Models:
    """Two bundled models: the other one marks only what is very bright."""

    def __init__(self, make_segmenter: Callable[..., Any]) -> None:
        self._make = make_segmenter
        self.loaded: list[str] = []
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.others: list[weakref.ref[Any]] = []

    def load(self, request: SegmentRequest) -> Any:
        self.loaded.append(request.checkpoint)
        if request.checkpoint == "espmedsam":
            return self._make()
        assert self.go_on.wait(30)
        if self.error is not None:
            raise self.error
        other = self._make(0.8)
        self.others.append(weakref.ref(other))
        return other


class Studio:
    """The two tabs on a viewer, linked, as the dock has them."""

    def __init__(self, image: np.ndarray, axes: str, models: Models, qtbot: Any) -> None:
        self.viewer = ViewerModel()
        self.layer = self.viewer.add_image(image, name="cells", rgb=False)
        self.request = SegmentRequest(modality="near", axes=axes, min_size=0)
        self.prompts = PromptsTab(self.viewer, self._prepare, models.load)
        self.objects = ObjectsTab(self.viewer)
        self.link = StudioLink(self.prompts, self.objects)
        self.part = self.objects.score_part
        self._qtbot = qtbot
        for tab in (self.prompts, self.objects):
            qtbot.addWidget(tab)
        self.objects.show()

    def _prepare(self) -> Prepared:
        image, axes = describe(self.layer), str(self.request.axes)
        n_planes = len(PlaneStack.from_array(self.layer.data, axes))
        plan = plan_result(image, axes, None)
        return Prepared(self.layer, image, self.request, plan, n_planes, None)

    def click(self, widget: Any) -> None:
        """Click, as a user does; a check box has its mark at the left."""
        point = widget.rect().center()
        point.setX(min(point.x(), 8))
        self._qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=point)

    def scores(self, name: str) -> dict[int, float]:
        """Return a column of the table by label, numbers that are known only."""
        table = self.objects.table
        if table is None or name not in table.scores:
            return {}
        pairs = zip(table.labels.tolist(), table.scores[name].tolist(), strict=True)
        return {label: value for label, value in pairs if np.isfinite(value)}

    def label_at(self, *index: int) -> int:
        """Return the live label of a pixel."""
        return int(self.prompts.studio.layers.labels.layer.data[index])


@pytest.fixture
def models(make_segmenter: Any, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Return what is bundled during the test."""
    entries = [
        WeightEntry(name, known, known, "", "MIT", Path(name))
        for name, known in (("espmedsam", ("near", "far")), ("medfastsam", ("near",)))
    ]
    monkeypatch.setattr(second_opinion, "list_checkpoints", lambda: entries)
    return Models(make_segmenter)


@pytest.fixture
def open_studio(qtbot: Any, models: Models, discs: Any, idle: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that shows the prompts of a plane, or of a stack of three."""
    studios: list[Studio] = []

    def open_(axes: str = "YX") -> Studio:
        plane = discs(SHAPE, BRIGHT, DIM)
        plane[: SHAPE[0], : SHAPE[1] // 2][plane[:, : SHAPE[1] // 2] > 100] = 255
        image = plane if axes == "YX" else np.stack([plane] * 3)
        studio = Studio(image, axes, models, qtbot)
        studios.append(studio)
        studio.prompts.show_prompts()
        idle(studio.prompts.studio)
        qtbot.waitUntil(lambda: bool(studio.scores("doubt")), timeout=30_000)
        return studio

    yield open_
    for studio in studios:
        studio.prompts.close_session()
        studio.objects.set_open(False)
    qtbot.waitUntil(lambda: not _threads(), timeout=30_000)


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("espmedsam")]


def test_without_a_session_nothing_is_offered_and_the_reason_is_said(qtbot) -> None:
    tab = ObjectsTab(ViewerModel())
    qtbot.addWidget(tab)
    for widget in (tab.score_part.compare, tab.score_part.all_button):
        assert not widget.isEnabled()
        assert "while the prompts" in widget.toolTip()


def test_the_other_model_fills_its_column(open_studio, models, qtbot, idle) -> None:
    studio = open_studio()
    part = studio.part
    assert part.compare.text() == "Compare with medfastsam"
    assert part.all_button.isHidden(), "there is one plane"
    assert not studio.scores("agreement_with_other")
    before = studio.scores("doubt")
    models.go_on.clear()
    studio.click(part.compare)
    assert part.compare.isChecked()
    qtbot.waitUntil(lambda: "medfastsam" in models.loaded)  # ... which hangs, in its thread
    studio.prompts.controls.fields["threshold"].value = 0.5
    idle(studio.prompts.studio)
    assert not studio.scores("agreement_with_other")
    models.go_on.set()
    qtbot.waitUntil(lambda: len(studio.scores("agreement_with_other")) == 2, timeout=30_000)
    bright, dim = studio.label_at(*BRIGHT), studio.label_at(*DIM)
    agreement, doubt = studio.scores("agreement_with_other"), studio.scores("doubt")
    assert agreement[bright] > 0.5
    assert agreement[dim] == 0
    assert doubt[dim] > before[dim] + 0.3, "nothing is doubted more than half by a contradiction"
    labels = studio.prompts.studio.layers.labels.layer
    features = labels.features.set_index("index")["agreement_with_other"]
    assert features.loc[[bright, dim]].to_dict() == {b: agreement[b] for b in (bright, dim)}
    names = [column.name for column in studio.objects.model.columns]
    assert "agreement_with_other" in names


def test_the_other_model_is_asked_once_for_a_plane_and_let_go(
    open_studio, models, qtbot, idle
) -> None:
    studio = open_studio()
    studio.click(studio.part.compare)
    qtbot.waitUntil(lambda: bool(studio.scores("agreement_with_other")), timeout=30_000)
    asked = studio.link._scoring._background
    studio.prompts.controls.fields["min_size"].value = 3
    idle(studio.prompts.studio)
    qtbot.waitUntil(lambda: not studio.objects.is_busy and not asked.is_busy, timeout=30_000)
    idle(studio.prompts.studio)
    assert studio.scores("agreement_with_other")
    assert models.loaded.count("medfastsam") == 1
    studio.click(studio.part.compare)
    qtbot.waitUntil(lambda: not studio.scores("agreement_with_other"), timeout=30_000)

    def is_free() -> bool:
        gc.collect()
        return models.others[0]() is None

    qtbot.waitUntil(is_free, timeout=30_000)
    assert studio.scores("doubt")


def test_a_modality_that_no_other_model_knows(open_studio, models, qtbot, idle) -> None:
    studio = open_studio()
    studio.click(studio.part.compare)
    qtbot.waitUntil(lambda: bool(studio.scores("agreement_with_other")), timeout=30_000)
    studio.prompts.studio.set("modality", "far")
    idle(studio.prompts.studio)
    assert not studio.part.compare.isEnabled()
    assert "knows far" in studio.part.compare.toolTip()
    qtbot.waitUntil(lambda: not studio.scores("agreement_with_other"), timeout=30_000)
    studio.prompts.studio.set("modality", "near")
    idle(studio.prompts.studio)
    assert studio.part.compare.isEnabled()
    qtbot.waitUntil(lambda: bool(studio.scores("agreement_with_other")), timeout=30_000)


def test_a_model_that_cannot_be_loaded_is_told(open_studio, models, qtbot) -> None:
    studio = open_studio()
    models.error = CheckpointError("The weights are missing. Install them again.")
    studio.click(studio.part.compare)
    qtbot.waitUntil(lambda: "missing" in studio.part.note.text(), timeout=30_000)
    assert not studio.part.compare.isChecked()
    assert studio.scores("doubt")
    models.error = None
    studio.click(studio.part.compare)
    qtbot.waitUntil(lambda: bool(studio.scores("agreement_with_other")), timeout=30_000)
    assert not studio.part.note.text()


@pytest.mark.parametrize("compare", [False, True])
def test_all_planes_are_scored(open_studio, qtbot, idle, compare: bool) -> None:
    studio = open_studio("ZYX")
    if compare:
        studio.click(studio.part.compare)
    said: list[str] = []
    studio.link._scoring.changed.connect(lambda: said.append(studio.part.all_button.text()))
    studio.click(studio.part.all_button)
    assert studio.part.all_button.text() == "Stop scoring (0 of 3 planes)"
    qtbot.waitUntil(lambda: studio.link._scoring.progress is None, timeout=60_000)
    idle(studio.prompts.studio)
    qtbot.waitUntil(lambda: not studio.objects.is_busy, timeout=30_000)
    assert studio.part.all_button.text() == "Score all planes"
    labels = studio.prompts.studio.layers.labels.layer.data
    ids = set(np.unique(labels).tolist()) - {0}
    assert (labels.reshape(3, -1).max(1) > 0).all()
    assert len(ids) == 6
    assert set(studio.scores("doubt")) == ids
    assert set(studio.scores("agreement_with_other")) == (ids if compare else set())
    assert [text for text in dict.fromkeys(said) if "of 3" in text] == [
        f"Stop scoring ({n} of 3 planes)" for n in range(3)
    ]


def test_scoring_can_be_stopped(open_studio, models, qtbot, idle) -> None:
    studio = open_studio("ZYX")
    models.go_on.clear()
    studio.click(studio.part.compare)
    studio.click(studio.part.all_button)
    studio.click(studio.part.all_button)
    assert studio.part.all_button.text() == "Score all planes"
    models.go_on.set()
    qtbot.waitUntil(lambda: bool(studio.scores("agreement_with_other")), timeout=30_000)
    idle(studio.prompts.studio)
    assert len(studio.scores("doubt")) == 2, "planes that nobody wants any more are scored"


def test_another_setting_takes_scores_back_that_hold_no_longer(open_studio, qtbot, idle) -> None:
    studio = open_studio("ZYX")
    studio.click(studio.part.all_button)
    qtbot.waitUntil(lambda: studio.link._scoring.progress is None, timeout=60_000)
    qtbot.waitUntil(lambda: len(studio.scores("doubt")) == 6, timeout=30_000)
    studio.prompts.controls.fields["threshold"].value = 0.3
    idle(studio.prompts.studio)
    qtbot.waitUntil(lambda: len(studio.scores("doubt")) == 2, timeout=30_000)


def test_closing_ends_it_while_the_other_model_is_loaded(open_studio, models, qtbot) -> None:
    studio = open_studio("ZYX")
    models.go_on.clear()
    studio.click(studio.part.compare)
    studio.click(studio.part.all_button)
    qtbot.waitUntil(lambda: "medfastsam" in models.loaded)
    studio.prompts.hide_prompts()
    assert not studio.part.compare.isEnabled()
    assert not studio.part.compare.isChecked()
    models.go_on.set()

    def is_free() -> bool:
        gc.collect()
        return bool(models.others) and models.others[0]() is None

    qtbot.waitUntil(is_free, timeout=30_000)


def test_deleting_the_labels_while_all_are_scored_is_harmless(open_studio, qtbot, idle) -> None:
    studio = open_studio("ZYX")
    studio.click(studio.part.all_button)
    live = studio.prompts.studio.layers.labels.layer
    live.name = "renamed"
    studio.viewer.layers.remove(live)
    qtbot.waitUntil(lambda: studio.link._scoring.progress is None, timeout=60_000)
    idle(studio.prompts.studio)
    assert [each.name for each in studio.viewer.layers if each.name == "renamed"] == []

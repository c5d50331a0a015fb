"""Sliders over settings: what a slider shows, what a user's drag says, and what is not echoed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.widgets.live_controls import LIVE, LiveControls, SliderField
from napari_espmedsam.widgets.live_settings import LiveSettings


@pytest.fixture
def controls(qtbot: Any) -> tuple[LiveControls, list[tuple[str, Any]]]:
    found = LiveControls()
    qtbot.addWidget(found)
    said: list[tuple[str, Any]] = []
    found.changed.connect(lambda name, value: said.append((name, value)))
    return found, said


def test_every_live_setting_has_a_control_with_its_default(controls) -> None:
    found, _said = controls
    assert tuple(found.fields) == LIVE
    for name, field in found.fields.items():
        assert field.value == getattr(SegmentRequest(), name)


def test_showing_settings_says_nothing(controls) -> None:
    found, said = controls
    settings = SegmentRequest(
        threshold=0.3,
        prompt_threshold=0.7,
        output="split",
        min_size=123,
        max_hole=7,
        smoothing=1.5,
        split_neck=0.5,
    )
    found.show_settings(settings, 0.4)
    assert not said
    assert {name: field.value for name, field in found.fields.items()} == {
        name: getattr(settings, name) for name in LIVE
    }
    found.show_settings(SegmentRequest(), 0.4)
    assert not said
    assert found.fields["threshold"].value is None


@pytest.mark.parametrize("name", [name for name in LIVE if name != "output"])
def test_dragging_a_slider_tells_each_value_once_and_stays_in_range(controls, name: str) -> None:
    found, said = controls
    field = found.fields[name]
    assert isinstance(field, SliderField)
    field.slider.setValue(field.slider.maximum())
    field.slider.setValue(0)
    for step in range(0, 1001, 100):
        field.slider.setValue(step)
    assert {each for each, _ in said} == {name}
    values = [value for _, value in said]
    info = next(info for info in request_options() if info.name == name)
    numbers = [info.minimum if value is None else value for value in values]
    assert min(numbers) >= info.minimum
    assert numbers[2:] == sorted(numbers[2:])
    assert all(a != b for a, b in pairwise(values))
    SegmentRequest(**{name: values[-1]}).validate()


def test_a_number_left_alone_shows_what_the_model_takes(controls) -> None:
    found, _said = controls
    field = found.fields["threshold"]
    found.show_settings(SegmentRequest(), 0.25)
    low = field.slider.value()
    found.show_settings(SegmentRequest(), 0.75)
    assert field.slider.value() > low
    assert field.value is None


def test_typing_and_going_back_to_the_default(controls, qtbot) -> None:
    found, said = controls
    field = found.fields["threshold"]
    field.box.setValue(0.8)
    qtbot.mouseClick(field.reset_button, Qt.MouseButton.LeftButton)
    assert said == [("threshold", 0.8), ("threshold", None)]
    assert field.slider.value() != 0


def test_splitting_is_only_offered_for_its_output(controls) -> None:
    found, said = controls
    assert not found.fields["split_neck"].editor.isEnabled()
    found.fields["output"].value = "split"
    assert found.fields["split_neck"].editor.isEnabled()
    assert said == [("output", "split")]


def test_a_large_size_needs_no_slider(controls) -> None:
    found, said = controls
    found.show_settings(SegmentRequest(min_size=10**6))
    field = found.fields["min_size"]
    assert field.value == 10**6
    assert field.slider.value() == field.slider.maximum()
    assert not said


class Sink:
    """Counts what is sent; each change gets the next revision."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.refuses = False

    def send(self, changes: Any) -> int | None:
        self.sent.append(dict(changes))
        return None if self.refuses else len(self.sent)


def test_one_change_is_on_its_way_and_then_the_latest() -> None:
    sink = Sink()
    settings = LiveSettings(sink.send)
    for value in range(10):
        settings.change("min_size", value)
    settings.change("threshold", 0.5)
    assert sink.sent == [{"min_size": 0}]
    assert settings.waiting == {"min_size": 9, "threshold": 0.5}
    settings.note_result(0)  # of something older
    assert len(sink.sent) == 1
    settings.note_result(1)
    assert sink.sent[1:] == [{"min_size": 9, "threshold": 0.5}]
    settings.note_result(2)
    assert not settings.is_busy
    settings.change("min_size", 3)
    assert sink.sent[2:] == [{"min_size": 3}]


def test_a_change_without_a_result_blocks_nothing() -> None:
    sink = Sink()
    sink.refuses = True
    settings = LiveSettings(sink.send)
    settings.change("min_size", 1)
    settings.change("min_size", 2)
    assert sink.sent == [{"min_size": 1}, {"min_size": 2}]
    sink.refuses = False
    settings.change("min_size", 3)
    settings.change("min_size", 4)
    settings.note_end()  # it failed, or all is done
    assert sink.sent[2:] == [{"min_size": 3}, {"min_size": 4}]
    settings.change("min_size", 5)
    settings.clear()
    settings.note_result(99)
    assert len(sink.sent) == 4

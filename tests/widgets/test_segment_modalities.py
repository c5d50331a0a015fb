"""A model of several modalities in the form: what is offered, what is off, what is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel

from napari_espmedsam.inference.scale import SCALE_OPTIONS
from napari_espmedsam.widgets.segment import SegmentWidget


@pytest.fixture
def widget(bare_widget: tuple[Any, SegmentWidget]) -> SegmentWidget:
    """Return a widget with an image and a model that knows three modalities."""
    viewer, widget = bare_widget
    viewer.add_image(np.eye(40, dtype=np.uint8), name="picture")
    return widget


def _offered(widget: SegmentWidget) -> list[str]:
    box = widget.form.modality
    return [box.itemText(i) for i in range(box.count())]


def _shown(widget: SegmentWidget) -> dict[str, tuple[bool, str]]:
    """Tell for each setting of the scale whether it is on, and what its editor shows."""
    fields = {name: widget.form.fields[name] for name in SCALE_OPTIONS}
    return {name: (f.editor.isEnabled(), f.editor.text()) for name, f in fields.items()}


def test_the_first_modality_is_chosen_and_all_are_offered(widget: SegmentWidget) -> None:
    assert _offered(widget) == ["microscopy", "dermoscopy", "fundus"]
    assert widget.form.modality.currentText() == "microscopy"
    assert widget.form.modality_note.text() == "Finds cell nuclei."
    assert widget.run_button.isEnabled()
    assert all(on for on, _ in _shown(widget).values())


def test_the_licence_stands_below_the_model(
    widget: SegmentWidget, write_weights: Any, qtbot: Any
) -> None:
    assert widget.form.licence.text() == "CC-BY-NC-SA-4.0 (research only)"
    assert not widget.form.licence.isHidden()
    path = write_weights("free", ["fundus"], "Apache-2.0")
    widget.form.model.add_file(path)
    assert widget.form.licence.isHidden()
    qtbot.waitUntil(lambda: widget.form.model.header is not None)
    assert widget.form.licence.text() == "Apache-2.0"


def test_scale_is_off_with_the_reason_where_planes_are_seen_whole(
    widget: SegmentWidget, finish: Any, fake: Any
) -> None:
    fields = widget.form.fields
    fields["diameter"].value, fields["tile"].value = 30.0, 128
    widget.form.modality.setCurrentText("dermoscopy")
    assert _shown(widget) == dict.fromkeys(SCALE_OPTIONS, (False, "not used"))
    note = widget.form.modality_note.text()
    assert note.startswith("Finds skin lesions. The model sees each plane as a whole")
    assert "96 x 96 px" in note
    for name in SCALE_OPTIONS:
        assert "Not used: " in fields[name].editor.toolTip()
        assert not fields[name].label.isEnabled()
        assert fields[name].value is None
    assert widget.run_button.isEnabled()
    widget.run()
    finish(widget)
    assert fake.calls[-1]["modality"] == "dermoscopy"
    assert {name: fake.settings[-1][name] for name in SCALE_OPTIONS} == dict.fromkeys(SCALE_OPTIONS)


def test_settings_come_back_with_the_modality(
    widget: SegmentWidget, finish: Any, fake: Any
) -> None:
    widget.form.fields["diameter"].value = 30.0
    before = _shown(widget)
    tips = {name: widget.form.fields[name].editor.toolTip() for name in SCALE_OPTIONS}
    for name in ("dermoscopy", "fundus", "dermoscopy", "microscopy"):
        widget.form.modality.setCurrentText(name)
    assert _shown(widget) == before
    assert {name: widget.form.fields[name].editor.toolTip() for name in SCALE_OPTIONS} == tips
    assert widget.form.modality_note.text() == "Finds cell nuclei."
    widget.run()
    finish(widget)
    assert fake.settings[-1]["diameter"] == 30.0


def test_vessels_have_a_scale_but_no_diameter(widget: SegmentWidget) -> None:
    widget.form.modality.setCurrentText("fundus")
    assert _shown(widget) == {
        "diameter": (False, "not used"),
        "pixel_size": (False, "not used"),
        "scale": (True, "as trained"),
        "tile": (True, "auto"),
    }
    assert "which diameter" in widget.form.fields["diameter"].editor.toolTip()
    widget.form.fields["scale"].value = 1.5
    assert widget.form.prepare().request.scale == 1.5


def test_values_that_exclude_each_other_do_not_where_they_are_off(widget: SegmentWidget) -> None:
    fields = widget.form.fields
    fields["diameter"].value, fields["pixel_size"].value = 30.0, 0.5
    assert not widget.run_button.isEnabled()
    widget.form.modality.setCurrentText("dermoscopy")
    assert widget.run_button.isEnabled()
    widget.form.modality.setCurrentText("microscopy")
    assert not widget.run_button.isEnabled()


def test_the_choice_outlives_another_model_and_another_image(
    widget: SegmentWidget, write_weights: Any, qtbot: Any
) -> None:
    widget.form.modality.setCurrentText("fundus")
    path = write_weights("two", ["microscopy", "dermoscopy"], "Apache-2.0")
    widget.form.model.add_file(path)
    assert _offered(widget) == []
    qtbot.waitUntil(lambda: widget.form.model.header is not None)
    assert widget.form.modality.currentText() == "microscopy"
    assert widget.form.modality_note.isHidden()  # nothing is known of what the file finds
    widget.form.model.setCurrentIndex(0)
    assert widget.form.modality.currentText() == "fundus"
    widget.form._viewer.add_image(np.eye(50, dtype=np.uint8), name="other")
    widget.form.image.setCurrentText("other")
    assert widget.form.modality.currentText() == "fundus"


def test_restore_defaults_restores_modality_and_hidden_settings(widget: SegmentWidget) -> None:
    before = _shown(widget)
    widget.form.fields["diameter"].value = 30.0
    widget.form.modality.setCurrentText("dermoscopy")
    widget.defaults_button.click()
    assert widget.form.modality.currentText() == "microscopy"
    assert _shown(widget) == before


def test_notes_wrap_and_do_not_widen_the_form(widget: SegmentWidget) -> None:
    narrow = widget.form.minimumSizeHint().width()
    widget.form.modality.setCurrentText("dermoscopy")
    long = [note for note in widget.form.findChildren(QLabel) if len(note.text()) > 40]
    assert long
    assert all(note.wordWrap() for note in long)
    assert widget.form.minimumSizeHint().width() == narrow


def test_a_bundled_model_that_is_missing_is_told(
    bare_widget: tuple[Any, SegmentWidget], weights: Path
) -> None:
    viewer, _ = bare_widget
    viewer.add_image(np.eye(40, dtype=np.uint8), name="picture")
    content = weights.read_bytes()
    weights.unlink()
    widget = SegmentWidget(viewer)
    assert not widget.run_button.isEnabled()
    assert weights.name in widget.status.text()
    weights.write_bytes(content)
    widget.form.model.currentIndexChanged.emit(0)  # the user chooses it once more
    assert widget.run_button.isEnabled()

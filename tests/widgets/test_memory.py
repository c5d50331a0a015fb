"""Settings that come back in the next session: the file, the form, and two docks at once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.widgets import memory as memory_module
from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.live_controls import LIVE
from napari_espmedsam.widgets.settings_file import (
    OF_ONE_IMAGE,
    VARIABLE,
    load_settings,
    remembered_options,
    save_settings,
    settings_path,
)

CHANGED = {
    "modality": "fundus",
    "output": "split",
    "diameter": 12.5,
    "threshold": 0.25,
    "min_size": 77,
    "smoothing": 1.5,
    "tile": 512,
    "precision": "bfloat16",
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where settings are remembered during the test."""
    found = tmp_path / "deep" / "settings.json"
    monkeypatch.setenv(VARIABLE, str(found))
    return found


@pytest.fixture
def open_dock(qtbot: Any, weights: Any, fake: Any, path: Path) -> Iterator[Callable[[], Dock]]:
    """Return a function that begins a session: a dock in a holder, as napari's windows have it."""
    docks = []

    def open_() -> Dock:
        holder, dock = QWidget(), Dock(ViewerModel(), loader=fake.load)
        QVBoxLayout(holder).addWidget(dock)
        qtbot.addWidget(holder)
        docks.append((holder, dock))
        return dock

    yield open_
    for _holder, dock in docks:
        if dock.parent() is not None:
            _close(dock)


def _close(dock: Dock) -> None:
    """Take the dock out of its holder, as napari does when it is closed."""
    dock.setParent(None)


# The file ---------------------------------------------------------------------------------------


def test_only_what_differs_from_the_defaults_is_written(path: Path) -> None:
    assert load_settings(path) == {}
    save_settings(path, {**CHANGED, "max_hole": SegmentRequest().max_hole, "planes": (1,)})
    assert load_settings(path) == CHANGED
    assert set(json.loads(path.read_text())["settings"]) == set(CHANGED)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_belongs_to_one_image_is_not_remembered(path: Path) -> None:
    assert set(OF_ONE_IMAGE) == {"planes", "channel", "axes", "rgb"}
    path.parent.mkdir()
    values = {"channel": 1, "axes": "ZYX", "rgb": True, "planes": [0], "min_size": 3}
    path.write_text(json.dumps({"version": 1, "settings": values}))
    assert load_settings(path) == {"min_size": 3}


def test_unknown_names_and_values_that_are_not_allowed_are_dropped(path: Path) -> None:
    values = {"colour": "red", "threshold": 7, "min_size": "many", "output": "votes"}
    path.parent.mkdir()
    path.write_text(json.dumps({"version": 1, "settings": {**values, "max_hole": 5}}))
    assert load_settings(path) == {"max_hole": 5}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"{}",
        b'{"version": 2, "settings": {}}',
        b'{"version": 1, "settings": [1]}',
        b"[" * 90_000,
    ],
)
def test_a_damaged_file_says_so(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be used.*defaults hold"):
        load_settings(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.data())
def test_any_allowed_settings_come_back(tmp_path: Path, data: st.DataObject) -> None:
    values = {}
    for info in remembered_options():
        if info.choices is not None:
            values[info.name] = data.draw(st.sampled_from(info.choices))
        elif info.kind in ("int", "float"):
            kind = st.integers if info.kind == "int" else st.floats
            number = kind(min_value=info.minimum or 0, max_value=info.maximum)
            values[info.name] = data.draw(st.none() | number if info.optional else number)
        else:
            values[info.name] = data.draw(st.text(max_size=20))
    save_settings(tmp_path / "file.json", values)
    loaded = load_settings(tmp_path / "file.json")
    defaults = {info.name: info.default for info in remembered_options()}
    assert {**defaults, **loaded} == values


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_path() is None, "a test sees the file of the user"
    monkeypatch.delenv(VARIABLE)
    found = settings_path()
    assert found is not None
    assert found.is_absolute()
    assert found.parent.name == "napari-espmedsam"
    monkeypatch.setenv(VARIABLE, "~/mine.json")
    assert settings_path() == Path.home() / "mine.json"


# The form ---------------------------------------------------------------------------------------


def _set(dock: Dock, values: dict[str, Any]) -> None:
    """Set values by the editors, as a user does."""
    form = dock.segment.form
    form.modality.setCurrentText(values["modality"])
    for name, value in values.items():
        if name != "modality":
            form.fields[name].value = value


def _shown(dock: Dock) -> dict[str, Any]:
    return {name: dock.segment.form.settings[name] for name in CHANGED}


def test_settings_come_back_in_the_next_session(open_dock, path: Path, qtbot) -> None:
    dock = open_dock()
    _set(dock, CHANGED)
    assert dock.segment.form.fields["diameter"].value is None, "fundus has no use for it"
    qtbot.waitUntil(path.exists, timeout=10_000)  # by itself, a moment later
    _close(dock)
    again = open_dock()
    assert _shown(again) == CHANGED
    again.segment.form.modality.setCurrentText("microscopy")
    assert again.segment.form.fields["diameter"].value == 12.5


def test_what_was_changed_last_is_written_when_the_dock_closes(open_dock, path: Path) -> None:
    dock = open_dock()
    _set(dock, CHANGED)
    assert not path.exists()
    _close(dock)
    assert load_settings(path) == CHANGED


def test_restore_defaults_holds_for_the_next_session_too(open_dock, path: Path) -> None:
    save_settings(path, CHANGED)
    dock = open_dock()
    assert _shown(dock) == CHANGED
    dock.segment.defaults_button.click()
    _close(dock)
    assert load_settings(path) == {}


def test_hidden_changes_are_counted_where_they_are_hidden(open_dock, path: Path) -> None:
    save_settings(path, {"smoothing": 1.0, "prompt_threshold": 0.5, "min_size": 3})
    dock = open_dock()
    part = dock.segment.form._more
    assert part.text() == "More settings (2 changed)"
    dock.segment.defaults_button.click()
    assert part.text() == "More settings"


def test_a_file_that_was_never_changed_is_never_written(open_dock, path: Path) -> None:
    dock = open_dock()
    dock.segment.form.fields["min_size"].value = 5
    dock.segment.form.fields["min_size"].value = SegmentRequest().min_size
    _close(dock)
    assert not path.exists()


def test_a_damaged_file_is_told_and_written_anew(open_dock, path: Path, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(memory_module, "show_warning", told.append)
    path.parent.mkdir()
    path.write_text("{")
    dock = open_dock()
    assert len(told) == 1
    assert str(path) in told[0]
    assert dock.segment.form.settings["min_size"] == SegmentRequest().min_size
    dock.segment.form.fields["min_size"].value = 5
    _close(dock)
    assert load_settings(path) == {"min_size": 5}


def test_a_place_that_cannot_be_written_is_harmless(open_dock, path: Path, caplog) -> None:
    path.parent.write_text("a file is in the way")
    dock = open_dock()
    dock.segment.form.fields["min_size"].value = 5
    with caplog.at_level(logging.WARNING):
        _close(dock)
    assert "not remembered" in caplog.text


def test_a_model_a_modality_and_a_device_that_are_gone(open_dock, path: Path, tmp_path) -> None:
    gone = {
        "checkpoint": str(tmp_path / "gone.safetensors"),
        "modality": "smell",
        "device": "cuda:7",
        "min_size": 5,
    }
    save_settings(path, gone)
    dock = open_dock()
    form = dock.segment.form
    assert (form.model.checkpoint, form.modality.currentText()) == ("espmedsam", "microscopy")
    assert (form.fields["device"].value, form.fields["min_size"].value) == ("auto", 5)


def test_a_model_file_of_the_user_comes_back(open_dock, path: Path, write_weights, qtbot) -> None:
    own = write_weights("own", ["dermoscopy", "fundus"], "MIT")
    save_settings(path, {"checkpoint": str(own), "modality": "fundus"})
    dock = open_dock()
    form = dock.segment.form
    qtbot.waitUntil(lambda: form.modality.count() == 2, timeout=10_000)
    assert (form.model.checkpoint, form.modality.currentText()) == (str(own), "fundus")


def test_two_docks_do_not_follow_each_other(open_dock, path: Path, qtbot) -> None:
    one = open_dock()
    two = open_dock()
    one.segment.form.fields["min_size"].value = 5
    qtbot.waitUntil(path.exists, timeout=10_000)
    assert two.segment.form.fields["min_size"].value == SegmentRequest().min_size
    two.memory.save()
    assert load_settings(path) == {"min_size": 5}, "an unchanged dock has written its own"


def test_what_is_found_out_live_is_kept(open_dock, path: Path) -> None:
    dock = open_dock()
    controls = dock.prompts.controls
    for name, value in (("threshold", 0.3), ("min_size", 9), ("output", "split")):
        controls.fields[name].value = value
        assert dock.segment.form.fields[name].value == value
    dock.memory.save()
    assert load_settings(path) == {"threshold": 0.3, "min_size": 9, "output": "split"}
    assert set(LIVE) <= set(dock.segment.form.settings)


def test_live_settings_leave_the_form_of_a_run_alone(open_dock, path: Path, fake, finish) -> None:
    dock = open_dock()
    dock.segment.form._viewer.add_image(np.ones((40, 40), np.uint8))
    fake.hold()
    dock.segment.run()
    dock.prompts.controls.fields["min_size"].value = 9
    assert dock.segment.form.fields["min_size"].value == SegmentRequest().min_size
    fake.let(99)
    finish(dock.segment)

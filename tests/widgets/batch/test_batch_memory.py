"""The fields of the tab "Batch" come back in the next session, and those that must not, do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_espmedsam.io.formats import FORMATS
from napari_espmedsam.widgets.batch_settings import BatchSettings
from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.settings_file import (
    VARIABLE,
    load_batch,
    load_settings,
    save_settings,
)

FILLED = BatchSettings(
    inputs=("/data/plate 1", "/data/é/*.tif"),
    results="/data/out",
    formats=("tiff", "geojson"),
    recursive=True,
    dicom_series=True,
    pattern="*_dapi.tif",
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where settings are remembered during the test."""
    found = tmp_path / "settings.json"
    monkeypatch.setenv(VARIABLE, str(found))
    return found


@pytest.fixture
def open_dock(qtbot: Any, weights: Any, fake: Any, path: Path) -> Iterator[Callable[[], Dock]]:
    """Return a function that begins a session; the one before ends."""
    docks: list[Dock] = []
    holders: list[QWidget] = []

    def close() -> None:
        for dock in docks:
            dock.setParent(None)  # as napari does
        docks.clear()

    def open_() -> Dock:
        close()
        holder, dock = QWidget(), Dock(ViewerModel(), loader=fake.load)
        QVBoxLayout(holder).addWidget(dock)
        qtbot.addWidget(holder)
        holders.append(holder)
        docks.append(dock)
        return dock

    yield open_
    close()


def _fill(dock: Dock) -> None:
    """Fill the fields as a user does."""
    fields = dock.batch.fields
    fields.inputs.add(*FILLED.inputs)
    fields.results.setText(FILLED.results)
    fields.formats["geojson"].setChecked(True)
    fields.recursive.setChecked(True)
    fields.dicom_series.setChecked(True)
    fields.pattern.setText(FILLED.pattern)


def test_the_fields_come_back_in_the_next_session(open_dock: Any, path: Path, qtbot: Any) -> None:
    dock = open_dock()
    _fill(dock)
    qtbot.waitUntil(path.exists, timeout=10_000)  # by itself, a moment later
    again = open_dock()
    assert again.batch.fields.settings == FILLED
    assert again.batch.fields._more.text() == "More settings (3 changed)"


def test_both_forms_are_remembered_together(open_dock: Any, path: Path) -> None:
    dock = open_dock()
    _fill(dock)
    dock.segment.form.fields["min_size"].value = 7
    again = open_dock()
    assert again.batch.fields.settings == FILLED
    assert again.segment.form.settings["min_size"] == 7
    again.segment.form.fields["min_size"].value = 8
    open_dock()
    assert load_batch(path) == FILLED
    assert load_settings(path) == {"min_size": 8}


def test_what_replaces_results_or_belongs_to_one_image_does_not_come_back(open_dock: Any) -> None:
    fields = open_dock().batch.fields
    fields.overwrite.setChecked(True)
    fields.channel.setValue(2)
    fields.axes.setText("CYX")
    fields.recursive.setChecked(True)
    again = open_dock().batch.fields
    assert (again.overwrite.isChecked(), again.channel.value(), again.axes.text()) == (
        False,
        -1,
        "",
    )
    assert again.recursive.isChecked()


def test_restore_defaults_keeps_images_and_results(open_dock: Any, path: Path) -> None:
    dock = open_dock()
    _fill(dock)
    fields = dock.batch.fields
    fields.overwrite.setChecked(True)
    fields.channel.setValue(2)
    fields.axes.setText("CYX")
    fields.defaults_button.click()
    assert fields.settings == BatchSettings(inputs=FILLED.inputs, results=FILLED.results)
    assert not fields.overwrite.isChecked()
    assert (fields.channel.text(), fields.axes.text()) == ("auto", "")
    assert fields._more.text() == "More settings"
    assert open_dock().batch.fields.settings == BatchSettings(
        inputs=FILLED.inputs, results=FILLED.results
    )


def test_what_is_not_allowed_is_dropped(path: Path) -> None:
    wrong = {"inputs": [1], "results": 5, "formats": ["bmp", "csv"], "recursive": "yes", "x": 0}
    path.write_text(json.dumps({"version": 1, "settings": {}, "batch": wrong}))
    assert load_batch(path) == BatchSettings(formats=("csv",))
    for damaged in ([1], None, "text"):
        path.write_text(json.dumps({"version": 1, "settings": {}, "batch": damaged}))
        assert load_batch(path) == BatchSettings()


def test_a_file_of_an_earlier_version_still_holds(path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "settings": {"min_size": 3}}))
    assert (load_settings(path), load_batch(path)) == ({"min_size": 3}, BatchSettings())


def test_thousands_of_files_are_not_remembered(path: Path) -> None:
    many = tuple(f"/data/plate/well {i:05d}.tif" for i in range(10_000))
    save_settings(path, {"min_size": 3}, BatchSettings(inputs=many, recursive=True))
    assert load_batch(path) == BatchSettings(recursive=True)
    assert load_settings(path) == {"min_size": 3}


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.builds(
        BatchSettings,
        inputs=st.lists(_TEXT, max_size=5).map(tuple),
        results=_TEXT,
        formats=st.lists(st.sampled_from(list(FORMATS)), min_size=1, unique=True).map(tuple),
        recursive=st.booleans(),
        dicom_series=st.booleans(),
        workers=st.integers(0, 256),
        scheduler=_TEXT,
        pattern=_TEXT,
    )
)
def test_any_fields_come_back(tmp_path: Path, filled: BatchSettings) -> None:
    save_settings(tmp_path / "file.json", {}, filled)
    assert load_batch(tmp_path / "file.json") == filled

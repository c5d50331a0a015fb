"""Prompt files in napari: opened, painted on, saved; and a sentence for what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.errors.reader_errors import ReaderPluginError

from napari_espmedsam.errors import OutputError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.plane_record import PlaneRecord
from napari_espmedsam.studio.record import PromptRecord, setting_names
from napari_espmedsam.studio.record_file import read_record, write_record
from napari_espmedsam.studio.record_json import record_to_json
from napari_espmedsam.studio.region import Region
from napari_espmedsam.widgets.prompt_files import (
    PROMPTS_KEY,
    get_reader,
    read_prompts,
    write_prompts,
)

UNTOUCHED = np.full((2, 3), -1, np.int8)
EDITS = np.array([[-1, 0, 1], [1, -1, -1]], np.int8)
MakeFile = Callable[..., Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Write the record of a stack of 5 planes of 60 x 96 px; planes 1 and 3 are in it."""

    def make(**changes: Any) -> Path:
        request = SegmentRequest(modality="microscopy")
        plain: dict[str, Any] = {
            "image_shape": (5, 60, 96),
            "image_dtype": "uint16",
            "axes": "ZYX",
            "checkpoint": "espmedsam",
            "weights_sha256": "c" * 64,
            "settings": {name: getattr(request, name) for name in setting_names()},
            "planes": (PlaneRecord((1,), "a", UNTOUCHED), PlaneRecord((3,), "b", EDITS)),
            "version": "0.1.0",
            "created": "2025-01-01T00:00:00+00:00",
            "image_name": "nuclei",
            "cell_size": (32.0, 32.0),
        }
        return write_record(tmp_path / "a.espprompts.json", PromptRecord(**(plain | changes)))

    return make


@pytest.mark.parametrize(
    "path",
    [
        *("a.json", "a.tif", "espprompts.json.txt", "", "/", "no/such/a.JSON"),
        *([], ["a.tif"], ["a.espprompts.json", "b.tif"], Path("a.json")),
    ],
)
def test_other_names_are_not_claimed(path: Any) -> None:
    assert get_reader(path) is None


@pytest.mark.parametrize("path", ["a.espprompts.json", "A.ESPPROMPTS.JSON", ["a.espprompts.json"]])
def test_names_of_prompt_files_are_claimed_without_a_look_inside(path: Any) -> None:
    assert get_reader(path) is read_prompts


def test_the_layer_shows_the_first_edited_plane_in_place(make_file: MakeFile) -> None:
    path = make_file()
    ((data, attributes, kind),) = read_prompts(str(path))
    assert kind == "labels"
    assert attributes["name"] == "Prompts of nuclei"
    np.testing.assert_array_equal(data, [[0, 3, 2], [2, 0, 0]])
    assert (attributes["scale"], attributes["translate"]) == ((32.0, 32.0), (15.5, 15.5))
    record = attributes["metadata"][PROMPTS_KEY]
    assert record_to_json(record) == record_to_json(read_record(path))


def test_a_region_shifts_the_layer(make_file: MakeFile) -> None:
    path = make_file(region=Region(8, 10, 60, 96), cell_size=(20.0, 30.0))
    ((_data, attributes, _kind),) = read_prompts(path)
    assert attributes["translate"] == (17.5, 24.5)


def test_what_a_record_does_not_say_is_made_up(make_file: MakeFile) -> None:
    path = make_file(image_name="", cell_size=None, planes=(PlaneRecord((2,), "a", UNTOUCHED),))
    ((data, attributes, _kind),) = read_prompts([path])
    assert attributes["name"] == "Prompts of a"
    assert attributes["scale"] == (30.0, 32.0)
    assert (data == 0).all()
    ((data, attributes, _kind),) = read_prompts(make_file(planes=()))
    assert data.shape == (1, 1)
    assert attributes["metadata"][PROMPTS_KEY].planes == ()


def test_what_is_saved_is_what_was_opened(make_file: MakeFile, tmp_path: Path) -> None:
    path = make_file()
    before = path.read_bytes()
    ((data, attributes, _kind),) = read_prompts(str(path))
    target = tmp_path / "b.espprompts.json"
    assert write_prompts(str(target), data, attributes) == [str(target)]
    assert target.read_bytes() == before


def test_what_was_painted_is_saved(make_file: MakeFile, tmp_path: Path) -> None:
    ((data, attributes, _kind),) = read_prompts(str(make_file()))
    data[:] = [[1, 0, 3], [2, 7, 0]]
    target = tmp_path / "b.espprompts.json"
    write_prompts(str(target), data, attributes)
    first, second = read_record(target).planes
    np.testing.assert_array_equal(first.edits, UNTOUCHED)
    np.testing.assert_array_equal(second.edits, [[-1, -1, 0], [1, 1, -1]])


def test_labels_of_a_session_can_be_saved_too(make_file: MakeFile, tmp_path: Path) -> None:
    record = read_record(make_file())
    labels = np.ones((5, 60, 96), np.uint32)
    target = tmp_path / "b.espprompts.json"
    write_prompts(str(target), labels, {"name": "a", "metadata": {PROMPTS_KEY: record}})
    assert record_to_json(read_record(target)) == record_to_json(record)


@pytest.mark.parametrize("name", ["b", "b.json", "b.JSON", "b.tif"])
def test_the_name_gets_its_ending(make_file: MakeFile, tmp_path: Path, name: str) -> None:
    ((data, attributes, _kind),) = read_prompts(str(make_file()))
    target = str(tmp_path / ("b.tif" if name == "b.tif" else "b")) + ".espprompts.json"
    assert write_prompts(str(tmp_path / name), data, attributes) == [target]
    assert Path(target).is_file()
    with pytest.raises(OutputError, match="exists"):
        write_prompts(str(tmp_path / name), data, attributes)
    assert write_prompts(target, data, attributes) == [target]


@pytest.mark.parametrize("metadata", [None, {}, {PROMPTS_KEY: {"format": 1}}])
def test_a_layer_without_prompts_is_refused(tmp_path: Path, metadata: Any) -> None:
    target = tmp_path / "b.espprompts.json"
    with pytest.raises(OutputError, match="'cells' carries no prompts"):
        write_prompts(str(target), np.zeros((4, 4)), {"name": "cells", "metadata": metadata})
    assert list(tmp_path.iterdir()) == []


def test_through_napari(
    make_napari_viewer: Callable[..., Any], make_file: MakeFile, tmp_path: Path
) -> None:
    """Open by name, save by name, and the errors that a user sees."""
    path = make_file()
    viewer = make_napari_viewer()
    (layer,) = viewer.open(path, plugin=None)
    assert layer.name == "Prompts of nuclei"
    np.testing.assert_array_equal(layer.data_to_world((1, 2)), (47.5, 79.5))
    target = tmp_path / "saved.espprompts.json"
    assert viewer.layers.save(str(target)) == [str(target)]
    assert target.read_bytes() == path.read_bytes()
    plain = viewer.add_labels(np.zeros((4, 4), int), name="plain")
    viewer.layers.selection = {plain}
    with pytest.raises(OutputError, match="'plain' carries no prompts"):
        viewer.layers.save(str(tmp_path / "c.espprompts.json"), selected=True)
    path.write_text("{}")
    with pytest.raises(ReaderPluginError, match="no prompt file"):
        viewer.open(path, plugin=None)
    assert len(viewer.layers) == 2

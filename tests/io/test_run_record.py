"""Run records: the files that they name, found and missing; and what is no record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.run_record import FORMAT, read_run_files


def _record(folder: Path, **content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "a.esprun.json"
    path.write_text(json.dumps({"format": "napari-espmedsam run", "version": 1, **content}))
    return path


def test_files_beside_the_record(tmp_path: Path) -> None:
    for name in ("a.tif", "a_labels.tif"):
        (tmp_path / name).touch()
    outputs = ["a_labels.tif", {"name": "a.csv"}, {"path": "sub/b.tif"}]
    files = read_run_files(_record(tmp_path, input="a.tif", outputs=outputs))
    assert files.image == tmp_path / "a.tif"
    assert files.outputs == (tmp_path / "a_labels.tif",)
    assert files.missing == ("a.csv", "sub/b.tif")


def test_the_image_in_a_folder_above_is_known_by_its_size(tmp_path: Path) -> None:
    image = tmp_path / "in" / "a.tif"
    image.parent.mkdir()
    image.write_bytes(b"1234")
    recorded = {"path": "in/a.tif", "bytes": 4}
    folder = tmp_path / "out" / "in"
    assert read_run_files(_record(folder, input=recorded)).image == image
    files = read_run_files(_record(folder, input=recorded | {"bytes": 5}))
    assert (files.image, files.missing) == (None, ("in/a.tif",))


@pytest.mark.parametrize("entry", [None, 7, [], {}, {"path": 7}, "\0", ""])
def test_entries_that_name_nothing(tmp_path: Path, entry: object) -> None:
    files = read_run_files(_record(tmp_path, input=entry, outputs=[entry]))
    assert (files.image, files.outputs, files.missing) == (None, (), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cut short"),
        ('{"format": "napari', "cut short"),
        ("[" * 100_000, "cut short"),
        ("[]", "is no record"),
        ('{"format": "other"}', "is no record"),
        ('{"format": "napari-espmedsam run", "version": 2}', "version 2"),
        ("\x80", "cut short"),
    ],
)
def test_what_is_no_record(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "a.esprun.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=expected):
        read_run_files(path)


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_run_files(tmp_path / "a.esprun.json")


@pytest.mark.parametrize("name", ["x" * 3000, "a\ud800.tif", "../" * 2000 + "a"])
def test_names_that_no_file_can_have_are_missing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.esprun.json"
    content = {"format": FORMAT, "version": 1, "input": name, "outputs": [name]}
    path.write_text(json.dumps(content))
    found = read_run_files(path)
    assert (found.image, found.outputs, found.missing) == (None, (), (name, name))

"""The index of bundled weights, and how names and paths are resolved."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from napari_espmedsam import weights
from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.weights import (
    DEFAULT_CHECKPOINT,
    WeightEntry,
    check_hash,
    describe_licence,
    list_checkpoints,
    resolve_checkpoint,
)

MAX_BYTES = 60_000_000
ENTRIES = list_checkpoints()
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def _header(path: Path) -> dict[str, Any]:
    """Read a safetensors header by its specification: u64 length, then JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(length))["__metadata__"]
    return json.loads(metadata["napari-espmedsam"])


def test_the_default_is_listed() -> None:
    assert DEFAULT_CHECKPOINT in [entry.name for entry in ENTRIES]


def test_names_are_unique() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))


@each_entry
def test_bundled_file_is_the_one_in_the_index(entry: WeightEntry) -> None:
    content = entry.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert len(content) <= MAX_BYTES


@each_entry
def test_header_agrees_with_the_index(entry: WeightEntry) -> None:
    header = _header(entry.path)
    assert header["name"] == entry.name
    assert header["licence"] == entry.licence
    assert tuple(header["modalities"]) == entry.modalities


@each_entry
def test_entry_is_complete(entry: WeightEntry) -> None:
    assert entry.modalities
    assert all(entry.targets)
    assert len(entry.targets) == len(entry.modalities)
    assert entry.licence
    assert entry.summary.endswith(".")
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.name)


@each_entry
def test_model_card_exists(entry: WeightEntry) -> None:
    assert entry.name in (entry.path.with_suffix(".md")).read_text(encoding="utf-8")


@each_entry
def test_weights_for_research_only_say_so(entry: WeightEntry) -> None:
    card = (entry.path.with_suffix(".md")).read_text(encoding="utf-8")
    restricted = "research only" in describe_licence(entry.licence)
    for text in (entry.summary, card):
        assert ("research only" in text.lower()) == restricted


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 (research only)"),
        ("cc-by-nc-4.0", "cc-by-nc-4.0 (research only)"),
        ("NCSA", "NCSA"),  # a permissive one
    ],
)
def test_licences_say_what_they_mean(licence: str, expected: str) -> None:
    assert describe_licence(licence) == expected


@pytest.fixture
def small_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the index by one with a file that is there and one that is missing."""
    row = {"modalities": {"m": "t"}, "sha256": None, "licence": "Apache-2.0", "summary": "s"}
    rows = [row | {"name": name, "file": f"{name}.safetensors"} for name in ("here", "gone")]
    (tmp_path / "here.safetensors").write_bytes(b"")
    index = tmp_path / "index.json"
    index.write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.setattr(weights, "_INDEX", index)
    return tmp_path


def test_name_resolves_to_its_file(small_index: Path) -> None:
    assert resolve_checkpoint("here") == small_index / "here.safetensors"


def test_path_resolves_to_itself(small_index: Path) -> None:
    path = small_index / "here.safetensors"
    assert resolve_checkpoint(path) == path
    assert resolve_checkpoint(str(path)) == path


def test_a_known_name_wins_over_a_file_of_that_name(
    small_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_index / "elsewhere"
    other.mkdir()
    (other / "here").write_bytes(b"")
    monkeypatch.chdir(other)
    assert resolve_checkpoint("here") == small_index / "here.safetensors"
    assert resolve_checkpoint(Path("here")) == Path("here")


def test_missing_bundled_file_is_told_apart_from_an_unknown_name(small_index: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'gone' belong to this package.*Install"):
        resolve_checkpoint("gone")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("hera", r"'hera'.*Did you mean 'here'\?.*Known names: here, gone"),
        ("entirely-different", r"'entirely-different'\. Known names: here, gone"),
        ("", r"empty\. Known names: here, gone"),
        ("~no-such-user/a.safetensors", r"'~no-such-user/a\.safetensors' cannot.*home.*Known"),
        ("n" * 5000, r"cannot be looked for.*too long.*Known names: here, gone"),
        ("folder/nothing.safetensors", r"no weight file folder/nothing\.safetensors.*Known"),
        ("authors.pth", r"\.pth file.*napari-espmedsam import authors\.pth.*authors\.safetensors"),
    ],
)
@pytest.mark.usefixtures("small_index")
def test_bad_names_say_what_is_wrong_and_what_to_do(asked: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        resolve_checkpoint(asked)


def test_a_folder_is_refused(small_index: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        resolve_checkpoint(small_index)


@each_entry
def test_changed_weights_of_the_package_are_refused(entry: WeightEntry, tmp_path: Path) -> None:
    check_hash(entry.path, entry.sha256)
    check_hash(tmp_path / "own.safetensors", "0" * 64)
    with pytest.raises(CheckpointError, match=f"'{entry.name}'.*changed.*{entry.sha256}.*Install"):
        check_hash(entry.path, "0" * 64)

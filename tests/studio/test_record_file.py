"""The prompt file: what is written comes back, and whatever else is there gets one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_espmedsam.studio.record_file as record_file
from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.studio.plane_record import PlaneRecord
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.studio.record_file import read_record, write_record
from napari_espmedsam.studio.record_json import _checksum, record_from_json, record_to_json
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.runs import decode_runs, encode_runs

MakeRecord = Callable[..., PromptRecord]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the name of a file that is not there yet."""
    return tmp_path / "cells.espprompts.json"


@pytest.fixture
def rewrite(path: Path, make_record: MakeRecord) -> Callable[..., Path]:
    """Write the file with other content and a checksum that fits it."""

    def write(change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> Path:
        content = record_to_json(make_record())
        del content["checksum"]
        change(content)
        if sign:
            content["checksum"] = _checksum(content)
        path.write_text(json.dumps(content))
        return path

    return write


def test_what_is_written_comes_back(path: Path, make_record: MakeRecord) -> None:
    record = make_record()
    assert write_record(path, record) == path
    found = read_record(path)
    assert record_to_json(found) == record_to_json(record)
    for plane, expected in zip(found.planes, record.planes, strict=True):
        assert (plane.index, plane.pixels_hash) == (expected.index, expected.pixels_hash)
        np.testing.assert_array_equal(plane.edits, expected.edits)
        assert plane.edits.dtype == np.int8
    first, second = found.planes
    assert first.anchors is None
    assert first.locked is None
    np.testing.assert_array_equal(second.anchors, [[9, 0, 5], [4, 63, 95]])
    np.testing.assert_array_equal(second.locked, record.planes[1].locked)
    assert found.request() == record.request()
    assert found.request().planes == (1, 3)
    assert (found.image_name, found.cell_size) == ("Zellen ä 细胞", (32.0, 32.5))


def test_the_format_is_what_the_documents_say(path: Path, make_record: MakeRecord) -> None:
    """A change of these names is a change of the format: it needs a new version."""
    content = json.loads(write_record(path, make_record()).read_text())
    assert (content["format"], content["version"]) == ("napari-espmedsam prompts", 1)
    assert list(content) == [
        *("format", "version", "software", "created", "image", "model", "settings"),
        *("cell_size", "planes", "checksum"),
    ]
    assert list(content["image"]) == ["name", "shape", "dtype", "axes", "region"]
    assert list(content["model"]) == ["checkpoint", "weights_sha256"]
    assert list(content["planes"][0]) == ["index", "pixels_hash", "edits", "anchors", "locked"]
    assert list(content["planes"][0]["edits"]) == ["shape", "runs"]


def test_another_layout_of_the_same_content_is_read(path: Path, make_record: MakeRecord) -> None:
    write_record(path, make_record())
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=3, ensure_ascii=False))
    assert record_to_json(read_record(path)) == record_to_json(make_record())


def test_a_setting_that_is_newer_than_the_file_has_its_default(
    rewrite: Callable[..., Path],
) -> None:
    path = rewrite(lambda content: content["settings"].pop("max_hole"))
    assert read_record(path).request().max_hole == 64


def test_a_region_comes_back(path: Path, make_record: MakeRecord) -> None:
    region = Region(8, 16, 40, 80)
    plane = PlaneRecord((0,), "a", np.full((1, 2), -1), np.array([[1, 31, 63]]))
    write_record(path, make_record(region=region, planes=(plane,)))
    assert read_record(path).region == region
    outside = PlaneRecord((0,), "a", np.full((1, 2), -1), np.array([[1, 32, 0]]))
    with pytest.raises(InputError, match="outside"):
        make_record(region=region, planes=(outside,))


def test_a_record_without_planes(path: Path, make_record: MakeRecord) -> None:
    write_record(path, make_record(planes=()))
    assert read_record(path).planes == ()


def test_large_canvases_make_small_files(path: Path, make_record: MakeRecord) -> None:
    edits = np.full((4096, 4096), -1, np.int8)
    edits[100:200, 50:90] = 1
    write_record(path, make_record(planes=(PlaneRecord((0,), "a", edits),)))
    assert path.stat().st_size < 10_000
    np.testing.assert_array_equal(read_record(path).planes[0].edits, edits)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (13, 11)])
def test_runs_give_any_canvas_back(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    for high in (1, 2, 2**32):
        canvas = rng.integers(0, high, shape).astype(np.uint32)
        runs = encode_runs(canvas)
        assert all(type(value) is int for value in runs)
        np.testing.assert_array_equal(decode_runs(runs, shape, np.uint32), canvas)


@pytest.mark.parametrize(
    "runs",
    [[], [0], [0, 3], [0, 5], [0, 2, 1], [0, 0, 1, 4], [0, -1, 0, 5], [0, 2**70], [300, 4]],
)
def test_runs_that_do_not_fill_are_refused(runs: list[int]) -> None:
    with pytest.raises(InputError, match="runs"):
        decode_runs(runs, (2, 2), np.int8)


def test_truncations_are_refused(path: Path, make_record: MakeRecord) -> None:
    data = write_record(path, make_record()).read_bytes().rstrip()
    rng = random.Random(1)
    for length in {0, 1, len(data) - 1, *(rng.randrange(len(data)) for _ in range(200))}:
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="espprompts"):
            read_record(path)


def test_flipped_bytes_are_refused_or_change_nothing(path: Path, make_record: MakeRecord) -> None:
    """One to three random bytes at 600 random places: never another record, never a crash."""
    record = make_record()
    data, expected = write_record(path, record).read_bytes(), record_to_json(record)
    rng = random.Random(2)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            refused += 1
            assert record_to_json(read_record(path)) == expected
            refused -= 1
    assert refused > 500


@pytest.mark.parametrize(
    "text",
    [
        *("", "\x00", "[]", "{}", "null", "12", '"text"', "{", "\ufeff{}", "[" * 200_000),
        *('{"format": 3}', '{"format": "napari-espmedsam prompts"}', '{"a": NaN}'),
        '{"format": "napari-espmedsam prompts", "version": ' + "9" * 5000 + "}",
        '{"format": "napari-espmedsam prompts", "version": 1, "a": ' + "[" * 900 + "]" * 900 + "}",
        '{"type": "FeatureCollection", "features": []}',
    ],
)
def test_foreign_files_are_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="espprompts"):
        read_record(path)


def test_other_things_than_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_record(tmp_path / "none.espprompts.json")
    with pytest.raises(InputError, match="is not a file"):
        read_record(tmp_path)
    with pytest.raises(InputError, match="cannot be opened"):
        read_record("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not a file"):
        read_record(path)


def test_a_newer_version_says_to_update(rewrite: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"version 2.*up to version 1.*Update"):
        read_record(rewrite(lambda content: content.update(version=2, planes="another form")))


def test_hand_edits_are_noticed(rewrite: Callable[..., Path]) -> None:
    path = rewrite(lambda content: content["settings"].update(threshold=0.5), sign=False)
    with pytest.raises(InputError, match="edited by hand"):
        read_record(path)


def test_a_file_that_is_too_large_is_not_read_whole(
    path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(path, make_record())
    monkeypatch.setattr(record_file, "MAX_FILE_BYTES", 500)
    with pytest.raises(InputError, match="500 bytes"):
        read_record(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="500"):
        write_record(path, make_record())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["planes"][0]["edits"].update(shape=[2**28, 2**28]), "bytes; the limit"),
        (lambda c: c["planes"][0]["edits"].update(shape=[2**60, 1]), "shape"),
        (lambda c: c["planes"][0]["edits"].update(shape=[0, 6]), "shape"),
        (lambda c: c["planes"][0]["edits"].update(shape=[2, 3, 1]), "shape"),
        (lambda c: c["planes"][0]["edits"].update(shape=[3, 3]), "runs"),
        (lambda c: c["planes"][0]["edits"].update(runs=[2, 6]), "edits holds"),
        (lambda c: c["planes"][0]["edits"].update(runs=[-1, 6.0]), "runs"),
        (lambda c: c["planes"][0]["edits"].update(runs=[True, 6]), "runs"),
        (lambda c: c["planes"][0].update(edits={"shape": [1, 6], "runs": [1, 6]}), "shape"),
        (lambda c: c["planes"][0].update(edits=None), "edits"),
        (lambda c: c["planes"][0].update(index=[4]), "index"),
        (lambda c: c["planes"][0].update(index=[3]), "same index"),
        (lambda c: c["planes"][0].update(index=[0, 0]), "index"),
        (lambda c: c["planes"][0].update(index=["0"]), "index"),
        (lambda c: c["planes"][0].update(pixels_hash="x" * 5000), "pixels_hash"),
        (lambda c: c["planes"][1].update(anchors=[[1, 64, 0]]), "outside"),
        (lambda c: c["planes"][1].update(anchors=[[1, 0, 0], [1, 2, 2]]), "twice"),
        (lambda c: c["planes"][1].update(anchors=[[0, 0, 0]]), "anchors"),
        (lambda c: c["planes"][1].update(anchors=[[1, 0]]), "anchors"),
        (lambda c: c["planes"][1]["locked"].update(runs=[2**32, 64 * 96]), "runs"),
        (lambda c: c["planes"][1].update(locked={"shape": [4, 4], "runs": [1, 16]}), "locked"),
        (lambda c: c["image"].update(axes="ZXX"), "axes"),
        (lambda c: c["image"].update(shape=[4, 64]), "axes"),
        (lambda c: c["image"].update(shape=[4, 64, -96]), "shape"),
        (lambda c: c["image"].update(name="\ud800"), "image_name"),
        (lambda c: c["image"].update(region=[0, 0, 65, 96]), "region"),
        (lambda c: c["image"].update(region=[0, 0, 64]), "region"),
        (lambda c: c["settings"].update(threshold=7), "threshold"),
        (lambda c: c["settings"].update(threshold="0.5"), "threshold"),
        (lambda c: c["settings"].update(planes=[[]]), "planes"),
        (lambda c: c["settings"].update(axes={"a": 1}), "axes"),
        (lambda c: c["settings"].update(scale=2.0, diameter=9.0), "scale"),
        (lambda c: c["settings"].update(device="cuda"), "device"),
        (lambda c: c["settings"].update(magic=1), "magic"),
        (lambda c: c.update(cell_size=[0.0, 1.0]), "cell_size"),
        (lambda c: c.update(more=1), "more"),
        (lambda c: c.update(software=3), "software"),
        (lambda c: c.pop("planes"), "planes"),
        (lambda c: c.update(version=True), "damaged"),
        (lambda c: c.update(version=0), "damaged"),
    ],
)
def test_wrong_values_under_a_right_checksum(
    rewrite: Callable[..., Path], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = rewrite(change)
    with pytest.raises(InputError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_name_decides_what_napari_opens(tmp_path: Path, make_record: MakeRecord) -> None:
    with pytest.raises(InputError, match=r"a\.json\.espprompts\.json"):
        write_record(tmp_path / "a.json", make_record())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_or_replaced_whole(
    path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(path, make_record())
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_record(path, make_record(), overwrite=False)

    def fail(*_arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="disk full"):
        write_record(path, make_record(planes=()))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_json_of_a_record_is_plain(make_record: MakeRecord) -> None:
    settings = make_record().settings | {"threshold": np.float32(0.5), "planes": np.array([1])[:1]}
    settings["planes"] = tuple(settings["planes"])
    record = make_record(settings=settings)
    again = record_from_json(json.loads(json.dumps(record_to_json(record))))
    assert again.request() == record.request()

"""Objects of a plane in blocks: the same as in one piece, whatever they cross."""

from __future__ import annotations

import csv
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pytest
import shapely
import zarr
from shapely.geometry import shape
from skimage.measure import label

from napari_espmedsam.io import geojson as our_geojson
from napari_espmedsam.io import tables
from napari_espmedsam.io.geojson import write_geojson, write_geojson_stream
from napari_espmedsam.io.label_stream import StreamedObject, stream_objects
from napari_espmedsam.io.tables import write_objects_csv, write_objects_csv_stream

SPACING = {"Y": 0.5, "X": 0.25}


def _random(seed: int, size: tuple[int, int] = (70, 90), share: float = 0.55) -> np.ndarray:
    """Return connected objects with holes, arms and corners, from single pixels to very long."""
    mask = np.random.default_rng(seed).random(size) < share
    return label(mask, connectivity=2).astype(np.uint32)


def _paste(found: list[StreamedObject], size: tuple[int, int]) -> np.ndarray:
    plane = np.zeros(size, np.uint32)
    for each in found:
        top, left, bottom, right = each.box
        part = plane[top:bottom, left:right]
        assert not (part[each.pixels] != 0).any()
        part[each.pixels] = each.label
    return plane


@pytest.mark.parametrize("block", [7, 16, 33, 70, 200])
@pytest.mark.parametrize("share", [0.2, 0.35, 0.45, 0.9])
def test_each_object_once_and_whole(block: int, share: float) -> None:
    ids = _random(3, share=share)
    found = list(stream_objects(ids, pixels=True, block=block))
    assert sorted(each.label for each in found) == list(range(1, int(ids.max()) + 1))
    np.testing.assert_array_equal(_paste(found, ids.shape), ids)
    plain = {each.label: each for each in stream_objects(ids, block=block)}
    for each in found:
        y, x = np.nonzero(ids == each.label)
        for other in (each, plain[each.label]):
            assert other.area == y.size
            assert other.centroid == pytest.approx((y.mean(), x.mean()))
            assert other.box == (y.min(), x.min(), y.max() + 1, x.max() + 1)
            assert not other.is_part
        assert plain[each.label].pixels is None


def test_a_spiral_waits_for_its_end() -> None:
    ids = np.zeros((40, 40), np.uint32)
    ids[0:40, 2] = ids[38, 2:38] = ids[4:39, 37] = ids[4, 10:38] = ids[4:30, 10] = 7
    ids[20, 20] = 9
    found = list(stream_objects(ids, pixels=True, block=8))
    assert [each.label for each in found] == [9, 7], "each when it is complete"
    np.testing.assert_array_equal(_paste(found, ids.shape), ids)


def test_what_is_too_large_comes_in_parts() -> None:
    ids = np.zeros((40, 40), np.uint32)
    ids[5:35, 5:35] = 1
    ids[1, 1] = 2
    ids[36:39, 14:20] = 3
    found = list(stream_objects(ids, pixels=True, block=16, max_box=300))
    assert [each.label for each in found if not each.is_part] == [2, 3]
    parts = [each for each in found if each.is_part]
    assert {each.label for each in parts} == {1}
    assert len(parts) == 9
    assert sum(each.area for each in parts) == 900
    np.testing.assert_array_equal(_paste(found, ids.shape), ids)


def test_only_a_block_is_read_at_once() -> None:
    asked: list[int] = []

    class Lazy:
        shape = (100, 100)

        def __getitem__(self, part: Any) -> np.ndarray:
            asked.append(1)
            rows, columns = (range(100)[each] for each in part)
            assert len(rows) <= 32
            assert len(columns) <= 32
            return np.ones((len(rows), len(columns)), np.uint32)

    (only,) = stream_objects(Lazy(), block=32)
    assert (only.area, len(asked)) == (10_000, 16)


def test_memory_does_not_grow_with_the_plane(tmp_path: Path) -> None:
    def peak(side: int) -> int:
        array = zarr.create_array(
            str(tmp_path / f"{side}.zarr"), shape=(side, side), chunks=(512, 512), dtype="uint32"
        )
        for number, corner in enumerate(range(490, side - 130, 500), start=1):
            array[corner : corner + 40, corner - 300 : corner + 40] = number
            array[corner + 100 : corner + 120, 500:530] = number + 10_000
        tracemalloc.start()
        n = sum(1 for _ in stream_objects(array, pixels=True, block=512))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n == 2 * number
        return most

    assert peak(6144) < 1.5 * peak(1536)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writers read blocks of 16 px."""
    for module in (our_geojson, tables):
        monkeypatch.setattr(module, "stream_objects", partial(stream_objects, block=16))


@pytest.fixture
def plane(tmp_path: Path) -> tuple[np.ndarray, Any]:
    """Return labels, and the same as Zarr."""
    ids = _random(5, share=0.4)
    array = zarr.create_array(str(tmp_path / "labels.zarr"), data=ids, chunks=(32, 32))
    return ids, array


def _by_name(path: Path) -> dict[str, Any]:
    with path.open() as file:
        found = geojson.load(file)
    assert found.is_valid
    return {each["properties"]["name"]: each for each in found["features"]}


def test_geojson_is_that_of_the_plane_in_one_piece(
    plane: Any, blocks: None, tmp_path: Path
) -> None:
    ids, array = plane
    write_geojson(tmp_path / "one.geojson", ids, "YX", spacing=SPACING)
    write_geojson_stream(
        tmp_path / "stream.geojson", array, spacing=SPACING, provenance={"model": "tiny"}
    )
    one, streamed = _by_name(tmp_path / "one.geojson"), _by_name(tmp_path / "stream.geojson")
    assert len(one) == ids.max() > 50
    assert one.keys() == streamed.keys()
    for name, feature in streamed.items():
        assert feature["properties"] == one[name]["properties"]
        found = shape(feature["geometry"])
        assert found.is_valid
        assert found.area == (ids == int(name)).sum()
        assert shapely.equals(found, shape(one[name]["geometry"]))
    assert '"model": "tiny"' in (tmp_path / "stream.geojson").read_text()


def test_the_table_is_that_of_the_plane_in_one_piece(
    plane: Any, blocks: None, tmp_path: Path
) -> None:
    ids, array = plane
    for spacing in (None, SPACING):
        write_objects_csv(tmp_path / "one.csv", ids, "YX", spacing=spacing)
        write_objects_csv_stream(tmp_path / "stream.csv", array, spacing=spacing)
        one, streamed = (_rows(tmp_path / name) for name in ("one.csv", "stream.csv"))
        assert one == streamed
        assert len(one) == ids.max()
    write_objects_csv_stream(tmp_path / "none.csv", np.zeros((20, 20), np.uint32), spacing=SPACING)
    assert _rows(tmp_path / "none.csv") == []
    assert (tmp_path / "none.csv").read_text().startswith("label,area_px,centroid_y_px")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["label"]))

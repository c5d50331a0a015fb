"""GeoJSON: read back by the library of that name and by shapely, and as QuPath expects it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pytest
import shapely

from napari_espmedsam.io.geojson import write_geojson


def _read(path: Path) -> Any:
    collection = geojson.loads(path.read_text(encoding="utf-8"))
    assert isinstance(collection, geojson.FeatureCollection)
    assert collection.is_valid, collection.errors()
    return collection


def _filled(features: list[Any], shape: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(shape) + 0.5
    labels = np.zeros(shape, np.int64)
    for feature in features:
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert geometry.is_valid
        labels[shapely.contains_xy(geometry, x, y)] += int(feature["properties"]["name"])
    return labels


def test_polygons_hold_the_labels(tmp_path: Path, shapes: np.ndarray) -> None:
    path = write_geojson(tmp_path / "a.geojson", shapes, "YX")
    features = _read(path).features
    np.testing.assert_array_equal(_filled(features, shapes.shape), shapes)
    kinds = {each["properties"]["name"]: each["geometry"]["type"] for each in features}
    assert kinds["70000"] == "MultiPolygon"
    assert kinds["1"] == "Polygon"


def test_what_qupath_reads(tmp_path: Path, shapes: np.ndarray) -> None:
    spacing = {"Y": 0.5, "X": 0.25}
    path = write_geojson(tmp_path / "a.geojson", shapes, "YX", spacing=spacing)
    feature = _read(path).features[1]
    assert feature["properties"] == {
        "name": "2",
        "objectType": "detection",
        "classification": {"name": "Object", "color": [60, 180, 75]},
        "measurements": {"Label": 2, "Area px^2": 1, "Area µm^2": 0.125},
    }
    assert "plane" not in feature["geometry"]


def test_class_and_type_can_be_chosen(tmp_path: Path, shapes: np.ndarray) -> None:
    path = write_geojson(
        tmp_path / "a.geojson", shapes, "YX", category="Nucleus", object_type="annotation"
    )
    properties = _read(path).features[0]["properties"]
    assert properties["classification"]["name"] == "Nucleus"
    assert properties["objectType"] == "annotation"


def test_planes_of_a_stack(tmp_path: Path, stack: np.ndarray) -> None:
    features = _read(write_geojson(tmp_path / "a.geojson", stack, "TZYX")).features
    for t, z in np.ndindex(2, 3):
        place = {"c": -1, "z": z, "t": t}
        here = [each for each in features if each["geometry"]["plane"] == place]
        np.testing.assert_array_equal(_filled(here, (24, 30)), stack[t, z])


@pytest.mark.parametrize("n", [0, 1])
def test_few_objects(tmp_path: Path, n: int) -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[2:4, 2:4] = n
    assert len(_read(write_geojson(tmp_path / "a.geojson", labels, "YX")).features) == n


def test_provenance(tmp_path: Path, shapes: np.ndarray) -> None:
    record = {"model": "espmedsam", "unit": "µm", "tile": None}
    path = write_geojson(tmp_path / "a.geojson", shapes, "YX", provenance=record)
    assert _read(path)["napari-espmedsam"] == record

"""Labels layers through napari's own saving: scale, units, axes and record arrive in the file."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import dask.array as da
import napari
import numpy as np
import pytest
import zarr
from napari.layers import Labels
from npe2 import PluginManager

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.labels import read_provenance
from napari_espmedsam.widgets.layers import METADATA_KEY
from napari_espmedsam.widgets.writers import write_coco, write_geojson, write_ome_zarr, write_tiff

PLUGIN = "napari-espmedsam"
ENDINGS = (".labels.tif", ".ome.zarr", ".geojson", ".roi.zip", ".coco.json", ".csv")
RECORD = {"model": "tiny", "image": "cells"}


@pytest.fixture
def labels() -> np.ndarray:
    """Return (3, 20, 24) labels: two objects, of which one goes through all planes."""
    labels = np.zeros((3, 20, 24), np.int32)
    labels[:, 2:8, 3:9] = 1
    labels[1, 12:16, 10:20] = 300
    return labels


@pytest.fixture
def layer(labels: np.ndarray) -> Labels:
    """Return a result of ours as a layer: 2 um between planes, 500 nm pixels."""
    return Labels(
        labels,
        name="cells",
        scale=(2, 500, 500),
        units=("um", "nm", "nm"),
        axis_labels=("z", "y", "x"),
        metadata={METADATA_KEY: RECORD, "of somebody else": object()},
    )


def _save(layer: Labels, path: Path) -> Path:
    PluginManager.instance().discover()
    (written,) = napari.save_layers(str(path), [layer], plugin=PLUGIN)
    return Path(written)


def _attributes(layer: Labels) -> dict[str, Any]:
    return dict(layer.as_layer_data_tuple()[1])


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_finds_its_writer(layer: Labels, tmp_path: Path, ending: str) -> None:
    path = _save(layer, tmp_path / f"cells{ending}")
    assert path.name == f"cells{ending}"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_tiff(layer: Labels, labels: np.ndarray, tmp_path: Path) -> None:
    path = _save(layer, tmp_path / "cells.labels.tif")
    image = read_image(path)
    assert image.axes == "ZYX"
    assert image.spacing == pytest.approx({"Z": 2.0, "Y": 0.5, "X": 0.5})
    np.testing.assert_array_equal(image.array, labels)
    assert read_provenance(path) == RECORD


def test_ome_zarr(layer: Labels, labels: np.ndarray, tmp_path: Path) -> None:
    group = zarr.open_group(_save(layer, tmp_path / "cells.ome.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][:], labels)
    (multiscale,) = group.attrs["multiscales"]
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"] == [2.0, 0.5, 0.5]
    assert group.attrs[PLUGIN] == RECORD


def test_outlines_and_tables(layer: Labels, tmp_path: Path) -> None:
    collection = json.loads(_save(layer, tmp_path / "a.geojson").read_text(encoding="utf-8"))
    places = [each["geometry"]["plane"]["z"] for each in collection["features"]]
    assert places == [0, 1, 1, 2]
    areas = [each["properties"]["measurements"]["Area µm^2"] for each in collection["features"]]
    assert areas == [9.0, 9.0, 10.0, 9.0]
    names = zipfile.ZipFile(_save(layer, tmp_path / "a.roi.zip")).namelist()
    assert names[-1] == "0003-0005-0006-1.roi"
    coco = json.loads(_save(layer, tmp_path / "a.coco.json").read_text(encoding="utf-8"))
    assert {image["file_name"] for image in coco["images"]} == {"cells"}
    with _save(layer, tmp_path / "a.csv").open(newline="") as file:
        assert [row["area_um2"] for row in csv.DictReader(file)] == ["9.0", "9.0", "10.0", "9.0"]


def test_plain_layers_are_in_pixels(labels: np.ndarray, tmp_path: Path) -> None:
    layer = Labels(labels)
    image = read_image(_save(layer, tmp_path / "a.labels.tif"))
    assert image.spacing == {}
    np.testing.assert_array_equal(image.array, labels)


def test_axes_of_another_order_lazy_and_multiscale(labels: np.ndarray, tmp_path: Path) -> None:
    turned = da.from_array(labels.transpose(1, 2, 0))
    layer = Labels([turned, turned[::2, ::2]], axis_labels=("y", "x", "t"), multiscale=True)
    image = read_image(_save(layer, tmp_path / "a.labels.tif"))
    assert image.axes == "TYX"
    np.testing.assert_array_equal(image.array, labels)


def test_saving_changes_no_layer(layer: Labels, labels: np.ndarray, tmp_path: Path) -> None:
    for ending in ENDINGS:
        _save(layer, tmp_path / f"a{ending}")
    np.testing.assert_array_equal(layer.data, labels)
    assert layer.metadata[METADATA_KEY] == {"model": "tiny", "image": "cells"}


def test_names_are_completed(layer: Labels, tmp_path: Path) -> None:
    data, attributes = layer.data, _attributes(layer)
    for write, given, expected in (
        (write_geojson, "a", "a.geojson"),
        (write_geojson, "b.txt", "b.txt.geojson"),
        (write_coco, "c.json", "c.json"),
        (write_tiff, "d.TIFF", "d.TIFF"),
        (write_tiff, "e", "e.tif"),
    ):
        assert write(str(tmp_path / given), data, attributes) == [str(tmp_path / expected)]
        assert (tmp_path / expected).is_file()


def test_what_nobody_was_asked_about_is_not_replaced(layer: Labels, tmp_path: Path) -> None:
    data, attributes = layer.data, _attributes(layer)
    (tmp_path / "a.geojson").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.geojson exists already; choose another name"):
        write_geojson(str(tmp_path / "a"), data, attributes)
    assert (tmp_path / "a.geojson").read_text() == "mine"
    path = str(tmp_path / "a.ome.zarr")
    write_ome_zarr(path, data, attributes)
    with pytest.raises(OutputError, match="exists already"):
        write_ome_zarr(path, data, attributes)
    write_geojson(str(tmp_path / "a.geojson"), data, attributes)  # napari asked


def test_errors_reach_the_user(tmp_path: Path) -> None:
    """An error that is a ValueError would be taken for "no writer found"."""
    for layer, reason in (
        (Labels(np.zeros((2,) * 5, int)), "5 axes"),
        (Labels(np.full((4, 4), -1)), "-1"),
    ):
        with pytest.raises(OutputError, match=reason):
            _save(layer, tmp_path / "a.geojson")
    assert list(tmp_path.iterdir()) == []

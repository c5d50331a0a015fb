"""OME-Zarr: read back by zarr, and by ome-zarr as napari, which shares no code with us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.zarr_labels import write_labels_zarr

SPACING = {"T": 20.0, "Z": 1.5, "Y": 0.25, "X": 0.5}


@pytest.fixture
def large() -> np.ndarray:
    """Return (2, 700, 530) labels, whose pyramid has three levels."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 90_000, (2, 70, 53)).astype(np.uint32)
    return blocks.repeat(10, axis=1).repeat(10, axis=2)


def _attributes(path: Path) -> dict[str, Any]:
    return dict(zarr.open_group(path, mode="r").attrs)


def test_labels_and_pyramid(tmp_path: Path, large: np.ndarray) -> None:
    path = write_labels_zarr(tmp_path / "a.ome.zarr", large, "ZYX")
    group = zarr.open_group(path, mode="r")
    assert sorted(group.array_keys()) == ["0", "1", "2"]
    for level in range(3):
        step = 2**level
        expected = large[:, ::step, ::step]
        np.testing.assert_array_equal(group[str(level)][:], expected)
    assert group["0"].chunks == (1, 512, 512)
    assert group["0"].dtype == np.uint32


def test_axes_units_and_scale(tmp_path: Path, stack: np.ndarray) -> None:
    path = write_labels_zarr(tmp_path / "a.ome.zarr", stack, "TZYX", spacing=SPACING)
    (multiscale,) = _attributes(path)["multiscales"]
    assert multiscale["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    (dataset,) = multiscale["datasets"]
    assert dataset["coordinateTransformations"] == [
        {"type": "scale", "scale": [20.0, 1.5, 0.25, 0.5]}
    ]


def test_levels_say_how_large_their_pixels_are(tmp_path: Path, large: np.ndarray) -> None:
    path = write_labels_zarr(tmp_path / "a.ome.zarr", large, "ZYX", spacing={"Y": 0.5, "X": 0.5})
    (multiscale,) = _attributes(path)["multiscales"]
    scales = [each["coordinateTransformations"][0]["scale"] for each in multiscale["datasets"]]
    assert scales == [[1.0, 0.5, 0.5], [1.0, 1.0, 1.0], [1.0, 2.0, 2.0]]
    assert "unit" not in multiscale["axes"][0]


def test_each_object_has_a_colour(tmp_path: Path, shapes: np.ndarray) -> None:
    path = write_labels_zarr(tmp_path / "a.ome.zarr", shapes, "YX")
    colours = _attributes(path)["image-label"]["colors"]
    assert [each["label-value"] for each in colours] == [1, 2, 4, 5, 6, 7, 70_000]
    assert all(len(each["rgba"]) == 4 and each["rgba"][3] == 255 for each in colours)
    assert len({tuple(each["rgba"]) for each in colours}) == 7


def test_lazy_labels_are_read_in_parts(tmp_path: Path, large: np.ndarray) -> None:
    lazy = da.from_array(large.transpose(0, 2, 1), chunks=(1, 100, 100))
    path = write_labels_zarr(tmp_path / "a.ome.zarr", lazy, "TXY")
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][:], large)


def test_provenance(tmp_path: Path, shapes: np.ndarray) -> None:
    record = {"model": "espmedsam", "path": Path("a"), "tile": (1, 2)}
    path = write_labels_zarr(tmp_path / "a.ome.zarr", shapes, "YX", provenance=record)
    found = _attributes(path)["napari-espmedsam"]
    assert found == {"model": "espmedsam", "path": "a", "tile": [1, 2]}


def test_ome_zarr_reads_labels_with_colours(tmp_path: Path, large: np.ndarray) -> None:
    reader = pytest.importorskip("ome_zarr.reader")
    io = pytest.importorskip("ome_zarr.io")
    path = write_labels_zarr(tmp_path / "a.ome.zarr", large, "ZYX", spacing=SPACING)
    location = io.parse_url(path)
    assert location is not None
    (node,) = reader.Reader(location)()
    assert node.load(reader.Label) is not None
    assert [level.shape for level in node.data] == [(2, 700, 530), (2, 350, 265), (2, 175, 133)]
    np.testing.assert_array_equal(np.asarray(node.data[0]), large)
    assert set(node.metadata["color"]) >= set(np.unique(large[large > 0]).tolist())
    assert node.metadata["coordinateTransformations"][1][0]["scale"] == [1.5, 0.5, 1.0]


def test_an_older_result_is_replaced(tmp_path: Path, shapes: np.ndarray) -> None:
    path = write_labels_zarr(tmp_path / "a.ome.zarr", shapes, "YX")
    (path / "left.over").touch()
    write_labels_zarr(path, shapes[:5], "YX")
    assert zarr.open_group(path, mode="r")["0"].shape == (5, 30)
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert not (path / "left.over").exists()


def test_other_folders_are_not_replaced(tmp_path: Path, shapes: np.ndarray) -> None:
    folder = tmp_path / "photos.zarr"
    folder.mkdir()
    (folder / "holiday.jpg").touch()
    with pytest.raises(OutputError, match="something else than OME-Zarr"):
        write_labels_zarr(folder, shapes, "YX")
    assert [each.name for each in folder.iterdir()] == ["holiday.jpg"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path, shapes: np.ndarray) -> None:
    path = write_labels_zarr(tmp_path / "a.ome.zarr", shapes, "YX")
    broken = np.stack([shapes.astype(np.int64), np.full(shapes.shape, -1)])
    with pytest.raises(OutputError, match="-1"):
        write_labels_zarr(path, broken, "ZYX")
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][:], shapes)
    assert [each.name for each in tmp_path.iterdir()] == ["a.ome.zarr"]

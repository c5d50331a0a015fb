"""Images and run records in napari: what is claimed, the layers, and what is said of bad files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from npe2 import PluginManager, io_utils

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.labels import write_labels_tiff
from napari_espmedsam.widgets import image_readers, prompt_files, run_files
from napari_espmedsam.widgets.image_readers import get_reader, read_images

PLUGIN = "napari-espmedsam"
READERS = (image_readers.get_reader, run_files.get_reader)
Said = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _plugins() -> None:
    PluginManager.instance().discover()


@pytest.fixture
def said() -> Iterator[Said]:
    """Return a function that gives the napari warnings of the test."""
    start = len(notification_manager.records)
    yield lambda: [str(each.message) for each in notification_manager.records[start:]]
    del notification_manager.records[start:]


def _ome(path: Path, shape: tuple[int, ...], axes: str, **metadata: Any) -> np.ndarray:
    array = np.random.default_rng(4).integers(0, 60000, shape).astype(np.uint16)
    options: dict[str, Any] = {"tile": (32, 32), "photometric": "minisblack"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(array, subifds=1, metadata={"axes": axes, **metadata}, **options)
        writer.write(array[..., ::2, ::2], subfiletype=1, **options)
    return array


ENDINGS = ["a.tif", "A.TIFF", "x.ome.tif", "a.svs", "a.ndpi", "a.dcm", "no/such/folder/a.tif"]


@pytest.mark.parametrize("path", [*ENDINGS, ["a.tif"], ["a.dcm", "b.dcm"], Path("a.tif")])
def test_claimed_by_name(path: Any) -> None:
    assert get_reader(path) is read_images


GARBAGE = ["a.png", "a.jpg", "a.json", "a", "", "/", ".", "\0.tif\0", "https://x.org/a.tif"]


@pytest.mark.parametrize(
    "path", [*GARBAGE, [], ["a.tif", "b.tif"], ["a.dcm", "b.tif"], None, 7, [None], {}, b"a.png"]
)
@pytest.mark.parametrize("get", READERS)
def test_everything_else_is_not(path: Any, get: Any) -> None:
    assert get(path) is None


@settings(deadline=None, max_examples=50)
@given(st.text() | st.lists(st.text(), max_size=3) | st.binary())
def test_no_path_whatsoever_is_an_error(path: Any) -> None:
    for get in READERS:
        assert get(path) is None or callable(get(path))


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "a.tif").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "loop")) is None
    (tmp_path / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    assert get_reader(str(tmp_path)) is read_images

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    assert get_reader(str(tmp_path)) is None


def test_an_ome_pyramid_in_napari(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    array = _ome(path, (2, 3, 64, 96), "CZYX", Channel={"Name": ["DAPI", "GFP"]}, **sizes)
    viewer = ViewerModel()
    first, second = viewer.open(str(path), plugin=PLUGIN)
    assert [first.name, second.name] == ["cells [DAPI]", "cells [GFP]"]
    assert first.multiscale
    assert [level.shape for level in second.data] == [(3, 64, 96), (3, 32, 48)]
    np.testing.assert_array_equal(second.data[0].compute(), array[1])
    np.testing.assert_allclose(first.scale, (2.0, 0.25, 0.25))
    assert [str(unit) for unit in first.units] == ["micrometer"] * 3
    assert first.axis_labels == ("z", "y", "x")
    expected = np.percentile(array[1, 1, ::2, ::2], (0.1, 99.9))
    np.testing.assert_allclose(second.contrast_limits, expected)
    assert first.colormap.name != second.colormap.name


@pytest.mark.parametrize("n", [2, 3, 4])
def test_as_many_channels_as_axes(tmp_path: Path, n: int) -> None:
    """One vector for all channels and one value per channel look alike where numbers agree."""
    _ome(tmp_path / "a.ome.tif", (n, 64, 96), "CYX", PhysicalSizeX=0.5, PhysicalSizeY=0.25)
    layers = ViewerModel().open(str(tmp_path / "a.ome.tif"), plugin=PLUGIN)
    assert [each.name for each in layers] == [f"a [channel {i}]" for i in range(n)]
    for layer in layers:
        np.testing.assert_allclose(layer.scale, (0.25, 0.5))
        assert layer.axis_labels == ("y", "x")


def test_colours(tmp_path: Path) -> None:
    array = np.random.default_rng(4).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    (layer,) = ViewerModel().open(str(tmp_path / "a.tif"), plugin=PLUGIN)
    assert (layer.rgb, layer.multiscale, layer.ndim) == (True, False, 2)
    np.testing.assert_array_equal(layer.data.compute(), array)


def test_through_npe2_without_a_viewer(tmp_path: Path) -> None:
    _ome(tmp_path / "a.ome.tif", (3, 64, 96), "ZYX")
    layers, reader = io_utils.read_get_reader(str(tmp_path / "a.ome.tif"), plugin_name=PLUGIN)
    assert reader.command == f"{PLUGIN}.read_images"
    ((levels, attributes, kind),) = layers
    assert (len(levels), attributes["multiscale"], kind) == (2, True, "image")


def test_prompt_files_and_records_keep_their_own_readers() -> None:
    manager = PluginManager.instance()
    for name, command in (("a.espprompts.json", "read_prompts"), ("a.esprun.json", "read_runs")):
        found = [r.command for r in manager.iter_compatible_readers([name])]
        assert [each for each in found if each.startswith(PLUGIN)] == [f"{PLUGIN}.{command}"]
    assert prompt_files.get_reader("a.esprun.json") is None


def test_ome_zarr_with_labels(tmp_path: Path, said: Said) -> None:
    import zarr

    def write(path: Path, array: np.ndarray, **more: Any) -> None:
        group = zarr.open_group(str(path), mode="w", zarr_format=2)
        group.create_array("0", shape=array.shape, dtype=array.dtype)[...] = array
        axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
        scale = [{"type": "scale", "scale": [0.5, 0.5]}]
        datasets = [{"path": "0", "coordinateTransformations": scale}, {"path": "1"}]
        group.attrs.update({"multiscales": [{"axes": axes, "datasets": datasets}], **more})

    cells = np.arange(48, dtype=np.uint32).reshape(6, 8)
    write(tmp_path / "a.zarr", cells.astype(np.uint16))
    write(tmp_path / "a.zarr" / "labels" / "cells", cells, **{"image-label": {}})
    named = zarr.open_group(str(tmp_path / "a.zarr" / "labels"), mode="a", zarr_format=2)
    named.attrs["labels"] = ["cells"]
    image, labels = ViewerModel().open(str(tmp_path / "a.zarr"), plugin=PLUGIN)
    assert (image.name, labels.name) == ("a", "cells")
    np.testing.assert_array_equal(labels.data.compute(), cells)
    np.testing.assert_allclose(labels.scale, (0.5, 0.5))
    assert "level 1 (1) is missing" in said()[0]


def test_bad_files_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "notes.tif").write_text("day 1: fed the cells")
    with pytest.raises(InputError, match=r"notes\.tif is not a TIFF"):
        ViewerModel().open(str(tmp_path / "notes.tif"), plugin=PLUGIN)


def _run(folder: Path, **content: Any) -> Path:
    path = folder / "a.esprun.json"
    path.write_text(json.dumps({"format": "napari-espmedsam run", "version": 1, **content}))
    return path


def test_a_run_opens_its_image_and_labels(tmp_path: Path, said: Said) -> None:
    array = _ome(tmp_path / "a.ome.tif", (64, 96), "YX")
    labels = np.zeros((64, 96), np.uint32)
    labels[5:9] = 3
    write_labels_tiff(tmp_path / "a_labels.tif", labels, "YX", spacing={"Y": 0.5, "X": 0.5})
    (tmp_path / "a.csv").write_text("id\n3\n")
    path = _run(tmp_path, input="a.ome.tif", outputs=["a_labels.tif", "a.csv", "gone.tif"])
    image, found = ViewerModel().open(str(path), plugin=PLUGIN)
    np.testing.assert_array_equal(image.data[0].compute(), array)
    np.testing.assert_array_equal(np.asarray(found.data), labels)
    assert type(found).__name__ == "Labels"
    (note,) = said()
    assert "names gone.tif, which is not there" in note


def test_a_run_without_any_of_its_files(tmp_path: Path) -> None:
    path = _run(tmp_path, input="a.tif", outputs=["b.tif"])
    with pytest.raises(InputError, match=r"names a\.tif.*names b\.tif"):
        run_files.read_runs(str(path))

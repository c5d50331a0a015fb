"""OME-Zarr of all versions, whole and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.ome_zarr import is_labels, label_images
from napari_espmedsam.io.open_image import open_image

Noise = Callable[..., np.ndarray]
Write = Callable[..., Path]


def _omero(colours: tuple[str, ...], end: float = 255.0) -> dict[str, Any]:
    return {
        "channels": [
            {"label": f"dye {i}", "color": colour, "window": {"start": 0, "end": end}}
            for i, colour in enumerate(colours)
        ]
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_axes_sizes_and_channels(ome_zarr: Write, noise: Noise, version: str) -> None:
    array = noise((2, 3, 64, 80))
    path = ome_zarr(array, "CZYX", version, omero=_omero(("00FF00", "FF0000"), end=900.0))
    image = open_image(path)
    assert (image.name, image.axes, image.channel_names) == ("image", "CZYX", ("dye 0", "dye 1"))
    assert image.spacing == {"Z": 2.0, "Y": 0.25, "X": 0.25}
    assert image.contrast_limits == ((0.0, 900.0), (0.0, 900.0))
    for level, step in zip(image.levels, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(level.compute(), array[..., ::step, ::step])
    whole = read_image(path)
    assert (whole.axes, whole.spacing) == (image.axes, image.spacing)
    np.testing.assert_array_equal(whole.array, array)


@pytest.mark.parametrize(
    ("colours", "dtype", "end", "rgb"),
    [
        (("FF0000", "00FF00", "0000FF"), np.uint8, 255.0, True),
        (("FF0000", "00FF00", "0000FF"), np.uint8, 100.0, False),
        (("FF0000", "00FF00", "0000FF"), np.uint16, 255.0, False),
        (("0000FF", "00FF00", "FF0000"), np.uint8, 255.0, False),
    ],
)
def test_red_green_and_blue_are_one_picture(
    ome_zarr: Write, noise: Noise, colours: tuple[str, ...], dtype: Any, end: float, rgb: bool
) -> None:
    array = noise((3, 64, 80), dtype)
    image = open_image(ome_zarr(array, "CYX", omero=_omero(colours, end)))
    assert image.axes == ("YXS" if rgb else "CYX")
    expected = np.moveaxis(array, 0, -1) if rgb else array
    np.testing.assert_array_equal(image.levels[0].compute(), expected)


def test_axes_of_length_one_are_dropped(ome_zarr: Write, noise: Noise) -> None:
    image = open_image(ome_zarr(noise((1, 1, 3, 64, 80)), "TCZYX"))
    assert (image.axes, image.shape) == ("ZYX", (3, 64, 80))


def test_old_versions_name_no_axes(ome_zarr: Write, noise: Noise) -> None:
    path = ome_zarr(noise((2, 1, 3, 64, 80)), "TCZYX")
    _edit(path, lambda m: m["multiscales"][0].pop("axes"))
    image = open_image(path)
    assert (image.axes, image.spacing) == ("TZYX", {})


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((path / ".zattrs").read_text())
    change(content)
    (path / ".zattrs").write_text(json.dumps(content))


def test_a_missing_level_is_left_out_and_named(ome_zarr: Write, noise: Noise) -> None:
    path = ome_zarr(noise((64, 80)), "YX")
    shutil.rmtree(path / "1")
    image = open_image(path)
    assert [level.shape for level in image.levels] == [(64, 80), (16, 20)]
    assert "level 1 (1) is missing" in image.warnings[0]


def test_without_the_largest_level_there_is_no_image(ome_zarr: Write, noise: Noise) -> None:
    path = ome_zarr(noise((64, 80)), "YX")
    shutil.rmtree(path / "0")
    with pytest.raises(InputError, match=r"level 0 \(0\) is missing"):
        open_image(path)


def test_a_damaged_chunk_is_an_error_when_it_is_read(ome_zarr: Write, noise: Noise) -> None:
    path = ome_zarr(noise((64, 80)), "YX")
    chunks = [each for each in (path / "0").rglob("*") if each.is_file() and each.name[0] != "."]
    chunks[0].write_bytes(b"\0\1\2")
    image = open_image(path)
    with pytest.raises(InputError, match="damaged or cut short"):
        image.levels[0].compute()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("multiscales"),
        lambda m: m.update(multiscales=[]),
        lambda m: m.update(multiscales=7),
        lambda m: m["multiscales"][0].update(datasets=[]),
        lambda m: m["multiscales"][0].update(axes=[{"name": "y"}, {"name": "y"}]),
        lambda m: m["multiscales"][0].update(axes=[{"name": "x"}]),
        lambda m: m["multiscales"][0].update(axes=["row", "column"]),
        lambda m: m.update(plate={}, multiscales=[]),
    ],
)
def test_metadata_that_say_nothing_usable(ome_zarr: Write, noise: Noise, change: Any) -> None:
    path = ome_zarr(noise((64, 80)), "YX")
    _edit(path, change)
    with pytest.raises(InputError, match=r"image\.ome\.zarr"):
        open_image(path)


def test_plates_and_bare_arrays_are_explained(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=2).attrs["plate"] = {}
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 4), dtype="u1", zarr_format=2)
    with pytest.raises(InputError, match="open one of them"):
        open_image(tmp_path / "p.zarr")
    with pytest.raises(InputError, match="bare Zarr array"):
        open_image(tmp_path / "a.zarr")


def test_several_images_in_a_folder(ome_zarr: Write, noise: Noise, tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "all.zarr"), mode="w", zarr_format=2)
    for number in range(2):
        source = ome_zarr(noise((64 + number, 80)), "YX", name=f"n{number}")
        source.rename(tmp_path / "all.zarr" / str(number))
    image = open_image(tmp_path / "all.zarr", series=1)
    assert (image.shape, image.n_series) == ((65, 80), 2)
    with pytest.raises(InputError, match="no image number 2; it holds 2"):
        open_image(tmp_path / "all.zarr", series=2)


def test_labels_of_an_image(ome_zarr: Write, noise: Noise) -> None:
    path = ome_zarr(noise((64, 80)), "YX")
    cells = ome_zarr(noise((64, 80)), "YX", name="cells", **{"image-label": {}})
    (path / "labels").mkdir()
    cells.rename(path / "labels" / "cells")
    (path / "labels" / ".zgroup").write_text('{"zarr_format": 2}')
    named = {"labels": ["cells", "gone", "../../other", 7]}
    (path / "labels" / ".zattrs").write_text(json.dumps(named))
    assert label_images(path) == [path / "labels" / "cells"]
    assert is_labels(path / "labels" / "cells")
    assert not is_labels(path)
    assert label_images(path / "labels" / "cells") == []

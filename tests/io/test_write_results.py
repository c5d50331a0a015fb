"""Writing: labels that ImageJ reads, tables, overlays; whole files or none."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.io.atomic import atomic_folder, atomic_path
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.labels import (
    imagej_labels,
    label_colours,
    read_provenance,
    write_labels_tiff,
)
from napari_espmedsam.io.overlay import MAX_PLANES, draw_overlay, write_overlay_png
from napari_espmedsam.io.tables import object_table, write_table_csv
from napari_espmedsam.io.zarr_labels import write_labels_zarr


def _blocks(shape: tuple[int, ...] = (2, 3, 20, 24)) -> np.ndarray:
    labels = np.zeros(shape, np.uint32)
    labels[..., 2:6, 3:10] = 1
    labels[..., 10:18, 12:20] = 300
    return labels


@pytest.mark.parametrize(
    ("shape", "axes"), [((20, 24), "YX"), ((3, 20, 24), "ZYX"), ((2, 3, 20, 24), "TZYX")]
)
def test_labels_come_back_with_axes_and_sizes(
    tmp_path: Path, shape: tuple[int, ...], axes: str
) -> None:
    labels = _blocks(shape)
    spacing = {"T": 20.0, "Z": 1.5, "Y": 0.25, "X": 0.25}
    path = write_labels_tiff(tmp_path / "a.tif", labels, axes, spacing=spacing)
    image = read_image(path)
    assert image.axes == axes
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array, labels)
    assert image.spacing == pytest.approx({a: v for a, v in spacing.items() if a in axes})


def test_labels_are_stored_in_imagej_order(tmp_path: Path) -> None:
    labels = _blocks((2, 3, 20, 24))
    labels[1, 2, 0, 0] = 7
    path = write_labels_tiff(tmp_path / "a.tif", labels, "ZTYX")
    image = read_image(path)
    assert image.axes == "TZYX"
    np.testing.assert_array_equal(image.array, labels.transpose(1, 0, 2, 3))


def test_imagej_sees_a_compressed_hyperstack(tmp_path: Path) -> None:
    path = write_labels_tiff(
        tmp_path / "a.tif", _blocks(), "TZYX", spacing={"Z": 2, "Y": 0.5, "X": 0.5}
    )
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        metadata = dict(tif.imagej_metadata)
        assert tif.pages.first.compression.name == "ADOBE_DEFLATE"
        assert len(tif.pages) == 6
    assert metadata["images"] == 6
    assert (metadata["slices"], metadata["frames"]) == (3, 2)
    assert metadata["unit"] == "um"
    assert metadata["spacing"] == 2
    assert (metadata["min"], metadata["max"]) == (0.0, 300.0)


@pytest.mark.parametrize(
    ("highest", "dtype"), [(65535, np.uint16), (65536, np.float32), (2**24, np.float32)]
)
def test_ids_survive_whatever_their_number(tmp_path: Path, highest: int, dtype: Any) -> None:
    labels = np.zeros((16, 16), np.uint32)
    labels[0, :3] = highest, highest - 1, 1
    path = write_labels_tiff(tmp_path / "a.tif", labels, "YX")
    stored = read_image(path).array
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored.astype(np.int64), labels)


def test_seventy_thousand_objects_stay_apart(tmp_path: Path) -> None:
    labels = np.arange(70_000, dtype=np.uint32).reshape(250, 280)
    stored = read_image(write_labels_tiff(tmp_path / "a.tif", labels, "YX")).array
    assert len(np.unique(stored)) == 70_000


@pytest.mark.parametrize("labels", [np.array([[2**24 + 1]]), np.array([[-1]])])
def test_ids_that_imagej_cannot_hold(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(OutputError, match="16,777,216"):
        write_labels_tiff(tmp_path / "a.tif", labels, "YX")
    assert list(tmp_path.iterdir()) == []


def test_empty_labels_are_written() -> None:
    assert imagej_labels(np.zeros((4, 4), np.uint32)).dtype == np.uint16


@pytest.mark.parametrize("axes", ["YX", "ZYS", "ZYXX"])
def test_label_axes_have_to_fit(tmp_path: Path, axes: str) -> None:
    with pytest.raises(InputError, match=axes):
        write_labels_tiff(tmp_path / "a.tif", _blocks((3, 20, 24)), axes)


def test_provenance_travels(tmp_path: Path) -> None:
    record = {"model": "espmedsam", "unit": "µm", "scale": 2.0, "tile": None}
    path = write_labels_tiff(tmp_path / "a.tif", _blocks(), "TZYX", provenance=record)
    assert read_provenance(path) == record


def test_no_provenance(tmp_path: Path) -> None:
    path = write_labels_tiff(tmp_path / "a.tif", _blocks(), "TZYX")
    assert read_provenance(path) is None
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((16, 16), np.uint8))
    assert read_provenance(tmp_path / "b.tif") is None


def test_label_colours_are_distinct() -> None:
    table = label_colours()
    assert table.shape == (3, 256)
    assert not table[:, 0].any()
    neighbours = np.abs(np.diff(table[:, 1:].astype(int), axis=1)).sum(axis=0)
    assert neighbours.min() > 60


# --- atomic ---------------------------------------------------------------------------------


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*output folder"):
        write_labels_tiff(tmp_path / "a.tif", _blocks(), "TZYX")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_where_the_new_one_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    old = tmp_path / "a"
    old.mkdir()
    (old / "old.txt").write_text("old")
    real, calls = os.replace, iter(range(9))

    def second_fails(source: Path, target: Path) -> None:
        if next(calls) == 1:
            raise error
        real(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises((OutputError, KeyboardInterrupt)), atomic_folder(old) as new:
        (new / "new.txt").write_text("new")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/old.txt"]


def test_an_old_folder_that_cannot_come_back_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "a"
    old.mkdir()
    (old / "old.txt").write_text("old")
    real, calls = os.replace, iter(range(9))

    def only_once(source: Path, target: Path) -> None:
        if next(calls):
            raise PermissionError(13, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", only_once)
    with pytest.raises(OutputError, match="Permission denied") as caught, atomic_folder(old):
        pass
    (left,) = tmp_path.iterdir()
    assert str(left) in str(caught.value)
    assert (left / "old.txt").read_text() == "old"


def test_a_link_to_a_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old.txt").write_text("old")
    (tmp_path / "a").symlink_to(tmp_path / "real")
    with atomic_folder(tmp_path / "a") as new:
        (new / "new.txt").write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "new.txt", "old.txt", "real"]


@pytest.mark.parametrize("letter", ["n", "\u00b5"])
def test_names_may_be_as_long_as_the_disk_takes(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (250 // len(letter.encode())) + ".tif")
    assert write_labels_tiff(path, _blocks(), "TZYX").is_file()


def test_names_that_are_too_long_are_output_errors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name too long"):
        write_labels_zarr(tmp_path / ("n" * 300), _blocks(), "TZYX")


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="output folder"):
        write_table_csv(tmp_path / "out" / "a.csv", [])
    assert (tmp_path / "out").read_text() == "a file"


def test_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_table_csv(path, [{"label": 1}])
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"a\.csv exists already; pass --overwrite"):
        write_table_csv(path, [{"label": 2}], overwrite=False)
    assert path.read_bytes() == before
    write_table_csv(path, [{"label": 2}])
    assert path.read_bytes() != before


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = write_table_csv(tmp_path / "a.csv", [])
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- tables ---------------------------------------------------------------------------------


def test_table_of_a_plane_in_pixels() -> None:
    labels = _blocks((20, 24))
    image = np.full((20, 24), 10, np.uint16)
    image[labels == 300] = 1000
    rows = object_table(labels, "YX", image)
    assert [row["label"] for row in rows] == [1, 300]
    assert rows[0] == {
        "label": 1,
        "area_px": 28,
        "centroid_y_px": 3.5,
        "centroid_x_px": 6.0,
        "bbox_min_y_px": 2,
        "bbox_min_x_px": 3,
        "bbox_max_y_px": 6,
        "bbox_max_x_px": 10,
        "mean_intensity": 10.0,
    }
    assert rows[1]["mean_intensity"] == 1000


def test_table_of_a_stack_in_micrometres() -> None:
    labels = _blocks((2, 3, 20, 24))
    labels[0, 1] = 0
    spacing = {"Z": 2.0, "Y": 0.5, "X": 0.25}
    rows = object_table(labels, "TZYX", spacing=spacing)
    assert [(row["t"], row["z"]) for row in rows[:4]] == [(0, 0), (0, 0), (0, 2), (0, 2)]
    assert len(rows) == 10
    assert rows[2]["area_um2"] == pytest.approx(28 * 0.125)
    assert rows[2]["centroid_z_um"] == 4.0
    assert rows[2]["centroid_y_um"] == 1.75
    assert rows[2]["centroid_x_um"] == 1.5
    assert "mean_intensity" not in rows[0]


def test_table_of_colours() -> None:
    image = np.zeros((20, 24, 3), np.uint8)
    image[...] = 10, 20, 30
    row = object_table(_blocks((20, 24)), "YX", image)[0]
    assert (row["mean_red"], row["mean_green"], row["mean_blue"]) == (10, 20, 30)


def test_table_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="XY"):
        object_table(_blocks((20, 24)), "XY")
    with pytest.raises(InputError, match=r"\(5, 5\)"):
        object_table(_blocks((20, 24)), "YX", np.zeros((5, 5)))


def test_csv_can_be_read_back(tmp_path: Path) -> None:
    rows = object_table(_blocks((3, 20, 24)), "ZYX", spacing={"Y": 0.3, "X": 0.3})
    path = write_table_csv(tmp_path / "a.csv", rows)
    with path.open(newline="") as file:
        back = list(csv.DictReader(file))
    assert len(back) == 6
    assert float(back[0]["area_um2"]) == pytest.approx(28 * 0.09)
    assert back[0]["z"] == "0"


def test_csv_without_objects_has_a_heading(tmp_path: Path) -> None:
    path = write_table_csv(tmp_path / "a.csv", object_table(np.zeros((16, 16), int), "YX"))
    assert path.read_text().split() == ["label"]


# --- overlay --------------------------------------------------------------------------------


def test_overlay_draws_outlines_and_keeps_the_image() -> None:
    labels = np.zeros((800, 800), np.uint32)
    labels[100:200, 100:200] = 5
    image = np.random.default_rng(0).integers(0, 4000, (800, 800)).astype(np.uint16)
    picture = draw_overlay(image, labels)
    assert picture.shape == (800, 800, 3)
    assert tuple(picture[100, 150]) == tuple(label_colours()[:, 5])
    outside = picture[300:, 300:].astype(int)
    assert np.ptp(outside, axis=-1).max() == 0  # grey stays grey
    assert np.corrcoef(outside[..., 0].ravel(), image[300:, 300:].ravel())[0, 1] > 0.99


def test_overlay_of_colours_is_not_stretched() -> None:
    image = np.full((800, 800, 3), (200, 150, 190), np.uint8)
    picture = draw_overlay(image, np.zeros((800, 800), np.uint32))
    np.testing.assert_array_equal(picture, image)


def test_small_planes_are_enlarged() -> None:
    picture = draw_overlay(np.ones((96, 64)), np.zeros((96, 64), np.uint32))
    assert picture.shape == (768, 512, 3)


def test_stack_becomes_a_contact_sheet() -> None:
    shape = (30, 40, 50)
    image = np.zeros(shape, np.float32)
    image[:, ::2] = np.arange(30)[:, None, None]
    picture = draw_overlay(image, np.zeros(shape, np.uint32))
    rows, columns = (picture.shape[0] + 6) // 46, (picture.shape[1] + 6) // 56
    assert rows * columns >= MAX_PLANES
    assert picture[:40, :50].mean() < picture[46:86, :50].mean()


def test_overlay_takes_constant_and_nan_images() -> None:
    labels = np.zeros((32, 32), np.uint32)
    draw_overlay(np.full((32, 32), 7.0), labels)
    draw_overlay(np.full((32, 32), np.nan), labels)


def test_overlay_takes_large_constants() -> None:
    picture = draw_overlay(np.full((32, 32), 1e17), np.zeros((32, 32), np.uint32), min_side=32)
    assert not picture.any()


def test_overlay_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"\(5, 5\)"):
        draw_overlay(np.zeros((5, 5)), np.zeros((6, 6), np.uint32))


def test_overlay_file(tmp_path: Path) -> None:
    path = write_overlay_png(tmp_path / "new" / "a.png", np.ones((64, 64)), np.ones((64, 64), int))
    with Image.open(path) as picture:
        assert picture.size == (768, 768)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]

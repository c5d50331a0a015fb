"""What holds for every format that labels are written to."""

from __future__ import annotations

import csv
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.io.formats import FORMATS, LabelFormat, format_named
from napari_espmedsam.io.label_planes import LabelPlanes
from napari_espmedsam.io.tables import object_table

each_format = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)


def _content(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_names_and_files_are_told_apart() -> None:
    names = [kind.file_name("a").lower() for kind in FORMATS.values()]
    assert len(set(names)) == len(FORMATS)
    assert FORMATS["tiff"].file_name("a") == "a_labels.tif"
    assert format_named("roi").suffix == ".roi.zip"
    with pytest.raises(InputError, match=r"'png'.*tiff, ome-zarr"):
        format_named("png")


@each_format
def test_axes_in_any_order(tmp_path: Path, stack: np.ndarray, kind: LabelFormat) -> None:
    plain = kind.write(tmp_path / "plain" / f"a{kind.suffix}", stack, "TZYX")
    turned = stack.transpose(3, 1, 2, 0)
    other = kind.write(tmp_path / "turned" / f"a{kind.suffix}", turned, "XZYT")
    assert _content(other) == _content(plain)


@each_format
def test_lazy_labels(tmp_path: Path, stack: np.ndarray, kind: LabelFormat) -> None:
    plain = kind.write(tmp_path / "plain" / f"a{kind.suffix}", stack, "TZYX")
    lazy = da.from_array(stack, chunks=(1, 1, 10, 10))
    assert _content(kind.write(tmp_path / "lazy" / f"a{kind.suffix}", lazy, "TZYX")) == _content(
        plain
    )


@each_format
def test_nothing_to_write(tmp_path: Path, kind: LabelFormat) -> None:
    path = kind.write(tmp_path / f"a{kind.suffix}", np.zeros((2, 16, 16), np.uint16), "ZYX")
    assert path.is_dir() == kind.is_folder
    assert path.exists()


@each_format
def test_masks_are_labels(tmp_path: Path, shapes: np.ndarray, kind: LabelFormat) -> None:
    mask = shapes > 0
    first = kind.write(tmp_path / "a" / f"a{kind.suffix}", mask, "YX")
    other = kind.write(tmp_path / "b" / f"a{kind.suffix}", mask.astype(np.uint32), "YX")
    assert _content(first) == _content(other)


@each_format
@pytest.mark.parametrize(
    ("labels", "axes", "reason"),
    [
        (np.zeros((8, 8)), "YX", "float64"),
        (np.zeros((8, 8), int), "ZYX", r"\(8, 8\)"),
        (np.zeros((8, 8), int), "YY", "YY"),
        (np.zeros((8, 8), int), "YS", "YS"),
        (np.full((8, 8), -1), "YX", "-1"),
        (np.full((8, 8), 2**33), "YX", "8,589,934,592"),
    ],
)
def test_labels_that_are_none(
    tmp_path: Path, kind: LabelFormat, labels: np.ndarray, axes: str, reason: str
) -> None:
    with pytest.raises((InputError, OutputError), match=reason):
        kind.write(tmp_path / f"a{kind.suffix}", labels, axes)
    assert list(tmp_path.iterdir()) == []


@each_format
def test_what_exists_is_kept_unless_told(
    tmp_path: Path, shapes: np.ndarray, kind: LabelFormat
) -> None:
    path = kind.write(tmp_path / f"a{kind.suffix}", shapes, "YX")
    before = _content(path)
    with pytest.raises(OutputError, match="exists already"):
        kind.write(path, shapes[:20], "YX", overwrite=False)
    assert _content(path) == before
    kind.write(path, shapes[:20], "YX")
    assert _content(path) != before


def test_too_large_for_imagej(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.uint8(1), (3, 30_000, 30_000))
    with pytest.raises(OutputError, match="OME-Zarr"):
        FORMATS["tiff"].write(tmp_path / "a.tif", huge, "ZYX")


def test_table_of_a_stack(tmp_path: Path, stack: np.ndarray) -> None:
    spacing = {"Y": 0.5, "X": 0.5}
    path = FORMATS["csv"].write(tmp_path / "a.csv", stack, "TZYX", spacing=spacing)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 7
    row = next(r for r in rows if (r["t"], r["z"], r["label"]) == ("1", "2", "70000"))
    assert float(row["area_um2"]) == 32 * 0.25


def test_channels_stay_apart(tmp_path: Path, shapes: np.ndarray) -> None:
    two = np.stack([shapes, np.zeros_like(shapes)])
    path = FORMATS["tiff"].write(tmp_path / "a.tif", two, "CYX")
    assert tifffile.imread(path).shape == (2, 24, 30)
    planes = list(LabelPlanes(two, "CYX"))
    assert [dict(plane.index) for plane in planes] == [{"C": 0}, {"C": 1}]


def test_ids_of_64_bits_stay_whole_numbers(tmp_path: Path, shapes: np.ndarray) -> None:
    labels = shapes.astype(np.uint64) * 1000  # more than pixels: they are numbered anew
    narrow = FORMATS["csv"].write(tmp_path / "a.csv", labels.astype(np.uint32), "YX")
    wide = FORMATS["csv"].write(tmp_path / "b.csv", labels, "YX")
    assert wide.read_bytes() == narrow.read_bytes()
    assert {type(row["label"]) for row in object_table(labels, "YX")} == {int}

"""Measuring: planted discs, blocks and balls have the sizes that were planted, in world units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.measure import measure_objects
from napari_espmedsam.io.tables import table_rows, write_table_csv

Array = np.ndarray[Any, np.dtype[Any]]
UM = {"Z": (2.0, "micrometer"), "Y": (0.5, "micrometer"), "X": (0.5, "micrometer")}


def _ball(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    places = np.indices(shape)
    scaled = [(p - c) / r for p, c, r in zip(places, centre, radii, strict=True)]
    return sum(s**2 for s in scaled) <= 1


def test_a_disc_in_pixels() -> None:
    labels = np.where(_ball((60, 70), (30, 40), (20, 20)), 7, 0)
    table = measure_objects(labels, "YX")
    assert list(table) == [
        "label",
        "area_px",
        "equivalent_diameter_px",
        "centroid_y_px",
        "centroid_x_px",
        "bbox_min_y_px",
        "bbox_min_x_px",
        "bbox_max_y_px",
        "bbox_max_x_px",
        "perimeter_px",
        "solidity",
        "eccentricity",
    ]
    row = table_rows(table)[0]
    assert row["label"] == 7
    assert row["area_px"] == np.sum(labels > 0)
    assert row["equivalent_diameter_px"] == pytest.approx(40, rel=0.01)
    assert (row["centroid_y_px"], row["centroid_x_px"]) == (30, 40)
    box = [row[f"bbox_{m}_{a}_px"] for m in ("min", "max") for a in "yx"]
    assert box == [10, 20, 51, 61]
    assert row["perimeter_px"] == pytest.approx(2 * np.pi * 20, rel=0.05)
    assert row["solidity"] > 0.95
    assert row["eccentricity"] < 0.1


def test_a_disc_in_micrometres() -> None:
    labels = np.where(_ball((60, 70), (30, 40), (20, 20)), 7, 0)
    row = table_rows(measure_objects(labels, "YX", spacing=UM))[0]
    assert row["area_um2"] == np.sum(labels > 0) / 4
    assert row["equivalent_diameter_um"] == pytest.approx(20, rel=0.01)
    assert (row["centroid_y_um"], row["centroid_x_um"]) == (15, 20)
    assert row["perimeter_um"] == pytest.approx(2 * np.pi * 10, rel=0.05)
    assert row["bbox_max_x_px"] == 61


def test_oblong_pixels_are_taken_into_account() -> None:
    """A circle on pixels twice as high as wide is an ellipse of pixels, and still a circle."""
    labels = _ball((60, 100), (30, 50), (15, 30)).astype(int)
    spacing = {"Y": (2.0, "nanometer"), "X": (1.0, "nanometer")}
    row = table_rows(measure_objects(labels, "YX", spacing=spacing))[0]
    assert row["eccentricity"] < 0.2
    assert row["equivalent_diameter_nm"] == pytest.approx(60, rel=0.01)
    assert np.isnan(row["perimeter_nm"])
    assert table_rows(measure_objects(labels, "YX"))[0]["eccentricity"] > 0.8


def test_a_ball_of_a_stack_is_one_row() -> None:
    labels = _ball((16, 50, 50), (7, 22, 28), (5, 20, 20)).astype(np.uint32)
    labels[14, 1:4, 1:3] = 2**32 - 1
    table = measure_objects(labels, "ZYX", spacing=UM)
    assert table["label"].tolist() == [1, 2**32 - 1]
    row = table_rows(table)[0]
    assert row["volume_um3"] == np.sum(labels == 1) * 0.5
    assert row["equivalent_diameter_um"] == pytest.approx(20, rel=0.01)
    assert [row[f"centroid_{a}_um"] for a in "zyx"] == [14, 11, 14]
    box = [row[f"bbox_{m}_{a}_px"] for m in ("min", "max") for a in "zyx"]
    assert box == [2, 2, 8, 13, 43, 49]
    assert "perimeter_um" not in row
    assert table["volume_um3"][1] == 6 * 0.5


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX"])
def test_each_time_point_is_measured_on_its_own(axes: str) -> None:
    labels = np.zeros((3, 4, 10, 12), np.uint32)
    labels[0, 1:3, 2:5, 4:8] = 5
    labels[2, 0, 0, 0] = 5
    labels[2, :, 8:, 6:] = 3
    given = labels if axes == "TZYX" else np.moveaxis(labels, 0, 1)
    table = measure_objects(given, axes, spacing={"T": (30.0, "second")})
    assert table["label"].tolist() == [5, 3, 5]
    assert table["t"].tolist() == [0, 2, 2]
    assert table["time_s"].tolist() == [0, 60, 60]
    assert table["volume_px"].tolist() == [24, 48, 1]
    assert table["centroid_z_px"].tolist() == [1.5, 1.5, 0]


def test_mean_intensities_of_grey_and_colours() -> None:
    labels = np.zeros((2, 10, 12), np.uint32)
    labels[0, 2:5, 3:6], labels[1, 5:8, 5:8] = 4, 6
    image = np.where(labels == 4, 100, np.where(labels == 6, 7, 1)).astype(np.uint16)
    table = measure_objects(labels, "TYX", image=image)
    assert table["mean_intensity"].tolist() == [100, 7]
    colours = np.stack([image, image + 1, image + 2], axis=-1)
    for axes in ("TYX", "ZYX"):
        table = measure_objects(labels, axes, image=colours)
        assert table["mean_red"].tolist() == [100, 7]
        assert table["mean_blue"].tolist() == [102, 9]


def test_shapes_may_be_left_out() -> None:
    labels = np.eye(8, dtype=int)
    table = measure_objects(labels, "YX", shape=False)
    assert "solidity" not in table
    assert table["area_px"].tolist() == [8]


@pytest.mark.parametrize("axes", ["YX", "TYX", "ZYX"])
def test_no_objects_give_empty_columns(axes: str) -> None:
    empty = np.zeros((4,) * len(axes), np.uint32)
    full = np.ones_like(empty)
    table = measure_objects(empty, axes, image=empty, spacing=UM)
    assert {len(column) for column in table.values()} == {0}
    assert list(table) == list(measure_objects(full, axes, image=empty, spacing=UM))
    types = {name: column.dtype.kind for name, column in table.items()}
    assert types["label"] == types["bbox_min_y_px"] == "i"


def test_objects_of_a_few_pixels_can_be_measured() -> None:
    labels = np.zeros((12, 12), np.uint32)
    labels[1, 1], labels[3, 1:4], labels[5:9, 6], labels[10:, 10:] = 1, 2, 3, 4
    table = measure_objects(labels, "YX")
    assert table["area_px"].tolist() == [1, 3, 4, 4]
    assert all(np.isfinite(column).all() for column in table.values())


@pytest.mark.parametrize(
    ("spacing", "area", "value"),
    [
        (None, "area_px", 6.0),
        ({"Y": (0.5, "micrometer")}, "area_px", 6.0),
        ({"Y": (1.0, "pixel"), "X": (1.0, "pixel")}, "area_px", 6.0),
        ({"Y": (0.5, "pixel"), "X": (0.5, "pixel")}, "area_world", 1.5),
        ({"Y": (0.5, "µm"), "X": (500.0, "nm")}, "area_um2", 1.5),
        ({"Y": (0.5, "mm"), "X": (0.5, "mm")}, "area_mm2", 1.5),
        ({"Y": (0.5, "parsec"), "X": (0.5, "parsec")}, "area_parsec2", 1.5),
        ({"Y": (0.5, "parsec"), "X": (0.5, "mm")}, "area_px", 6.0),
        ({"Y": (-0.5, "mm"), "X": (0.5, "mm")}, "area_mm2", 1.5),
    ],
)
def test_units(spacing: Any, area: str, value: float) -> None:
    labels = np.zeros((8, 8), np.uint32)
    labels[2:4, 3:6] = 1
    assert measure_objects(labels, "YX", spacing=spacing)[area].tolist() == pytest.approx([value])


def test_a_mirrored_axis_has_negative_places() -> None:
    labels = np.zeros((8, 8), np.uint32)
    labels[2:5, 3:6] = 1
    table = measure_objects(labels, "YX", spacing={"Y": (-0.5, "mm"), "X": (0.5, "mm")})
    assert (table["centroid_y_mm"][0], table["centroid_x_mm"][0]) == (-1.5, 2)
    assert table["perimeter_mm"][0] > 0


def test_what_does_not_fit_is_refused() -> None:
    labels = np.zeros((8, 8), np.uint32)
    with pytest.raises(InputError, match="'XY' do not fit"):
        measure_objects(labels, "XY")
    with pytest.raises(InputError, match=r"image of shape \(5, 5\)"):
        measure_objects(labels, "YX", image=np.zeros((5, 5)))
    with pytest.raises(InputError, match=r"along X is 0 long"):
        measure_objects(labels, "YX", spacing={"Y": (1.0, "mm"), "X": (0.0, "mm")})
    with pytest.raises(InputError, match=r"\(0, 8, 8\) hold no pixel"):
        measure_objects(np.zeros((0, 8, 8), int), "TYX")


def test_the_table_goes_into_a_csv(tmp_path: Path) -> None:
    labels = np.zeros((8, 8), np.uint32)
    labels[2:5, 3:6] = 9
    rows = table_rows(measure_objects(labels, "YX", spacing=UM))
    lines = write_table_csv(tmp_path / "a.csv", rows).read_text().splitlines()
    assert lines[0].startswith("label,area_um2,")
    assert lines[1].startswith("9,2.25,")

"""ImageJ's regions of interest: read back by roifile and by read-roi, which share no code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from read_roi import read_roi_zip
from roifile import ROI_TYPE, roiread

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.roi_zip import write_roi_zip


def _fill(labels: np.ndarray, rings: list[Any], label: int) -> None:
    """Fill by the even-odd rule, which needs nothing but the rings."""
    y, x = np.indices(labels.shape) + 0.5
    inside = [shapely.contains_xy(shapely.Polygon(ring), x, y) for ring in rings]
    labels[np.logical_xor.reduce(inside)] += label


def _with_roifile(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(shape, np.int64)
    for roi in roiread(path):
        rings = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
        place = [each - 1 for each in (roi.t_position, roi.z_position) if each]
        _fill(labels[tuple(place)], rings, int(roi.name.split("-")[-1]))
    return labels


def _with_read_roi(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(shape, np.int64)
    for name, roi in read_roi_zip(str(path)).items():
        flat = roi["type"] != "composite"
        rings = [list(zip(roi["x"], roi["y"], strict=True))] if flat else roi["paths"]
        at = roi["position"]
        place = [] if isinstance(at, int) else [at["frame"] - 1, at["slice"] - 1]
        _fill(labels[tuple(each for each in place if each >= 0)], rings, int(name.split("-")[-1]))
    return labels


@pytest.mark.parametrize("read", [_with_roifile, _with_read_roi])
def test_regions_hold_the_labels(tmp_path: Path, shapes: np.ndarray, read: Any) -> None:
    path = write_roi_zip(tmp_path / "a.roi.zip", shapes, "YX")
    np.testing.assert_array_equal(read(path, shapes.shape), shapes)


@pytest.mark.parametrize("read", [_with_roifile, _with_read_roi])
def test_regions_of_a_stack(tmp_path: Path, stack: np.ndarray, read: Any) -> None:
    path = write_roi_zip(tmp_path / "a.roi.zip", stack, "TZYX")
    np.testing.assert_array_equal(read(path, stack.shape), stack)


def test_simple_objects_are_traced_and_others_composites(
    tmp_path: Path, shapes: np.ndarray
) -> None:
    path = write_roi_zip(tmp_path / "a.roi.zip", shapes, "YX")
    kinds = {roi.name.split("-")[-1]: roi.roitype for roi in roiread(path)}
    assert kinds["2"] == kinds["7"] == ROI_TYPE.TRACED
    assert kinds["1"] == kinds["5"] == kinds["70000"] == ROI_TYPE.RECT


def test_names_and_positions(tmp_path: Path) -> None:
    labels = np.zeros((3, 24, 30), np.uint16)
    labels[2, 10:14, 20:26] = 12
    (roi,) = roiread(write_roi_zip(tmp_path / "a.roi.zip", labels, "ZYX"))
    assert roi.name == "0003-0012-0023-12"
    assert (roi.c_position, roi.z_position, roi.t_position) == (0, 3, 0)
    assert (roi.left, roi.top, roi.right, roi.bottom) == (20, 10, 26, 14)


def test_the_same_labels_give_the_same_file(tmp_path: Path, shapes: np.ndarray) -> None:
    first = write_roi_zip(tmp_path / "a.zip", shapes, "YX").read_bytes()
    assert write_roi_zip(tmp_path / "b.zip", shapes, "YX").read_bytes() == first


def test_no_objects(tmp_path: Path) -> None:
    path = write_roi_zip(tmp_path / "a.zip", np.zeros((8, 8), int), "YX")
    assert zipfile.ZipFile(path).namelist() == []


def test_far_out_in_a_large_image(tmp_path: Path) -> None:
    labels = np.zeros((2, 60_535), np.uint8)
    labels[0, 60_530:] = 3
    path = write_roi_zip(tmp_path / "a.zip", labels, "YX")
    np.testing.assert_array_equal(_with_read_roi(path, labels.shape), labels)


def test_images_that_are_too_large(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"2 x 60,536 .*60,535.*GeoJSON"):
        write_roi_zip(tmp_path / "a.zip", np.zeros((2, 60_536), np.uint8), "YX")
    assert list(tmp_path.iterdir()) == []

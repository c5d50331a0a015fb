"""A folder of DICOM slices as one image of a job, found, segmented once, and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from napari_espmedsam.batch.api import segment_file
from napari_espmedsam.batch.discover import find_images
from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.fingerprint import hash_path
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.standing import look
from napari_espmedsam.errors import InputError
from napari_espmedsam.io.images import read_image

Run = Callable[[BatchJob], JobResult]
Make = Callable[..., BatchJob]
UID = "1.2.840.1135"


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    """Write slices of 64 x 64 px into a folder, in another order than that of their places."""
    template = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))

    def write(name: str, n: int = 3, series: int = 1, **tags: Any) -> Path:
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True, exist_ok=True)
        uid, rng = generate_uid(), np.random.default_rng(n)
        for k in range(n):
            template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            template.SeriesInstanceUID, template.SeriesNumber = uid, series
            template.ImagePositionPatient = [0, 0, 2.5 * k]
            template.RescaleIntercept, template.RescaleSlope = 0, 1
            template.Rows = template.Columns = 64
            blocks = rng.integers(0, 2000, (8, 8)).astype(np.int16)
            template.PixelData = blocks.repeat(8, 0).repeat(8, 1).tobytes()
            template.save_as(folder / f"s{series}-{n - k}.dcm")
        return folder

    return write


def _found(*inputs: object, **options: Any) -> dict[str, str]:
    return {each.relative: each.problem for each in find_images(list(map(str, inputs)), **options)}


def test_what_is_found(write_series: Any, write_image: Any, tmp_path: Path) -> None:
    top = tmp_path / "in"
    write_series(f"patient/{UID}", 3), write_series("other", 2)
    write_image("patient/photo.tif"), write_image("other/photo.tif")
    slices = {f"other/s1-{k}.dcm" for k in (1, 2)}
    assert set(_found(top, recursive=True)) >= slices
    every = {f"patient/{UID}", "patient/photo.tif", "other", "other/photo.tif"}
    assert set(_found(top, recursive=True, dicom_series=True)) == every
    assert set(_found(top, dicom_series=True)) == {"other"}
    assert set(_found(top / "other", dicom_series=True)) == {"other", "other/photo.tif"}
    assert set(_found(f"{top}/o*", dicom_series=True)) == {"other"}
    with pytest.raises(InputError, match="no file fits the pattern"):
        find_images([f"{top}/o*"])


def test_a_list_of_a_disc_is_no_series(write_series: Any, tmp_path: Path) -> None:
    first = next(write_series("disc/a").iterdir())
    (tmp_path / "in" / "disc" / "DICOMDIR").write_bytes(first.read_bytes())
    assert set(_found(tmp_path / "in" / "disc", recursive=True, dicom_series=True)) == {"a"}


def test_a_series_is_one_image_and_finished_once(
    write_series: Any, make_job: Make, run_job: Run, tmp_path: Path
) -> None:
    folder = write_series(UID)
    job = make_job(folder, dicom_series=True)
    result = run_job(job)
    assert result.ok, result.failed
    assert [each.image for each in result.results] == ["ZYX 3 x 64 x 64"]
    labels = tmp_path / "out" / f"{UID}_labels.tif"
    assert tifffile.imread(labels).shape == (3, 64, 64)
    slices = [pydicom.dcmread(folder / f"s1-{k}.dcm").pixel_array for k in (3, 2, 1)]
    np.testing.assert_array_equal(read_image(folder).array, slices)  # by place, as in napari
    (folder / "notes.txt").write_text("not a slice")
    assert run_job(job).count("skipped") == 1
    (folder / "s1-2.dcm").unlink()
    (task,) = job.plan()
    assert look(task).reason == "the image has changed since"
    assert run_job(job).results[0].image == "ZYX 2 x 64 x 64"


def test_results_beside_the_slices_do_not_change_the_series(
    write_series: Any, make_job: Make, run_job: Run
) -> None:
    folder = write_series("ct")
    before = hash_path(folder)
    job = make_job(folder, folder=folder, dicom_series=True)
    assert run_job(job).ok
    assert hash_path(folder) == before
    assert run_job(job).count("skipped") == 1


def test_of_several_series_the_first_is_done_and_it_is_said(
    write_series: Any, make_job: Make, run_job: Run
) -> None:
    write_series("ct", 3, series=1)
    folder = write_series("ct", 2, series=2)
    (result,) = run_job(make_job(folder, dicom_series=True)).results
    assert result.image == "ZYX 3 x 64 x 64 (first of 2 images in the file)"


def test_a_damaged_slice_is_told(write_series: Any, make_job: Make, run_job: Run) -> None:
    folder = write_series("ct", 3)
    path = folder / "s1-2.dcm"
    whole = path.read_bytes()
    path.write_bytes(whole[:400])  # within its header
    (result,) = run_job(make_job(folder, dicom_series=True)).results
    assert (result.state, result.image) == ("done", "ZYX 2 x 64 x 64")
    assert "s1-2.dcm is DICOM without an image and is left out" in result.warnings[0]
    path.write_bytes(whole[:-200])  # within its pixels
    (result,) = run_job(make_job(folder, dicom_series=True)).results
    assert result.state == "failed"
    assert "s1-2.dcm" in result.reason


def test_from_python(write_series: Any, checkpoint: Path, tmp_path: Path) -> None:
    folder = write_series("ct")
    settings = {"checkpoint": str(checkpoint), "threshold": 0.5}
    with pytest.raises(InputError, match="stands for 3 images"):
        segment_file(folder, tmp_path / "out", **settings)
    result = segment_file(folder, tmp_path / "out", dicom_series=True, **settings)
    assert [path.name for path in result.outputs] == ["ct_labels.tif"]

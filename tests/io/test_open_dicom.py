"""DICOM as clinics have it: the files that pydicom ships, and small ones made here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_espmedsam.errors import InputError
from napari_espmedsam.io import dicom as dicom_module
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.open_image import open_image

MakeFile = Callable[..., Path]


def _shipped(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom comes without {name}")
    return Path(str(path))


@pytest.fixture
def dicom(tmp_path: Path) -> MakeFile:
    """Return a function that writes a grey image of 16 bits."""

    def write(name: str, pixels: np.ndarray, **tags: Any) -> Path:
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
        header.Rows, header.Columns = pixels.shape[-2:]
        if pixels.ndim == 3:
            header.NumberOfFrames = len(pixels)
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        header.SamplesPerPixel, header.PixelRepresentation = 1, 0
        header.PhotometricInterpretation = "MONOCHROME2"
        for key, value in tags.items():
            setattr(header, key, value)
        header.PixelData = pixels.astype("<u2").tobytes()
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        header.save_as(path, enforce_file_format=True)
        return path

    return write


def _grey(shape: tuple[int, ...] = (12, 10)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4096, shape).astype(np.uint16)


def test_radiograph_is_bright_where_it_is_dense(dicom: MakeFile) -> None:
    stored = _grey()
    path = dicom(
        "a.dcm",
        stored,
        PhotometricInterpretation="MONOCHROME1",
        ImagerPixelSpacing=[0.2, 0.1],
        WindowCenter=1000,
        WindowWidth=400,
    )
    image = open_image(path)
    np.testing.assert_array_equal(image.levels[0].compute(), 4095 - stored)
    assert image.dtype == np.uint16
    assert image.spacing == pytest.approx({"Y": 200.0, "X": 100.0})
    assert image.contrast_limits == ((4095 - 1200, 4095 - 800),)
    np.testing.assert_array_equal(read_image(path).array, 4095 - stored)


def test_hounsfield_units(dicom: MakeFile) -> None:
    stored = _grey()
    image = open_image(dicom("a.dcm", stored, RescaleSlope=2, RescaleIntercept=-1000))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image.levels[0].compute(), 2.0 * stored - 1000)


def test_window_of_an_inverted_and_rescaled_image(dicom: MakeFile) -> None:
    stored = _grey()
    image = open_image(
        dicom(
            "a.dcm",
            stored,
            PhotometricInterpretation="MONOCHROME1",
            RescaleSlope=2,
            RescaleIntercept=10,
            WindowCenter=2 * 500 + 10,
            WindowWidth=2 * 200,
        )
    )
    # Stored 400 to 600 were in the window; they are now 3695 to 3495.
    assert image.contrast_limits == ((2 * 3495 + 10, 2 * 3695 + 10),)


def test_film_of_ultrasound_is_decoded_frame_by_frame() -> None:
    path = _shipped("examples_ybr_color.dcm")
    image = open_image(path)
    assert (image.axes, image.shape) == ("TYXS", (30, 240, 320, 3))
    assert image.levels[0].numblocks[0] == 30
    assert image.spacing["T"] == pytest.approx(0.033333)
    header = pydicom.dcmread(path)
    region = header.SequenceOfUltrasoundRegions[0]
    assert image.spacing["Y"] == pytest.approx(float(region.PhysicalDeltaY) * 1e4)
    np.testing.assert_array_equal(image.levels[0][7].compute(), header.pixel_array[7])
    part = image.levels[0][3:20:5, 5:9, ::40].compute()
    np.testing.assert_array_equal(part, header.pixel_array[3:20:5, 5:9, ::40])


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
    ],
)
def test_lossless_compressions_give_the_same_pixels(compressed: str, plain: str) -> None:
    expected = pydicom.dcmread(_shipped(plain)).pixel_array
    np.testing.assert_array_equal(open_image(_shipped(compressed)).levels[0].compute(), expected)


def test_twelve_bit_jpeg_and_palettes() -> None:
    image = open_image(_shipped("JPGExtended.dcm"))
    assert (image.axes, image.dtype) == ("YX", np.uint16)
    assert image.levels[0].max().compute() > 255
    image = open_image(_shipped("examples_palette.dcm"))
    assert (image.axes, image.dtype) == ("YXS", np.uint8)
    assert image.levels[0].max().compute() > 200


ORIENTATION = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def _series(dicom: MakeFile, places: list[float], folder: str = "ct", **tags: Any) -> np.ndarray:
    stored, uid = _grey((len(places), 12, 10)), generate_uid()
    for number, place in enumerate(places):
        dicom(
            f"{folder}/{number}.dcm",
            stored[number],
            **{
                "SeriesInstanceUID": uid,
                "InstanceNumber": number,
                "ImageOrientationPatient": ORIENTATION,
                "ImagePositionPatient": [0.0, 0.0, place],
                "PixelSpacing": [0.5, 0.5],
                "SliceThickness": 9.0,
                **tags,
            },
        )
    return stored


def test_slices_in_the_order_of_their_places(dicom: MakeFile, tmp_path: Path) -> None:
    stored = _series(dicom, [4.0, -2.0, 1.0])
    image = open_image(tmp_path / "ct")
    assert (image.axes, image.name, image.warnings) == ("ZYX", "ct", ())
    assert image.spacing == pytest.approx({"Z": 3000.0, "Y": 500.0, "X": 500.0})
    np.testing.assert_array_equal(image.levels[0].compute(), stored[[1, 2, 0]])
    np.testing.assert_array_equal(read_image(tmp_path / "ct").array, stored[[1, 2, 0]])


def test_a_missing_slice_is_noticed(dicom: MakeFile, tmp_path: Path) -> None:
    _series(dicom, [0.0, 1.0, 2.0, 4.0])
    (note,) = open_image(tmp_path / "ct").warnings
    assert "1 to 2 mm" in note


def test_files_without_a_place_are_sorted_by_number(dicom: MakeFile, tmp_path: Path) -> None:
    uid, stored = generate_uid(), _grey((2, 12, 10))
    for name, number in (("b", 1), ("a", 2)):
        dicom(f"x/{name}.dcm", stored[number - 1], SeriesInstanceUID=uid, InstanceNumber=number)
    image = open_image(tmp_path / "x")
    assert image.spacing == {}
    np.testing.assert_array_equal(image.levels[0].compute(), stored)


def test_folders_with_more_than_one_series_and_other_files(dicom: MakeFile, tmp_path: Path) -> None:
    _series(dicom, [0.0, 1.0], SeriesNumber=2)
    other = dicom("ct/other.dcm", _grey((5, 6)), SeriesNumber=1, SeriesInstanceUID=generate_uid())
    (tmp_path / "ct" / "notes.txt").write_text("day 1")
    (tmp_path / "ct" / "bad.dcm").write_text("no DICOM")
    (tmp_path / "ct" / "loop.dcm").symlink_to(tmp_path / "ct" / "loop.dcm")
    (tmp_path / "ct" / "again").symlink_to(tmp_path / "ct")
    image = open_image(tmp_path / "ct")
    assert (image.shape, image.n_series) == ((5, 6), 2)
    assert [note for note in image.warnings if "bad.dcm" in note]
    assert open_image(tmp_path / "ct", series=1).shape == (2, 12, 10)
    with pytest.raises(InputError, match="no series number 2; it holds 2"):
        open_image(tmp_path / "ct", series=2)
    assert other.exists()


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "badVR.dcm", "rtplan.dcm", "no_meta.dcm"])
def test_damaged_files_and_dicom_without_image(name: str) -> None:
    with pytest.raises(InputError, match=name):
        open_image(_shipped(name))


def test_truncated_anywhere(dicom: MakeFile) -> None:
    path, stored = dicom("a.dcm", _grey()), _grey()
    whole, errors = path.read_bytes(), 0
    for cut in range(1, len(whole), 37):
        path.write_bytes(whole[:cut])
        try:
            found = open_image(path).levels[0].compute()
        except InputError:
            errors += 1
        else:
            np.testing.assert_array_equal(found, stored)
    assert errors > 5


def test_slides_in_dicom_are_refused(dicom: MakeFile) -> None:
    path = dicom("a.dcm", _grey(), SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")
    with pytest.raises(InputError, match="convert it to OME-TIFF"):
        open_image(path)


def test_loosely_written_files_open_without_remarks(dicom: MakeFile) -> None:
    path = dicom("a.dcm", _grey())
    path.write_bytes(path.read_bytes() + b"\0" * 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(path).levels[0].compute().shape == (12, 10)


def test_slices_of_another_type_are_refused_and_not_cut_off(
    dicom: MakeFile, tmp_path: Path
) -> None:
    uid = generate_uid()
    for number, signed in ((1, 0), (2, 1)):
        tags = {"SeriesInstanceUID": uid, "InstanceNumber": number, "PixelRepresentation": signed}
        dicom(f"x/{number}.dcm", np.full((12, 10), 65_531), BitsStored=16, HighBit=15, **tags)
    with pytest.raises(InputError, match=r"2\.dcm.*int16.*uint16.*move files"):
        read_image(tmp_path / "x")
    for number, signed in ((1, 0), (2, 1)):  # rescaled, both are float32
        tags = {"SeriesInstanceUID": uid, "InstanceNumber": number, "PixelRepresentation": signed}
        dicom(f"y/{number}.dcm", np.full((12, 10), 7), RescaleSlope=2, RescaleIntercept=1, **tags)
    np.testing.assert_array_equal(read_image(tmp_path / "y").array, np.full((2, 12, 10), 15.0))


def test_a_series_number_that_is_none(dicom: MakeFile, tmp_path: Path) -> None:
    path = dicom("x/1.dcm", _grey(), SeriesNumber=7777)
    path.write_bytes(path.read_bytes().replace(b"7777", b"left"))
    with pytest.raises(InputError, match="header that cannot be used"):
        open_image(tmp_path / "x")


def test_frames_that_the_file_has_no_room_for(dicom: MakeFile) -> None:
    path = dicom("a.dcm", _grey(), NumberOfFrames=10_000)
    with pytest.raises(InputError, match=r"promises 10,000 frames"):
        open_image(path)


def test_one_file_is_one_image(dicom: MakeFile) -> None:
    with pytest.raises(InputError, match="no image number 1; it holds 1"):
        open_image(dicom("a.dcm", _grey()), series=1)


def test_a_slice_that_is_replaced_after_its_header_was_read(
    dicom: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _series(dicom, [0.0, 1.0])
    read = dicom_module._read_header

    def then_replace(path: Path) -> Any:
        header = read(path)
        path.write_bytes(path.read_bytes() + b"0")
        return header

    monkeypatch.setattr(dicom_module, "_read_header", then_replace)
    with pytest.raises(InputError, match="was changed while it was open"):
        open_image(tmp_path / "ct")

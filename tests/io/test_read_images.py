"""Reading: axes, sizes, colours, and a sentence for every file that is no image."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_espmedsam.errors import InputError
from napari_espmedsam.io import images, tiff
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.lazy_image import LazyImage
from napari_espmedsam.io.watch import FileWatch, lazy


def _stack(shape: tuple[int, ...] = (3, 20, 24), dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def _tiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    return path


@pytest.mark.parametrize(
    ("shape", "written", "expected"),
    [
        ((20, 24), "YX", "YX"),
        ((3, 20, 24), "ZYX", "ZYX"),
        ((3, 20, 24), "TYX", "TYX"),
        ((2, 20, 24), "CYX", "CYX"),
        ((2, 3, 20, 24), "TZYX", "TZYX"),
        ((2, 3, 2, 20, 24), "TZCYX", "TZCYX"),
    ],
)
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_axes_of_imagej_and_ome_files(
    tmp_path: Path, kind: str, shape: tuple[int, ...], written: str, expected: str
) -> None:
    array = _stack(shape)
    path = _tiff(tmp_path / "a.tif", array, metadata={"axes": written}, **{kind: True})
    image = read_image(path)
    assert image.axes == expected
    assert not image.rgb
    np.testing.assert_array_equal(image.array, array)


@pytest.mark.parametrize("metadata", [None, {}])
def test_plain_pages_become_z(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    array = _stack()
    image = read_image(_tiff(tmp_path / "plain.tif", array, metadata=metadata))
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.array, array)


def test_two_unnamed_axes_become_time_and_depth(tmp_path: Path) -> None:
    array = _stack((2, 3, 20, 24))
    image = read_image(_tiff(tmp_path / "plain.tif", array))
    assert sorted(image.axes) == sorted("TZYX")
    assert image.array.shape == array.shape


def test_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.ome.tif", _stack((1, 3, 1, 20, 24)), metadata={"axes": "TZCYX"})
    assert read_image(path).axes == "ZYX"


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_tiff_has_samples_last_and_no_alpha(tmp_path: Path, planar: str) -> None:
    array = _stack((20, 24, 4), np.uint8)
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    path = _tiff(
        tmp_path / "rgba.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"],
    )
    image = read_image(path)
    assert image.rgb
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.array, array[..., :3])


def test_samples_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    path = _tiff(
        tmp_path / "a.tif",
        _stack((20, 24, 5)),
        photometric="minisblack",
        planarconfig="contig",
        metadata=None,
    )
    assert read_image(path).axes == "YXC"


def test_imagej_sizes_in_micrometres(tmp_path: Path) -> None:
    path = _tiff(
        tmp_path / "a.tif",
        _stack((2, 3, 20, 24)),
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "TZYX", "unit": "um", "spacing": 1.5, "finterval": 30.0},
    )
    image = read_image(path)
    assert image.spacing == pytest.approx({"T": 30.0, "Z": 1.5, "Y": 0.5, "X": 0.25})
    assert image.pixel_size is None  # not square


@pytest.mark.parametrize(
    ("unit", "expected"), [("nm", 2e-4), ("mm", 200.0), (r"\u00B5m", 0.2), ("pixel", None)]
)
def test_imagej_units(tmp_path: Path, unit: str, expected: float | None) -> None:
    path = _tiff(
        tmp_path / "a.tif",
        _stack((20, 24)),
        imagej=True,
        resolution=(5, 5),
        metadata={"unit": unit},
    )
    size = read_image(path).pixel_size
    assert size == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_ome_sizes(tmp_path: Path) -> None:
    metadata = {
        "axes": "TZYX",
        "PhysicalSizeX": 325.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.325,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 2.0,
        "TimeIncrement": 500.0,
        "TimeIncrementUnit": "ms",
    }
    path = _tiff(tmp_path / "a.ome.tif", _stack((2, 3, 20, 24)), metadata=metadata)
    image = read_image(path)
    assert image.spacing == pytest.approx({"T": 0.5, "Z": 2.0, "Y": 0.325, "X": 0.325})
    assert image.pixel_size == pytest.approx(0.325)


def test_print_resolution_is_no_pixel_size(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.tif", _stack((20, 24)), resolution=(300, 300), resolutionunit="inch")
    assert read_image(path).spacing == {}


def test_big_endian_becomes_native(tmp_path: Path) -> None:
    array = _stack((20, 24))
    image = read_image(_tiff(tmp_path / "a.tif", array, byteorder=">"))
    assert image.array.dtype == np.dtype(np.uint16).newbyteorder("=")
    np.testing.assert_array_equal(image.array, array)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    array = np.full((32, 32), 77, np.uint8)
    image = read_image(_tiff(tmp_path / "a.tif", array, compression=compression))
    np.testing.assert_array_equal(image.array, array)


def test_large_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "MEMMAP_FROM_BYTES", 1)
    array = _stack()
    path = _tiff(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZYX"})
    image = read_image(path)
    assert isinstance(image.array, np.memmap) or isinstance(image.array.base, np.memmap)
    np.testing.assert_array_equal(image.array, array)


def test_first_of_several_series(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(_stack((20, 24)), metadata=None)
        writer.write(_stack((30, 34)), metadata=None)
    image = read_image(path)
    assert image.n_series == 2
    assert image.array.shape == (20, 24)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png_keeps_depth_and_drops_alpha(tmp_path: Path, dtype: Any, samples: int) -> None:
    import imagecodecs

    array = _stack((20, 24, samples), dtype) * (1 if dtype == np.uint8 else 257)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array.squeeze()))
    image = read_image(path)
    assert image.array.dtype == dtype
    assert image.axes == ("YX" if samples < 3 else "YXS")
    expected = array[..., 0] if samples < 3 else array[..., :3]
    np.testing.assert_array_equal(image.array, expected)


@pytest.mark.parametrize("grey", [True, False])
def test_palette_png(tmp_path: Path, grey: bool) -> None:
    indices = _stack((20, 24), np.uint8)
    colours = np.arange(256, dtype=np.uint8)[::-1].repeat(3).reshape(256, 3).copy()
    if not grey:
        colours[:, 1] //= 2
    picture = Image.frombytes("P", (24, 20), indices.tobytes())
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    expected = colours[indices]
    np.testing.assert_array_equal(image.array, expected[..., 0] if grey else expected)


@pytest.mark.parametrize(("mode", "axes"), [("L", "YX"), ("RGB", "YXS"), ("CMYK", "YXS")])
def test_jpeg(tmp_path: Path, mode: str, axes: str) -> None:
    Image.new(mode, (24, 20), 90 if mode == "L" else None).save(tmp_path / "a.jpg")
    image = read_image(tmp_path / "a.jpg")
    assert image.axes == axes
    assert image.array.dtype == np.uint8
    assert image.array.shape[:2] == (20, 24)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.new("L", (24, 20)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").array.shape == (20, 24)


def test_axes_given_by_the_user(tmp_path: Path) -> None:
    array = _stack((20, 24, 3), np.uint8)
    path = _tiff(tmp_path / "a.tif", np.moveaxis(array, -1, 0))
    assert read_image(path, "cyx").axes == "CYX"
    image = read_image(path, "SYX")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.array, array)


@pytest.mark.parametrize("axes", ["YX", "ZZYX", "QYX", "ZCT", "YXS", ""])
def test_axes_that_do_not_fit(tmp_path: Path, axes: str) -> None:
    path = _tiff(tmp_path / "a.tif", _stack())
    with pytest.raises(InputError, match=re.escape(repr(axes))) as caught:
        read_image(path, axes)
    assert "3 different letters" in str(caught.value)
    assert "ZYX" in str(caught.value)


KINDS: dict[str, dict[str, Any]] = {
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej-zlib": {"imagej": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "ome-zlib": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "shaped": {},
    "pages": {"metadata": None},
    "pages-lzw": {"metadata": None, "compression": "lzw"},
    "tiles": {"metadata": None, "tile": (16, 16)},
    "big": {"metadata": None, "bigtiff": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_tiff_is_an_error_or_whole(tmp_path: Path, kind: str) -> None:
    """Wherever the file is cut: never a shorter stack, never anything but InputError."""
    array = np.random.default_rng(2).integers(0, 60000, (4, 20, 24)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", **KINDS[kind])
    whole = buffer.getvalue()
    path = tmp_path / "cut.tif"
    errors = 0
    for cut in range(1, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:cut])
        try:
            image = read_image(path)
        except InputError:
            errors += 1
        else:
            np.testing.assert_array_equal(image.array, array, err_msg=str(cut))
    assert errors > 10


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(_stack((40, 40), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut short or damaged \([\d,]+ bytes"):
        read_image(path)


def test_text_file_named_tif(tmp_path: Path) -> None:
    path = tmp_path / "notes.tif"
    path.write_text("day 1: fed the cells")
    with pytest.raises(InputError, match=r"notes\.tif is not a TIFF.*b'day 1: f'.*save it as TIFF"):
        read_image(path)


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    with pytest.raises(InputError, match=r"empty\.tif is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.tif")
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "missing.tif")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _tiff(tmp_path / "a.tif", _stack())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"Permission denied.*check its permissions"):
        read_image(path)


def test_too_large_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _tiff(tmp_path / "a.tif", _stack())

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tiff, "_pixels", no_memory)
    with pytest.raises(InputError, match="does not fit into memory"):
        read_image(path)


def test_unknown_axes_are_named(tmp_path: Path) -> None:
    array = _stack((2, 2, 2, 2, 20, 24))
    path = _tiff(tmp_path / "a.tif", array, metadata={"axes": "PTZCYX"})
    with pytest.raises(InputError, match="PTZCYX"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_that_are_too_large_are_not_called_damaged(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(_stack((20, 24), np.uint8)).save(tmp_path / f"a{suffix}")

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("imagecodecs.png_decode", full)
    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(InputError, match="does not fit into memory"):
        read_image(tmp_path / f"a{suffix}")


def test_lazy_files_that_are_too_large_are_not_called_damaged(tmp_path: Path) -> None:
    class Full:
        shape, dtype, chunks = (20, 24), np.dtype(np.uint8), (20, 24)

        def __getitem__(self, index: Any) -> np.ndarray:
            raise MemoryError

    level = lazy(Full(), FileWatch(tmp_path), "YX")
    with pytest.raises(InputError, match="does not fit into memory"):
        images._computed(LazyImage(tmp_path, "a", (level,), "YX"))

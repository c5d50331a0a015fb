"""TIFF without reading it: levels, axes, sizes, channels; and what is wrong said in time."""

from __future__ import annotations

import gc
import io
import logging
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.content import is_series
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.io.tiff import page_errors_of

Noise = Callable[..., np.ndarray]
Write = Callable[..., Path]


def _levels_are(image: Any, *expected: np.ndarray) -> None:
    assert len(image.levels) == len(expected)
    for level, wanted in zip(image.levels, expected, strict=True):
        np.testing.assert_array_equal(level.compute(), wanted)


def test_aperio_slide(svs: Write, noise: Noise) -> None:
    array = noise((160, 200, 3), np.uint8)
    image = open_image(svs(array))
    _levels_are(image, array, array[::2, ::2], array[::4, ::4])
    assert (image.axes, image.rgb, image.name) == ("YXS", True, "slide")
    assert image.spacing == {"Y": 0.5, "X": 0.5}
    assert dict(image.units) == {"Y": "micrometer", "X": "micrometer"}
    assert (image.n_series, image.contrast_limits, image.warnings) == (3, (), ())


def test_the_label_of_a_slide_is_a_series_of_its_own(svs: Write, noise: Noise) -> None:
    array = noise((160, 200, 3), np.uint8)
    path = svs(array)
    _levels_are(open_image(path, series=2), array[:20, :20])
    np.testing.assert_array_equal(read_image(path, series=2).array, array[:20, :20])
    for read in (open_image, read_image):
        assert read(path).spacing == {"Y": 0.5, "X": 0.5}
        assert read(path, series=1).spacing == {}  # a thumbnail repeats the words of the tissue
    for number in (3, -1):
        for read in (open_image, read_image):
            with pytest.raises(InputError, match=f"no image number {number}; it holds 3"):
                read(path, series=number)


def test_hamamatsu_tags_make_the_resolution_a_pixel_size(tmp_path: Path, noise: Noise) -> None:
    array = noise((64, 80, 3), np.uint8)
    path = tmp_path / "slide.tif"  # the ending .ndpi promises offsets of 64 bits, too
    mark = [(65420, "I", 1, 1, False), (271, "s", 0, "Hamamatsu", False)]
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 4):
            writer.write(
                array[::step, ::step],
                photometric="rgb",
                metadata=None,
                resolution=(40000 / step, 40000 / step),
                resolutionunit="CENTIMETER",
                extratags=mark,
            )
    image = open_image(path)
    assert image.spacing == pytest.approx({"Y": 0.25, "X": 0.25})
    np.testing.assert_array_equal(image.levels[0].compute(), array)


def test_channels_of_an_ome_pyramid(ome_pyramid: Write, noise: Noise) -> None:
    array = noise((2, 3, 128, 160))
    path = ome_pyramid(
        array,
        "CZYX",
        Channel={"Name": ["DAPI", "GFP"]},
        PhysicalSizeX=0.25,
        PhysicalSizeY=250.0,
        PhysicalSizeYUnit="nm",
        PhysicalSizeZ=2.0,
    )
    image = open_image(path)
    _levels_are(image, array, array[..., ::2, ::2], array[..., ::4, ::4])
    assert (image.axes, image.channel_names, image.n_channels) == ("CZYX", ("DAPI", "GFP"), 2)
    assert image.spacing == pytest.approx({"Z": 2.0, "Y": 0.25, "X": 0.25})
    middle = array[:, 1, ::4, ::4]  # the smallest level decides
    expected = [tuple(np.percentile(channel, (0.1, 99.9))) for channel in middle]
    np.testing.assert_allclose(image.contrast_limits, expected)


def test_names_of_imagej_channels(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.tif"
    labels = ["blue", "green"] * 3
    tifffile.imwrite(
        path, noise((3, 2, 20, 24)), imagej=True, metadata={"axes": "ZCYX", "Labels": labels}
    )
    assert open_image(path).channel_names == ("blue", "green")


def test_labels_of_slices_are_no_names_of_channels(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, noise((2, 20, 24)), imagej=True, metadata={"axes": "CYX", "Labels": ["a", "a"]}
    )
    assert open_image(path).channel_names == ()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.uint8, (0.0, 255.0)), (np.int8, (-128.0, 127.0)), (np.uint16, None), (np.float32, None)],
)
def test_contrast_limits(tmp_path: Path, noise: Noise, dtype: Any, expected: Any) -> None:
    array = noise((20, 24), np.uint8).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    ((low, high),) = open_image(tmp_path / "a.tif").contrast_limits
    assert (low, high) == pytest.approx(expected or tuple(np.percentile(array, (0.1, 99.9))))


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, 1e17, -1e30])
def test_contrast_limits_of_a_flat_image(tmp_path: Path, value: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((20, 24), value, np.float32))
    ((low, high),) = open_image(tmp_path / "a.tif").contrast_limits
    assert low < high


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_is_dropped_lazily(tmp_path: Path, noise: Noise, planar: str) -> None:
    array = noise((20, 24, 4), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        array if planar == "contig" else np.moveaxis(array, -1, 0),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"],
    )
    image = open_image(tmp_path / "a.tif")
    assert image.axes == "YXS"
    _levels_are(image, array[..., :3])


def test_axes_given_by_the_user(tmp_path: Path, noise: Noise) -> None:
    array = noise((3, 20, 24), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    image = open_image(tmp_path / "a.tif", axes="syx")
    assert image.axes == "YXS"
    _levels_are(image, np.moveaxis(array, 0, -1))
    with pytest.raises(InputError, match="'ZY' do not fit"):
        open_image(tmp_path / "a.tif", axes="ZY")


def test_names_and_limits_of_channels_follow_the_axes_of_the_user(
    tmp_path: Path, noise: Noise
) -> None:
    array = noise((3, 20, 24)) * np.array([1, 10, 100], np.uint16)[:, None, None]
    names = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}}
    tifffile.imwrite(tmp_path / "c.ome.tif", array, photometric="minisblack", metadata=names)
    channels = open_image(tmp_path / "c.ome.tif")
    assert channels.channel_names == ("a", "b", "c")
    slices = open_image(tmp_path / "c.ome.tif", axes="ZYX")
    assert slices.channel_names == ()
    assert slices.contrast_limits == (channels.contrast_limits[1],)  # of the middle one
    tifffile.imwrite(tmp_path / "z.tif", array, photometric="minisblack")
    again = open_image(tmp_path / "z.tif", axes="CYX")
    assert again.contrast_limits == channels.contrast_limits
    assert open_image(tmp_path / "z.tif", axes="SYX").contrast_limits == ()


def test_a_lone_channel_is_no_axis_and_has_no_name(tmp_path: Path, noise: Noise) -> None:
    names = {"axes": "CYX", "Channel": {"Name": ["a"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((1, 20, 24)), metadata=names)
    image = open_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.channel_names) == ("YX", ())


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_same_pixels_as_the_eager_reader(
    tmp_path: Path, noise: Noise, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((4, 20, 24)), photometric="minisblack", **options)
    whole, lazy = read_image(path), open_image(path)
    assert (lazy.axes, lazy.dtype, dict(lazy.spacing)) == (whole.axes, whole.array.dtype, {})
    _levels_are(lazy, whole.array)


SIDE = 50_176  # 196 tiles of 256 px


def _sparse(shape: tuple[int, int], corner: np.ndarray) -> Iterator[np.ndarray | None]:
    """Yield tiles of which only the first one exists: TIFF allows it, and it takes no time."""
    yield corner
    for _ in range(-(-shape[0] // 256) * -(-shape[1] // 256) - 1):
        yield None


def test_a_slide_of_50000_px_opens_at_once_and_in_little_memory(tmp_path: Path) -> None:
    corner = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for step in (1, 4, 16, 64):
            writer.write(
                _sparse((SIDE // step, SIDE // step), corner),
                shape=(SIDE // step, SIDE // step, 3),
                dtype=np.uint8,
                tile=(256, 256),
                photometric="rgb",
                subfiletype=1 if step > 1 else 0,
                metadata=None,
                compression="zlib",
            )
    open_image(path)  # imports
    tracemalloc.start()
    start = time.perf_counter()
    image = open_image(path)
    seconds = time.perf_counter() - start
    window = image.levels[0][:300, 100:200].compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [level.shape[0] for level in image.levels] == [SIDE, SIDE // 4, SIDE // 16, SIDE // 64]
    np.testing.assert_array_equal(window[:256], corner[:, 100:200])
    assert not window[256:].any()
    assert seconds < 3  # about 0.1 s where the machine has nothing else to do
    assert peak < 64 * 2**20  # level 0 has 7 GiB


KINDS: dict[str, dict[str, Any]] = {
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome-zlib": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "shaped": {},
    "pages-lzw": {"metadata": None, "compression": "lzw"},
    "tiles": {"metadata": None, "tile": (16, 16)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_tiff_is_an_error_or_whole(tmp_path: Path, kind: str) -> None:
    """Wherever the file is cut: an error when it is opened or read, never other pixels."""
    array = np.random.default_rng(2).integers(0, 60000, (4, 20, 24)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", **KINDS[kind])
    whole, path = buffer.getvalue(), tmp_path / "cut.tif"
    errors = 0
    for cut in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:cut])
        try:
            found = open_image(path).levels[0].compute()
        except InputError:
            errors += 1
        else:
            np.testing.assert_array_equal(found, array, err_msg=str(cut))
    assert errors > 10


def test_a_truncated_slide_loses_only_what_was_cut(svs: Write, noise: Noise) -> None:
    path = svs(noise((160, 200, 3), np.uint8))
    with tifffile.TiffFile(path) as tif:
        level = tif.series[0].levels[2].keyframe
        offsets = [*level.dataoffsets[:-1], path.stat().st_size + 1000]
        tag = level.tags["TileOffsets"]
        place, code = tag.valueoffset, {4: "<u4", 16: "<u8"}[int(tag.dtype)]
    content = bytearray(path.read_bytes())
    packed = np.asarray(offsets, code).tobytes()
    content[place : place + len(packed)] = packed
    path.write_bytes(content)
    image = open_image(path)
    assert [each.shape[:2] for each in image.levels] == [(160, 200), (80, 100)]
    (note,) = image.warnings
    assert "level 2 of the pyramid is left out" in note


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_level_that_cannot_be_decoded_is_left_out(
    ome_pyramid: Write, noise: Noise, dtype: Any
) -> None:
    path = ome_pyramid(noise((1, 128, 160), dtype), "ZYX")
    with tifffile.TiffFile(path) as tif:
        tag = tif.series[0].levels[2].keyframe.tags["Compression"]
        place = tag.valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 2] = np.asarray(8, "<u2").tobytes()  # now said to be zlib
    path.write_bytes(content)
    image = open_image(path)
    assert len(image.levels) == 2
    assert "smallest level of the pyramid is left out" in image.warnings[0]


@pytest.mark.parametrize("axes", [None, "TYX"])
def test_planes_that_metadata_promise_and_the_file_lacks(
    tmp_path: Path, write_lacking: Callable[[Path], Path], axes: str | None
) -> None:
    path = write_lacking(tmp_path / "a.ome.tif")
    for image in (open_image(path, axes=axes), read_image(path, axes)):
        assert image.axes == axes or axes is None
        assert len(image.warnings) == 1
        assert "2 of 5 planes" in image.warnings[0]
    pixels = read_image(path, axes).array
    assert [bool(plane.any()) for plane in pixels] == [True] * 3 + [False] * 2
    np.testing.assert_array_equal(pixels, np.asarray(open_image(path).levels[0]))


def test_axes_that_stand_for_nothing_here(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((2, 2, 2, 2, 20, 24)), metadata={"axes": "PTZCYX"})
    with pytest.raises(InputError, match="PTZCYX"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("change", ["rewritten", "cut", "gone"])
def test_a_file_that_changes_while_it_is_open(tmp_path: Path, noise: Noise, change: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((4, 20, 24)), photometric="minisblack")
    image = open_image(path)
    image.levels[0].compute()
    if change == "rewritten":
        os.utime(path, ns=(1, 1))
    elif change == "cut":
        os.truncate(path, 500)
    else:
        path.unlink()
    expected = "cannot be reached" if change == "gone" else "was changed while it was open"
    with pytest.raises(InputError, match=expected):
        image.levels[0].compute()


def test_the_file_is_closed_with_its_last_level(svs: Write, noise: Noise) -> None:
    """An open file that is only dropped gives a ResourceWarning, and warnings are errors."""
    image = open_image(svs(noise((160, 200, 3), np.uint8)))
    level = image.levels[1]
    del image
    gc.collect()
    assert level.compute().shape == (80, 100, 3)
    del level
    gc.collect()


def test_loops_of_links_and_what_is_no_file(tmp_path: Path) -> None:
    loop = tmp_path / "loop.tif"
    loop.symlink_to(loop)
    for path in (loop, tmp_path / "missing.tif", tmp_path):
        with pytest.raises(InputError, match=str(path.name)):
            open_image(path)
        with pytest.raises(InputError, match=str(path.name)):
            read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(InputError, match="is a pipe"):
        open_image(tmp_path / "a.tif")


def test_pictures_open_too(tmp_path: Path, noise: Noise) -> None:
    from PIL import Image

    array = noise((20, 24, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    assert image.axes == "YXS"
    _levels_are(image, array)


@pytest.mark.parametrize("read", [open_image, read_image])
def test_pictures_hold_one_image(tmp_path: Path, noise: Noise, read: Any) -> None:
    from PIL import Image

    Image.fromarray(noise((20, 24), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no image number 1; it holds 1"):
        read(tmp_path / "a.png", series=1)


@pytest.mark.parametrize("name", ["n" * 300 + ".tif", "a\0b.tif"], ids=["long", "zero"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for read in (open_image, read_image):
        with pytest.raises(InputError, match="check"):
            read(tmp_path / name)
    assert not is_series(tmp_path / name)


def test_the_errors_of_another_thread_are_not_ours() -> None:
    def fail() -> None:
        logging.getLogger("tifffile").error("<tifffile.TiffPages @8> invalid page offset 99")

    with page_errors_of() as found:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        assert found == []
        fail()
        assert len(found) == 1

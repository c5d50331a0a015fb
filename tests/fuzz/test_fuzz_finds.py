"""Files and arrays that fuzzing broke something with, each now refused in words."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numcodecs.blosc import Blosc

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.io.contrast import read_middle
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.io.watch import FileWatch, lazy
from tests.fuzz import readers, seeds
from tests.fuzz.mutate import join_parts

# 295 bytes whose chain of pages, as tifffile reads it, goes in circles.
CIRCLE = zlib.decompress(base64.b64decode(
    "eNrz9NRi4GBgYOBnYGBkYWAEsiSAmBHKFgFiJkZmBmYgDVLFzAhigSlGqBAblA3CfIzYRP9DDToExIJQgwWAhCiS"
    "GjEkC8Wh7NdAQoqRFcx+xsAQIQ1lvwNiDSS9hoxMDDxA+hsQ20LFmRggoFqpOCOxIFXJSiHayEBHwcgktpYBHTCi"
    "4ZLMtLS0zJxUvYJKuBoAI04SpA=="
))  # fmt: skip
PLAN = json.dumps({"modality": "microscopy", "shape": [64, 64], "scale": "1/1"}).encode()
CHUNK = seeds.slide_plans()[0].split(b"\n--8<--\n")[1]
RUN = seeds.training_runs()[0].split(b"\n--8<--\n")[0]
PACK = b'{"train": ["a"]}'


@pytest.mark.parametrize(
    ("target", "data", "message"),
    [
        ("slide_plan", join_parts(PLAN, b""), r"00000000\.npz is damaged"),
        ("slide_plan", join_parts(PLAN, CHUNK[:-30]), r"00000000\.npz is damaged"),
        ("slide_plan", join_parts(PLAN, CHUNK.replace(b"t.npy", b"u.npy")), r"is damaged"),
        ("pack", join_parts(b"\xff", b""), r"splits\.json is no JSON"),
        ("pack", join_parts(b"[" * 100_000, b""), r"splits\.json is no JSON"),
        ("pack", join_parts(b"0.5", b""), r"splits\.json does not give each split a list"),
        ("pack", join_parts(b'{"train": 3}', b""), r"does not give each split a list of names"),
        ("pack", join_parts(b'{"train": [3]}', b""), r"does not give each split a list of names"),
        ("pack", join_parts(PACK, b"id,patient\n\x9e,\n"), r"meta\.csv is no table in UTF-8"),
        ("training_run", b"", r"curve\.csv is no table of numbers"),
        ("training_run", join_parts(RUN, b"step\nx"), r"curve\.csv is no table of numbers"),
        ("training_run", join_parts(RUN, b"step\n1,2"), r"curve\.csv is no table of numbers"),
        ("recipe", b"base=1", r"has base = 1\. Name a recipe in quotes"),
        ("recipe", b'base="\\u0000"', "is no valid TOML"),
        ("recipe", b'base="' + b"a" * 5000 + b'"', "is no valid TOML"),
        ("recipe", b"a=" + b"[" * 100_000, "is nested too deeply"),
        ("authors_file", b"PK\x03\x04\x80\x02}.", r"a\.pth"),
    ],
)
def test_a_find_is_refused_in_words(target: str, data: bytes, message: str) -> None:
    with pytest.raises(EspMedSamError, match=message):
        getattr(readers, target)(data)


@pytest.mark.parametrize("plan", [b"\x85", b"{", b"0.5", b"[" * 100_000])
def test_a_damaged_plan_says_how_to_begin_again(plan: bytes) -> None:
    from napari_espmedsam.batch.slide_store import SlideStore

    readers.slide_plan(join_parts(PLAN, CHUNK))  # makes the folder
    store = SlideStore(readers.folder() / "slide.ome.zarr")
    (store.partial / ".run" / "plan.json").write_bytes(plan)
    with pytest.raises(EspMedSamError, match=r"plan\.json is damaged .* --overwrite"):
        store.begin({}, (64, 64), resume=True)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"config": 3}', RUN[:-9]]
)
def test_a_damaged_record_of_a_training_is_refused(content: bytes, tmp_path: Path) -> None:
    from training.run import read_run

    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(EspMedSamError, match=r"run\.json is no record of a run"):
        read_run(tmp_path)


def test_a_number_beyond_every_float_is_left_out_of_the_settings() -> None:
    from napari_espmedsam.widgets.settings_file import load_settings

    content = '{"version": 1, "settings": {"diameter": 1%s, "threshold": 0.4}}' % ("0" * 400)
    path = readers.folder() / "settings.json"
    path.write_text(content)
    assert load_settings(path) == {"threshold": 0.4}


def test_a_state_that_is_no_dictionary_is_refused() -> None:
    import torch

    from training.run import load_state

    torch.save([torch.zeros(1)], readers.folder() / "state.pt")
    with pytest.raises(EspMedSamError, match=r"state\.pt is damaged"):
        load_state(readers.folder())


def test_a_field_that_is_called_like_an_argument_is_refused() -> None:
    header = json.loads(seeds.checkpoint_headers()[0])
    header["config"]["name"] = 3
    with pytest.raises(EspMedSamError, match="name: Extra inputs are not permitted"):
        readers.checkpoint_header(json.dumps(header).encode())


def test_a_tiff_of_no_bits_per_pixel_is_refused() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((20, 24), np.uint8))
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        place = tif.pages[0].tags["BitsPerSample"].offset
    data = bytearray(file.getvalue())
    data[place + 8] = 0
    path = readers.folder() / "a.tif"
    path.write_bytes(data)
    with pytest.raises(EspMedSamError, match=r"a\.tif is cut short or damaged"):
        read_image(path)


def test_a_tiff_of_zero_bytes_of_pixels_is_refused() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((20, 24), np.uint8))
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        place = tif.pages[0].tags["StripByteCounts"].offset
    data = bytearray(file.getvalue())
    data[place + 8 : place + 12] = bytes(4)
    path = readers.folder() / "a.tif"
    path.write_bytes(data)
    for read in (read_image, open_image):
        with pytest.raises(EspMedSamError, match="there are no pixels in it"):
            read(path)


def test_few_pixels_of_many_channels_are_looked_at() -> None:
    assert read_middle(np.zeros((1600, 4000, 8)), "CYX").shape == (1600, 204, 8)
    assert read_middle(np.zeros((3, 4000, 8)), "CYX").shape == (3, 2048, 8)


def test_pages_in_a_circle_come_to_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pages = tifffile.TiffPages.__iter__

    def few(self: tifffile.TiffPages) -> Iterator[Any]:
        for number, page in enumerate(pages(self)):
            assert number < 100
            yield page

    monkeypatch.setattr(tifffile.TiffPages, "__iter__", few)
    path = tmp_path / "a.tif"
    path.write_bytes(CIRCLE)
    with pytest.raises(EspMedSamError, match=r"a\.tif is cut short or damaged \(295 bytes; zip"):
        open_image(path)


@pytest.mark.parametrize("length", [0, 1, 8, 16, -1])
def test_a_chunk_that_is_cut_short_ends_no_process(length: int, tmp_path: Path) -> None:
    """C-Blosc reads beyond the end of such a chunk, which sometimes is a crash."""
    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array(
        "0", data=np.arange(480, dtype=np.uint16).reshape(20, 24), compressors=Blosc(cname="lz4")
    )
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    assert read_image(path).array.max() == 479
    chunk = path / "0" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:length])
    with pytest.raises(EspMedSamError, match="is cut short"):
        read_image(path)


def test_blocks_without_number_are_refused(tmp_path: Path) -> None:
    array = SimpleNamespace(shape=(2**31 - 1, 12), chunks=(10, 12), dtype=np.dtype(np.uint16))
    with pytest.raises(EspMedSamError, match=r"has 2,105,377 blocks .* the limit is 500,000"):
        lazy(array, FileWatch(tmp_path), "YX")


def test_an_image_without_pixels_is_refused() -> None:
    from napari_espmedsam.io.axes import our_axes

    with pytest.raises(EspMedSamError, match=r"holds no pixels \(its shape is \(0, 20, 20\)\)"):
        our_axes(readers.folder(), np.zeros((0, 20, 20)), "CYX")


def test_values_near_the_end_of_floats() -> None:
    from napari_espmedsam.inference.image import PlaneStack
    from napari_espmedsam.inference.intensity import measure_intensity
    from napari_espmedsam.model.header import InputSpec

    spec = InputSpec(geometry="tiled", size=64)
    plane = (np.linspace(-1, 1, 400).reshape(20, 20) * 3.4e38).astype(np.float32)
    found = measure_intensity(PlaneStack.from_array(plane), spec).rescale(plane)
    np.testing.assert_allclose(found[10, 0], 0.5, atol=0.01)
    with pytest.raises(EspMedSamError, match=r"values of 1e\+301; the limit is 1e\+300"):
        measure_intensity(
            PlaneStack.from_array(np.linspace(-1, 1, 400).reshape(20, 20) * 1e301), spec
        )

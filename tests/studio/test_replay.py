"""A session done by hand, its record, and the same labels again from the record alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.anchors import anchors_of
from napari_espmedsam.inference.identity import put_locked, settle_labels
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.intensity import measure_intensity
from napari_espmedsam.inference.postprocess import to_labels
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import create_model
from napari_espmedsam.studio.plane_record import PlaneRecord, hash_plane
from napari_espmedsam.studio.record import PromptRecord, make_record
from napari_espmedsam.studio.record_file import read_record, write_record
from napari_espmedsam.studio.region import Region, crop_stack
from napari_espmedsam.studio.replay import replay

Array = np.ndarray[Any, np.dtype[Any]]
REQUEST = SegmentRequest(
    modality="m", output="split", threshold=0.5, min_size=3, max_hole=5, tile=64, smoothing=0.5
)


def _make_segmenter(name: str, sha256: str = "1" * 64, precision: str = "auto") -> Segmenter:
    torch.manual_seed(0)
    model = create_model(name, modalities=("m", "n"))
    spec = InputSpec(geometry="tiled", size=64, scale=1.0, diameter=20.0)
    header = CheckpointHeader(
        name=name,
        architecture=name,
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs=dict.fromkeys(model.modalities, spec),
        licence="CC0-1.0",
    )
    return Segmenter(model, header, sha256, device="cpu", precision=precision)


@pytest.fixture(scope="module", params=["esp_medsam_test", "med_fastsam_test"])
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    """Return a tiny model of either kind of prompt with random weights."""
    return _make_segmenter(request.param)


@pytest.fixture(scope="module")
def grid_segmenter() -> Segmenter:
    """Return the tiny ESP-MedSAM."""
    return _make_segmenter("esp_medsam_test")


class HandSession:
    """What a session does, in as few lines: edit, decode, keep ids, lock, record."""

    def __init__(self, segmenter: Segmenter, stack: PlaneStack, region: Region | None) -> None:
        self.segmenter, self.whole, self.region = segmenter, stack, region
        self.stack = crop_stack(stack, region)
        self.request = REQUEST
        self.planes: dict[int, PlaneRecord] = {}
        self.labels = np.zeros(stack.leading_shape + self.stack.plane_shape, np.uint32)

    def show(self, i: int, seed: int | None, *, lock: bool = False) -> None:
        """Decode plane i, edit it at random (unless None), decode again, lock an object."""
        options = self.request.segment_options()
        spec = self.segmenter.input_spec("m")
        encoding = self.segmenter.encode(
            self.stack.plane(i),
            "m",
            tile=TileSpec.of_size(64),
            intensity=measure_intensity(self.stack, spec),
        )
        edits = encoding.canvas.empty()
        locked = np.zeros(self.stack.plane_shape, np.uint32)
        first_free = int(self.labels.max()) + 1
        shown = self._decode(encoding, edits, options)
        shown = settle_labels(shown, np.zeros_like(shown), first_free=first_free)
        if seed is not None:
            rng = np.random.default_rng(seed)
            edits = rng.choice([-1, 0, 1], edits.shape, p=[0.4, 0.3, 0.3]).astype(np.int8)
            if lock:
                locked[5:25, 7:30] = 2 * first_free + 1000
                locked[30:32, 2:20] = shown.max()
            decoded = self._decode(encoding, edits, options)
            first_free = max(first_free, int(shown.max()) + 1)
            shown = settle_labels(decoded, shown, locked=locked, first_free=first_free)
        self.labels[self.stack.index(i)] = shown
        self.planes[i] = PlaneRecord(
            self.stack.index(i),
            hash_plane(self.stack.plane(i)),
            edits,
            anchors_of(shown, locked),
            locked if lock else None,
        )

    def _decode(self, encoding: Any, edits: Array, options: dict[str, Any]) -> Array:
        threshold = self.request.prompt_threshold
        made = self.segmenter.decode(encoding, edits=edits, prompt_threshold=threshold)
        return to_labels(made.array, options["post"])

    def record(self) -> PromptRecord:
        """Record the session."""
        planes = [self.planes[i] for i in sorted(self.planes)]
        return make_record(self.segmenter, self.whole, self.request, planes, region=self.region)


def _noise(shape: tuple[int, ...], dtype: str = "uint16") -> Array:
    """Blobs, so that the random model answers with objects."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 250, tuple(-(-n // 8) if n > 15 else n for n in shape))
    for axis, n in enumerate(shape):
        if n > 15:
            coarse = np.repeat(coarse, 8, axis).take(range(n), axis)
    return coarse.astype(dtype)


def _roundtrip(record: PromptRecord, folder: Path) -> PromptRecord:
    return read_record(write_record(folder / "a.espprompts.json", record))


@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ((70, 100), "YX", {}),
        ((96, 80, 3), "YXC", {"rgb": True}),
        ((3, 64, 72), "ZYX", {}),
        ((2, 2, 64, 64), "ZCYX", {"channel": 1}),
    ],
)
def test_the_labels_of_a_session_come_back(
    segmenter: Segmenter, tmp_path: Path, shape: tuple[int, ...], axes: str, options: dict[str, Any]
) -> None:
    image = _noise(shape, "uint8" if options.get("rgb") else "uint16")
    session = HandSession(segmenter, PlaneStack.from_array(image, axes, **options), None)
    order = range(len(session.stack))[::-1]  # so that ids do not run as planes do
    for i in order:
        session.show(i, seed=i + 1, lock=i == 0)
    assert session.labels.any(axis=(-1, -2)).all()
    found = replay(segmenter, image, _roundtrip(session.record(), tmp_path))
    np.testing.assert_array_equal(found.labels, session.labels)
    assert found.axes == session.stack.leading_axes + "YX"
    assert found.provenance["prompts"]["planes"] == sorted(order)


def test_edits_and_prompt_threshold_matter(segmenter: Segmenter) -> None:
    """The tests above could not fail if the model did not answer to its prompt."""
    image = _noise((64, 64))
    session = HandSession(segmenter, PlaneStack.from_array(image, "YX"), None)
    session.show(0, seed=1)
    record = session.record()
    plane = record.planes[0]
    plain = replace(record, planes=(replace(plane, edits=np.full_like(plane.edits, -1)),))
    low, high = (
        replace(plain, settings=plain.settings | {"prompt_threshold": value}) for value in (0.01, 1)
    )
    results = [replay(segmenter, image, each).labels > 0 for each in (record, plain, low, high)]
    assert (results[0] != results[1]).any()
    assert (results[2] != results[3]).any()


def test_a_region_comes_back_at_its_place(grid_segmenter: Segmenter, tmp_path: Path) -> None:
    image = _noise((2, 90, 120))
    region = Region(11, 20, 81, 116)
    session = HandSession(grid_segmenter, PlaneStack.from_array(image, "ZYX"), region)
    session.show(1, seed=3, lock=True)
    session.show(0, seed=None)
    found = replay(grid_segmenter, image, _roundtrip(session.record(), tmp_path))
    expected = np.zeros(image.shape, np.uint32)
    expected[:, 11:81, 20:116] = session.labels
    np.testing.assert_array_equal(found.labels, expected)


def test_planes_that_were_not_looked_at_are_numbered_on(grid_segmenter: Segmenter) -> None:
    image = _noise((3, 64, 64))
    session = HandSession(grid_segmenter, PlaneStack.from_array(image, "ZYX"), None)
    session.show(1, seed=4)
    labels = replay(grid_segmenter, image, session.record()).labels
    np.testing.assert_array_equal(labels[1], session.labels[1])
    ids = [set(np.unique(plane)) - {0} for plane in labels]
    assert all(ids)
    assert max(ids[1]) < min(ids[0]) <= max(ids[0]) < min(ids[2])


def test_an_empty_record_gives_what_the_segmenter_gives(grid_segmenter: Segmenter) -> None:
    image = _noise((3, 64, 64))
    stack = PlaneStack.from_array(image, "ZYX")
    plain = make_record(grid_segmenter, stack, REQUEST, ())
    options = REQUEST.segment_options() | {"axes": "ZYX"}
    del options["planes"]
    expected = grid_segmenter.segment(image, **options)
    np.testing.assert_array_equal(replay(grid_segmenter, image, plain).labels, expected.labels)
    some = make_record(grid_segmenter, stack, replace(REQUEST, planes=(2,)), ())
    labels = replay(grid_segmenter, image, some).labels
    assert labels[2].any()
    assert not labels[:2].any()


def test_a_mask_stays_one(grid_segmenter: Segmenter) -> None:
    image = _noise((2, 64, 64))
    stack = PlaneStack.from_array(image, "ZYX")
    request = replace(REQUEST, output="mask")
    locked = np.zeros((64, 64), np.uint32)
    locked[:9, :9] = 5
    edits = np.ones((2, 2), np.int8)
    plane = PlaneRecord((0,), hash_plane(image[0]), edits, locked=locked)
    labels = replay(
        grid_segmenter, image, make_record(grid_segmenter, stack, request, (plane,))
    ).labels
    options = request.segment_options() | {"axes": "ZYX", "edits": {0: edits}}
    del options["planes"]
    expected = grid_segmenter.segment(image, **options).labels
    expected[0] = put_locked(expected[0], locked, output="mask")
    np.testing.assert_array_equal(labels, expected)


def test_progress_is_told(grid_segmenter: Segmenter) -> None:
    image = _noise((64, 100))
    record = make_record(grid_segmenter, PlaneStack.from_array(image), REQUEST, ())
    seen: list[float] = []
    replay(grid_segmenter, image, record, progress=seen.append)
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.fixture
def stack_record(grid_segmenter: Segmenter) -> tuple[Array, PromptRecord]:
    """Return an image of axes TCZYX with T and C of length 1, and its record."""
    image = _noise((1, 1, 3, 64, 64))
    session = HandSession(grid_segmenter, PlaneStack.from_array(image, "TCZYX", channel=0), None)
    session.show(1, seed=6)
    return image, session.record()


def test_axes_of_length_one_may_come_and_go(
    grid_segmenter: Segmenter, stack_record: tuple[Array, PromptRecord]
) -> None:
    image, record = stack_record
    full = replay(grid_segmenter, image, record).labels
    short = replay(grid_segmenter, image[0, 0], record).labels
    assert full.shape == (1, 3, 64, 64)
    np.testing.assert_array_equal(full[0], short)


def test_alpha_may_come_and_go(grid_segmenter: Segmenter) -> None:
    image = _noise((64, 64, 4), "uint8")
    stack = PlaneStack.from_array(image, "YXS")
    edits = np.zeros((2, 2), np.int8)
    plane = PlaneRecord((), hash_plane(stack.plane(0)), edits)
    record = make_record(grid_segmenter, stack, REQUEST, (plane,))
    full = replay(grid_segmenter, image, record).labels
    np.testing.assert_array_equal(replay(grid_segmenter, image[..., :3], record).labels, full)


def test_other_pixels_are_refused_unless_forced(
    grid_segmenter: Segmenter, stack_record: tuple[Array, PromptRecord]
) -> None:
    image, record = stack_record
    other = image.copy()
    other[0, 0, 1, 3, 3] += 1
    with pytest.raises(InputError, match=r"plane 1 .*differs"):
        replay(grid_segmenter, other, record)
    forced = replay(grid_segmenter, other, record, force=True)
    assert forced.provenance["prompts"]["forced"] is True


@pytest.mark.parametrize("change", ["shape", "plane", "axes", "type"])
def test_an_image_of_another_form_is_refused_even_if_forced(
    grid_segmenter: Segmenter, stack_record: tuple[Array, PromptRecord], change: str
) -> None:
    image, record = stack_record
    other = {
        "shape": image[:, :, :2],
        "plane": image[..., :60],
        "axes": image[0],
        "type": image.astype(np.uint8),
    }[change]
    with pytest.raises(InputError, match=r"made on an image of uint16 .*TCZYX"):
        replay(grid_segmenter, other, record, force=True)


def test_other_weights_are_refused_unless_forced(
    stack_record: tuple[Array, PromptRecord],
) -> None:
    image, record = stack_record
    other = _make_segmenter("esp_medsam_test", "2" * 64)
    with pytest.raises(InputError, match=r"sha256 111111111111.*sha256 222222222222"):
        replay(other, image, record)
    assert replay(other, image, record, force=True).labels.any()
    half = _make_segmenter("esp_medsam_test", precision="bfloat16")
    with pytest.raises(InputError, match="bfloat16"):
        replay(half, image, record)


def test_edits_of_another_canvas_are_refused(
    grid_segmenter: Segmenter, stack_record: tuple[Array, PromptRecord]
) -> None:
    image, record = stack_record
    planes = (replace(record.planes[0], edits=np.ones((7, 7), np.int8)),)
    with pytest.raises(InputError, match=r"\(7, 7\)"):
        replay(grid_segmenter, image, replace(record, planes=planes))


def test_no_ids_are_left(grid_segmenter: Segmenter) -> None:
    image = _noise((2, 64, 64))
    locked = np.full((64, 64), 2**32 - 2, np.uint32)
    plane = PlaneRecord((0,), hash_plane(image[0]), np.full((2, 2), -1), locked=locked)
    stack = PlaneStack.from_array(image, "ZYX")
    record = make_record(grid_segmenter, stack, REQUEST, (plane,))
    with pytest.raises(InputError, match="no ids are left"):
        replay(grid_segmenter, image, record)

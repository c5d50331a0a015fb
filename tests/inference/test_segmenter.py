"""The whole way from image to labels, with planted discs as the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch

from napari_espmedsam import __version__
from napari_espmedsam.errors import CheckpointError, DeviceError, InputError, ModalityError
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.checkpoint import save_checkpoint

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[..., Array]
MakeSegmenter = Callable[..., Segmenter]


def dice(one: Array, other: Array) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, ">u2"])
@pytest.mark.parametrize("geometry", ["tiled", "whole"])
def test_planted_discs_are_found(
    dtype: Any, geometry: str, make_segmenter: MakeSegmenter, discs: Draw
) -> None:
    image = discs((150, 130), [(30, 30), (75, 100), (110, 40)], dtype)
    result = make_segmenter(geometry=geometry, size=128).segment(image)
    assert result.labels.shape == (150, 130)
    assert result.labels.dtype == np.uint32
    assert result.axes == "YX"
    assert [result.labels[c] for c in ((30, 30), (75, 100), (110, 40))] == [1, 2, 3]
    assert dice(result.labels > 0, image > 100) > 0.93


def test_colours_are_seen_jointly(make_segmenter: MakeSegmenter, discs: Draw) -> None:
    grey = discs((80, 90), [(40, 40)])
    colours = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    segmenter = make_segmenter()
    expected = segmenter.segment(grey).labels
    np.testing.assert_array_equal(segmenter.segment(colours).labels, expected)
    np.testing.assert_array_equal(segmenter.segment(colours[..., :3], rgb=True).labels, expected)


def test_the_chosen_channel_is_segmented(make_segmenter: MakeSegmenter, discs: Draw) -> None:
    image = np.stack([discs((64, 64), [(20, 20)]), discs((64, 64), [(40, 40)])])
    labels = make_segmenter().segment(image, axes="CYX", channel=1).labels
    assert (labels[40, 40], labels[20, 20]) == (1, 0)


def test_planes_keep_their_place_and_objects_their_own_numbers(
    make_segmenter: MakeSegmenter, discs: Draw
) -> None:
    places = {(t, z): (20 + 10 * t, 16 + 10 * z) for t in range(2) for z in range(3)}
    image = np.stack([[discs((64, 60), [places[t, z]]) for z in range(3)] for t in range(2)])
    result = make_segmenter().segment(image)
    assert (result.axes, result.labels.shape) == ("TZYX", (2, 3, 64, 60))
    numbers = [int(result.labels[(*index, *place)]) for index, place in places.items()]
    assert numbers == [1, 2, 3, 4, 5, 6]
    mask = make_segmenter().segment(image, post=PostProcess(output="mask"))
    assert mask.labels.max() == 1


def test_labels_do_not_depend_on_how_the_array_is_stored(
    make_segmenter: MakeSegmenter, discs: Draw, rng: np.random.Generator
) -> None:
    image = np.stack([discs((70, 90), [(20 + 10 * z, 30 + 8 * z)], np.uint16) for z in range(3)])
    image += rng.integers(0, 60, image.shape).astype(np.uint16)
    before = image.copy()
    segmenter = make_segmenter()
    expected = segmenter.segment(image).labels
    assert expected.any()
    lazy = da.from_array(image, chunks=(2, 33, 50))  # type: ignore[no-untyped-call]
    variants: list[tuple[Any, str]] = [
        (np.asfortranarray(image), "ZYX"),
        (image.transpose(1, 2, 0).copy().transpose(2, 0, 1), "ZYX"),
        (image[..., ::-1].copy()[..., ::-1], "ZYX"),
        (lazy, "ZYX"),
        (image.astype(">u2"), "ZYX"),
        (image.transpose(1, 2, 0), "YXZ"),
        (image.tolist(), "ZYX"),
    ]
    for variant, axes in variants:
        np.testing.assert_array_equal(segmenter.segment(variant, axes=axes).labels, expected)
    np.testing.assert_array_equal(image, before)


def test_tiles_and_one_tile_agree(
    make_segmenter: MakeSegmenter, discs: Draw, rng: np.random.Generator
) -> None:
    """The fake model looks the same way everywhere, so tiling must not show at all."""
    image = discs((160, 192), [(30, 30), (64, 64), (96, 130), (120, 40)]).astype(np.float32)
    image += 20 * rng.standard_normal(image.shape, np.float32)
    segmenter = make_segmenter()
    whole = segmenter.decode(segmenter.encode(image, tile=TileSpec(256, 0))).logits
    for tile in (TileSpec(64, 16), TileSpec(96, 0), TileSpec(128, 32)):
        encoding = segmenter.encode(image, tile=tile)
        assert len(encoding.features) > 1
        np.testing.assert_allclose(segmenter.decode(encoding).logits, whole, atol=1e-4)


def test_a_bright_speck_does_not_change_a_far_tile(
    make_segmenter: MakeSegmenter, discs: Draw
) -> None:
    image = discs((64, 320), [(30, 30), (30, 290)], np.uint16)
    segmenter = make_segmenter(percentiles=(0.5, 99.5))
    before = segmenter.segment(image).labels
    image[28:30, 289:291] = 65535
    after = segmenter.segment(image).labels
    assert before[30, 30] == 1
    np.testing.assert_array_equal(after[:, :160] > 0, before[:, :160] > 0)


def test_one_range_serves_the_whole_stack(make_segmenter: MakeSegmenter, discs: Draw) -> None:
    """A dim plane is not blown up: its half-bright disc stays below the half of the range."""
    bright = discs((64, 64), [(32, 32)], np.uint16)
    stack = np.stack([bright * 4, bright])
    segmenter = make_segmenter()
    labels = segmenter.segment(stack).labels
    assert labels[0].any()
    assert not labels[1].any()
    assert segmenter.segment(stack[1]).labels.any()


def test_diameter_and_pixel_size_set_the_magnification(
    make_segmenter: MakeSegmenter, discs: Draw, model: Any
) -> None:
    image = discs((64, 96), [(30, 30)])
    segmenter = make_segmenter(size=512, diameter=40.0, pixel_size=0.5)
    cases: list[tuple[dict[str, Any], tuple[int, int]]] = [
        ({}, (64, 96)),
        ({"diameter": 20.0}, (128, 192)),
        ({"pixel_size": 0.75}, (96, 160)),  # 144 is padded to 160
        ({"scale": 0.5}, (32, 64)),  # 48 is padded to 64
    ]
    for options, shape in cases:
        model.seen.clear()
        result = segmenter.segment(image, **options)
        assert model.seen == [(1, 3, *shape)]
        assert result.labels.shape == image.shape
        assert result.labels[30, 30] == 1


def test_model_input_is_normalised_as_the_checkpoint_says(
    make_segmenter: MakeSegmenter, discs: Draw, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Array] = []
    plain = type(model).extract

    def spy(self: Any, images: Any, modality: Any, unnormalised: Any = None) -> Any:
        got.extend((images.numpy(), unnormalised.numpy()))
        return plain(self, images, modality, unnormalised)

    monkeypatch.setattr(type(model), "extract", spy)
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
    image = discs((64, 64), [(30, 30)])
    make_segmenter(value_range=255.0, mean=mean, std=std).segment(image)
    images, unnormalised = got
    np.testing.assert_allclose(unnormalised[0, 1], (image - 20.0) / 180.0, atol=1e-6)
    for k in range(3):
        expected = (unnormalised[0, k] * 255.0 - mean[k]) / std[k]
        np.testing.assert_allclose(images[0, k], expected, atol=1e-4)


def test_the_threshold_is_the_checkpoints_unless_given(
    make_segmenter: MakeSegmenter, rng: np.random.Generator
) -> None:
    image = rng.random((64, 64)).astype(np.float32)
    strict, lax = make_segmenter(threshold=0.9), make_segmenter(threshold=0.1)
    assert strict.segment(image).provenance["post"]["threshold"] == 0.9
    mask = PostProcess(output="mask", min_size=0, max_hole=0)
    assert (strict.segment(image, post=mask).labels).sum() < (
        lax.segment(image, post=mask).labels
    ).sum()
    given = PostProcess(output="mask", threshold=0.5, min_size=0, max_hole=0)
    np.testing.assert_array_equal(
        strict.segment(image, post=given).labels, lax.segment(image, post=given).labels
    )


def test_provenance_says_how_and_is_plain_json(make_segmenter: MakeSegmenter, discs: Draw) -> None:
    image = discs((64, 64), [(30, 30)], np.uint16)[None, None]
    record = make_segmenter(sha256="ab12").segment(image, axes="ZCYX", scale=2.0).provenance
    assert json.loads(json.dumps(record)) == record
    expected = {
        "software": "napari-espmedsam",
        "version": __version__,
        "model": "fake",
        "architecture": "esp_medsam_test",
        "weights_sha256": "ab12",
        "modality": "microscopy",
        "scale": 2.0,
        "tile": {"size": 64, "halo": 16},
        "device": "cpu",
        "precision": "float32",
        "intensity": [20.0, 200.0],
        "axes": "ZCYX",
        "shape": [1, 1, 64, 64],
        "dtype": "uint16",
    }
    assert {key: record[key] for key in expected} == expected
    assert record["created"].endswith("+00:00")
    assert record["post"]["output"] == "objects"


def test_modalities_are_chosen_by_name(make_segmenter: MakeSegmenter, model: Any) -> None:
    two = make_segmenter(type(model)(("microscopy", "fundus")))
    grey = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    logits = {name: two.decode(two.encode(grey, name)).logits for name in two.modalities}
    on = grey > 0.6
    np.testing.assert_allclose(logits["fundus"][on], logits["microscopy"][on] + 1, atol=1e-3)
    for wrong in (None, "x-ray"):
        with pytest.raises(ModalityError, match=r"trained for: microscopy, fundus"):
            two.segment(grey, wrong)
    assert make_segmenter().segment(grey).provenance["modality"] == "microscopy"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5)), "empty"),
        (np.zeros((1, 1)), "1 x 1 px"),
        (np.full((64, 64), 7), "no contrast"),
        (np.full((64, 64), np.nan), "4096 NaN"),
        (np.zeros((64, 64), bool), "type bool"),
        (np.zeros((64, 64), complex), "type complex128"),
        (np.float64(3), "0 axes"),
        (np.zeros((1, 1, 1, 1, 64, 64)), "6 axes"),
    ],
)
def test_bad_images_are_refused_before_the_model_is_asked(
    image: Any, message: str, make_segmenter: MakeSegmenter, model: Any
) -> None:
    with pytest.raises(InputError, match=message):
        make_segmenter().segment(image)
    assert model.seen == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": 3}, r"modality is 3. Give a text"),
        ({"axes": 2}, r"axes is 2. Give a text"),
        ({"channel": "1"}, r"channel is '1'. Give a whole number"),
        ({"rgb": "yes"}, r"rgb is 'yes'. Give True or False"),
        ({"diameter": "20"}, r"diameter is '20'. Give a number"),
        ({"scale": 1.0, "diameter": 20.0}, r"scale=1 and diameter=20"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(
    options: dict[str, Any], message: str, make_segmenter: MakeSegmenter
) -> None:
    with pytest.raises(InputError, match=message):
        make_segmenter().segment(np.zeros((64, 64)), **options)


def test_a_segmenter_comes_from_a_file(tmp_path: Path, make_segmenter: MakeSegmenter) -> None:
    from napari_espmedsam.model.registry import create_model

    model = create_model("esp_medsam_test", modalities=("microscopy",))
    header = make_segmenter().header.model_copy(update={"config": model.config.model_dump()})
    path = save_checkpoint(tmp_path / "tiny.safetensors", model, header)
    segmenter = Segmenter.from_checkpoint(path, device="cpu")
    assert (segmenter.name, segmenter.modalities) == ("fake", ("microscopy",))
    assert len(segmenter.sha256) == 64
    assert segmenter.device.device == "cpu"
    assert segmenter.input_spec().size == 64
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        Segmenter.from_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(DeviceError, match="'tpu'"):
        Segmenter.from_checkpoint(path, device="tpu")
    with pytest.raises(InputError, match=r"precision is 'int8'.*bfloat16"):
        Segmenter.from_checkpoint(path, device="cpu", precision="int8")


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
@pytest.mark.parametrize("geometry", ["tiled", "whole"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_systems_run(
    name: str, geometry: str, precision: str, make_segmenter: MakeSegmenter, discs: Draw
) -> None:
    from napari_espmedsam.model.registry import create_model

    model = create_model(name, modalities=("microscopy",))
    header = make_segmenter(geometry=geometry, size=96).header
    segmenter = Segmenter(model, header, device="cpu", precision=precision)
    image = discs((70, 110), [(30, 30)])
    probability = segmenter.decode(segmenter.encode(image))
    assert probability.array.shape == image.shape
    assert np.isfinite(probability.logits).all()
    assert segmenter.segment(image).labels.shape == image.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_finds_what_the_cpu_finds(make_segmenter: MakeSegmenter, discs: Draw) -> None:
    from napari_espmedsam.model.registry import create_model

    model = create_model("esp_medsam_test", modalities=("microscopy",))
    header = make_segmenter().header
    image = discs((70, 110), [(30, 30)])
    logits = {}
    for device in ("cpu", "cuda"):
        segmenter = Segmenter(model, header, device=device)
        logits[device] = segmenter.decode(segmenter.encode(image)).logits
    np.testing.assert_allclose(logits["cuda"], logits["cpu"], atol=1e-2)


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_what_happens_to_the_model_afterwards_has_no_effect(
    name: str, make_segmenter: MakeSegmenter, discs: Draw
) -> None:
    from napari_espmedsam.model.registry import create_model

    model = create_model(name, modalities=("microscopy",)).train()
    first, second = make_segmenter(model), make_segmenter(model)
    image = discs((70, 110), [(30, 30)])
    expected = first.decode(first.encode(image)).logits
    assert model.training
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(second.decode(second.encode(image)).logits, expected)
    assert expected.std() > 0


def test_settings_may_be_numbers_of_numpy(make_segmenter: MakeSegmenter, discs: Draw) -> None:
    image = np.stack([np.zeros((80, 90), np.uint8), discs((80, 90), [(40, 45)])])
    post = PostProcess(min_size=np.int64(20), threshold=np.float32(0.5))  # type: ignore[arg-type]
    found = make_segmenter().segment(
        image, axes="CYX", channel=np.int64(1), post=post, prompt_threshold=np.float32(0.25)
    )
    plain = make_segmenter().segment(
        image, axes="CYX", channel=1, post=PostProcess(min_size=20, threshold=0.5),
        prompt_threshold=0.25,
    )  # fmt: skip
    np.testing.assert_array_equal(found.labels, plain.labels)
    assert found.labels.max() == 1
    times = {"created": ""}
    assert json.loads(json.dumps(found.provenance)) | times == plain.provenance | times

"""Edits and a prompt threshold, given to a run, to a decoding, and to single tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.postprocess import PostProcess, to_labels
from napari_espmedsam.inference.prompts import OFF, ON
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.registry import create_model

Array = np.ndarray[Any, np.dtype[Any]]
MakeSegmenter = Callable[..., Segmenter]
BOTH = pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])


@pytest.fixture
def image(discs: Callable[..., Array]) -> Array:
    """Three discs in different tiles."""
    return discs((64, 160), [(30, 20), (30, 80), (30, 140)])


@pytest.fixture
def real(make_segmenter: MakeSegmenter) -> Callable[..., Segmenter]:
    """Build a Segmenter around a small model of either system."""

    def build(name: str, **options: Any) -> Segmenter:
        config = options.pop("config", {})
        model = create_model(name, modalities=("microscopy",), **config)
        return Segmenter(model, make_segmenter().header, device="cpu", **options)

    return build


def random_edits(shape: tuple[int, int], seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.int8)


def test_an_erased_cell_takes_its_object_and_nothing_else(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    edits = encoding.canvas.empty()
    edits[encoding.canvas.cells_of(20, 70, 40, 90)] = OFF
    n_encoded = len(model.seen)
    labels = to_labels(segmenter.decode(encoding, edits=edits).array)
    assert (labels[30, 20], labels[30, 80], labels[30, 140]) == (1, 0, 2)
    assert len(model.seen) == n_encoded
    np.testing.assert_array_equal(segmenter.segment(image, edits={0: edits}).labels, labels)


def test_a_cell_that_is_switched_on_is_looked_at(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    nothing = np.full(encoding.canvas.shape, OFF)
    nothing[:, 3] = ON  # columns 96 to 128: half of what the third disc covers lies beyond
    decoded = segmenter.decode(encoding, edits=nothing)
    assert (decoded.array[:, 100:124] > 0.01).any() == (image[:, 100:124] > 100).any()
    assert decoded.array[:, :90].max() < 0.01
    shown = encoding.canvas.combine(decoded.prompt)
    np.testing.assert_array_equal(shown, nothing == ON)


@BOTH
@pytest.mark.parametrize("threshold", [None, 0.3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_and_a_decoding_agree_on_edits(
    name: str,
    threshold: float | None,
    precision: str,
    image: Array,
    real: Callable[..., Segmenter],
) -> None:
    segmenter = real(name, precision=precision)
    stack = np.stack([image, image[::-1, ::-1], image])
    tile = TileSpec(64, 16)
    encodings = [segmenter.encode(plane, tile=tile) for plane in stack]
    edits = {k: random_edits(encodings[k].canvas.shape, k) for k in (0, 2)}
    post = PostProcess(output="mask", threshold=0.5, min_size=0, max_hole=0)
    result = segmenter.segment(stack, tile=tile, post=post, edits=edits, prompt_threshold=threshold)
    for k, encoding in enumerate(encodings):
        decoded = segmenter.decode(encoding, edits=edits.get(k), prompt_threshold=threshold)
        np.testing.assert_array_equal(result.labels[k], to_labels(decoded.array, post))
        canvas = encoding.canvas
        expected = canvas.apply(encoding.proposal(threshold), edits.get(k, canvas.empty()))
        np.testing.assert_array_equal(decoded.prompt, expected)
    assert result.provenance["prompt_threshold"] == threshold
    counted = {str(k): int((each >= 0).sum()) for k, each in edits.items()}
    assert result.provenance["edited_cells"] == counted
    plain = segmenter.decode(encodings[0]).logits
    edited = segmenter.decode(encodings[0], edits=edits[0]).logits
    assert np.abs(edited - plain).max() > 1e-4


@BOTH
def test_tile_by_tile_is_the_whole(name: str, image: Array, real: Callable[..., Segmenter]) -> None:
    segmenter = real(name)
    encoding = segmenter.encode(image, tile=TileSpec(64, 16))
    edits = random_edits(encoding.canvas.shape)
    for i in range(len(encoding.features)):
        prompt = encoding.tile_prompt(i, edits)
        logits = segmenter.decode_tile(encoding, i, prompt)
        assert logits.shape == (16, 16)
        other = segmenter.decode_tile(encoding, i)
        assert np.array_equal(logits, other) == (prompt is None)


@BOTH
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_edits_that_say_what_is_proposed_change_nothing(
    name: str, precision: str, image: Array, real: Callable[..., Segmenter]
) -> None:
    """Also as an explicit prompt: what is read from the model is what the model itself uses."""
    segmenter = real(name, precision=precision)
    encoding = segmenter.encode(image)
    own = segmenter.decode(encoding).logits
    np.testing.assert_array_equal(segmenter.decode(encoding, prompt=encoding.prompt).logits, own)
    one_tile = segmenter.encode(image, tile=TileSpec(160, 0))
    edits = one_tile.canvas.combine(one_tile.prompt).astype(np.int8)
    np.testing.assert_array_equal(
        segmenter.decode(one_tile, edits=edits).logits, segmenter.decode(one_tile).logits
    )


def test_the_values_of_a_coarse_mask_are_the_grey_values_that_otsu_cuts(
    image: Array, real: Callable[..., Segmenter], rng: np.random.Generator
) -> None:
    colours = np.stack([image, image // 2, image // 3], -1)
    colours += rng.integers(0, 20, colours.shape).astype(np.uint8)
    encoding = real("med_fastsam_test").encode(colours)
    assert (encoding.prompt_kind, encoding.prompt_cell) == ("mask", 1)
    assert encoding.prompt_values.dtype == np.float32
    for values, own in zip(encoding.prompt_values, encoding.prompt, strict=True):
        assert values[own].min() > values[~own].max()
    rescaled = encoding.intensity.rescale(colours)[:, :64] @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(encoding.prompt_values[0], rescaled, atol=1e-5)
    np.testing.assert_array_equal(encoding.prompt_probability, encoding.prompt)
    assert encoding.prompt_values.min() < encoding.own_threshold < encoding.prompt_values.max()
    brighter = encoding.proposal(encoding.own_threshold + 0.02)
    assert 0 < brighter.sum() < encoding.prompt.sum()


def test_a_lower_prompt_threshold_shows_the_model_more(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    image[40:44, 96:100] = 105  # nearly bright enough
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    assert encoding.own_threshold == 0.5
    counts = [int(encoding.proposal(t).sum()) for t in (0.01, None, 1.0)]
    assert counts[0] > counts[1] > counts[2] == 0
    assert not segmenter.segment(image, prompt_threshold=1.0).labels.any()


def test_models_without_a_prompt_refuse_edits_and_nothing_else(
    image: Array, real: Callable[..., Segmenter]
) -> None:
    segmenter = real("esp_medsam_test", config={"prompt": "none"})
    encoding = segmenter.encode(image)
    canvas = encoding.canvas
    plain = segmenter.decode(encoding).logits
    np.testing.assert_array_equal(segmenter.decode(encoding, edits=canvas.empty()).logits, plain)
    with pytest.raises(InputError, match="built without prompts"):
        segmenter.decode(encoding, edits=np.full(canvas.shape, ON))


def test_a_soft_prompt_stays_soft_where_nobody_edits(
    image: Array, real: Callable[..., Segmenter]
) -> None:
    segmenter = real("esp_medsam_test", config={"soft_prompt": True})
    encoding = segmenter.encode(image, tile=TileSpec(64, 0))
    edits = encoding.canvas.empty()
    plain = segmenter.decode(encoding).logits
    np.testing.assert_array_equal(segmenter.decode(encoding, edits=edits).logits, plain)
    edits[:, :2] = 1 - encoding.prompt[0]
    changed = segmenter.decode(encoding, edits=edits).logits != plain
    assert changed[:, :60].any()
    assert not changed[:, 68:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edits": {1: np.zeros((2, 5))}}, r"edits has the plane 1, and the image has 1 plane"),
        ({"edits": {"0": np.zeros((2, 5))}}, r"edits has the plane '0'"),
        ({"edits": {0: np.zeros((5, 2))}}, r"shape \(5, 2\).*\(2, 5\)"),
        ({"edits": {0: np.full((2, 5), 3)}}, r"beyond -1, 0 and 1"),
        ({"edits": np.zeros((2, 5))}, r"edits is a ndarray. Give a dict"),
        ({"prompt_threshold": 0.0}, r"prompt_threshold is 0, outside 0.01 to 1"),
        ({"prompt_threshold": "0.5"}, r"prompt_threshold is '0.5'. Give a number"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_model_is_asked(
    options: dict[str, Any], message: str, image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    with pytest.raises(InputError, match=message):
        make_segmenter().iter_segment(image, **options)
    assert model.seen == []


def test_a_prompt_beside_edits_is_refused(image: Array, make_segmenter: MakeSegmenter) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    others: list[dict[str, Any]] = [{"edits": encoding.canvas.empty()}, {"prompt_threshold": 0.3}]
    for other in others:
        with pytest.raises(InputError, match="together with edits or a prompt_threshold"):
            segmenter.decode(encoding, prompt=encoding.prompt, **other)
    with pytest.raises(InputError, match=r"outside 0\.01 to 1"):
        segmenter.decode(encoding, prompt_threshold=2.0)


def test_edits_are_taken_as_they_are_when_the_run_begins(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    """The user may paint on while planes are being computed."""
    segmenter = make_segmenter()
    edits = np.full((2, 5), OFF, np.int8)
    events = segmenter.iter_segment(image, edits={0: edits})
    edits[:] = ON
    *_, last = events
    assert not last.labels.any()  # type: ignore[union-attr]


def test_what_an_encoding_proposes_cannot_be_changed_by_accident(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    encoding = make_segmenter().encode(image)
    for array in (encoding.prompt, encoding.prompt_values):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_an_encoding_tells_of_its_tiles_and_can_be_stopped(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter()
    told: list[tuple[int, int]] = []
    segmenter.encode(image, on_tile=lambda i, n: told.append((i, n)))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    segmenter.encode(image, on_tile=lambda i, n: told.append((i, n)))
    assert len(told) == 4

    def stop(i: int, n: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        segmenter.encode(image[::-1], on_tile=stop)
    assert len(model.seen) == 5

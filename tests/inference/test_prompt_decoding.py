"""Encode once, decode often: what the prompt editor lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.encoding import EncodingCache
from napari_espmedsam.inference.postprocess import to_labels
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.registry import create_model

Array = np.ndarray[Any, np.dtype[Any]]
MakeSegmenter = Callable[..., Segmenter]


@pytest.fixture
def image(discs: Callable[..., Array]) -> Array:
    """Two discs in different tiles."""
    return discs((64, 160), [(30, 20), (30, 140)])


@pytest.mark.parametrize("geometry", ["tiled", "whole"])
def test_encode_and_decode_do_what_segment_does(
    geometry: str, image: Array, make_segmenter: MakeSegmenter
) -> None:
    segmenter = make_segmenter(geometry=geometry)
    probability = segmenter.decode(segmenter.encode(image, scale=None))
    assert probability.array.dtype == np.float32
    np.testing.assert_array_equal(to_labels(probability.array), segmenter.segment(image).labels)
    np.testing.assert_allclose(
        probability.array, 1 / (1 + np.exp(-probability.logits.astype(np.float64))), atol=1e-6
    )


def test_an_edited_prompt_changes_its_place_and_encodes_nothing(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    n_encoded = len(model.seen)
    own = segmenter.decode(encoding)
    grids = encoding.prompt.copy()
    assert grids.dtype == bool
    assert grids.shape == (len(encoding.features), 2, 2)
    np.testing.assert_array_equal(own.prompt, grids)

    np.testing.assert_array_equal(segmenter.decode(encoding, prompt=grids).logits, own.logits)
    grids[-1] = False  # the last tile holds the second disc alone
    edited = segmenter.decode(encoding, prompt=grids)
    assert edited.array[30, 140] < 0.5 < own.array[30, 140]
    np.testing.assert_array_equal(edited.logits[:, :60], own.logits[:, :60])
    nothing = segmenter.decode(encoding, prompt=np.zeros(grids.shape))
    assert nothing.array.max() < 0.01
    assert len(model.seen) == n_encoded


def test_a_decoder_that_was_trained_on_corrections_is_told_of_them(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    told = []
    decode = model.decode_features

    def listen(features: Any, modality: Any, prompt: Any = None) -> Any:
        told.append(None if prompt is None else prompt[0, 0].numpy())
        return decode(features, modality, prompt)

    model.decode_features = listen
    model.config = SimpleNamespace(correction_levels=(-1.0, 2.0))
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    on = np.argwhere(encoding.canvas.combine(encoding.prompt))[0]
    edits = encoding.canvas.empty()
    edits[tuple(on)] = 1
    edits[-1, -1] = 0
    probability = segmenter.decode(encoding, edits=edits)
    assert told[0][tuple(on)] == 2
    assert told[-1][-1, -1] == -1
    assert set(np.unique(np.concatenate([t.ravel() for t in told if t is not None]))) == {
        -1,
        0,
        1,
        2,
    }
    assert probability.prompt.dtype == bool
    again = segmenter.segment(image, edits={0: edits})
    np.testing.assert_array_equal(to_labels(probability.array), again.labels)


def test_the_proposal_can_be_shown_as_probability(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    encoding = make_segmenter().encode(image)
    assert encoding.prompt_kind == "grid"
    assert encoding.prompt_probability.min() >= 0
    assert encoding.prompt_probability.max() <= 1
    np.testing.assert_array_equal(encoding.prompt, encoding.prompt_probability >= 0.5)
    rows, columns = encoding.geometry.grid.slices(0, cell=32)
    on = encoding.prompt[0]
    assert on.shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert on[0, 0]  # the first disc reaches into all cells that its centre (30, 20) is near
    assert on[1, 0]


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_the_own_prompt_given_back_changes_nothing(
    name: str, image: Array, make_segmenter: MakeSegmenter
) -> None:
    header = make_segmenter().header
    segmenter = Segmenter(create_model(name, modalities=("microscopy",)), header, device="cpu")
    encoding = segmenter.encode(image, tile=TileSpec(96, 16))
    own = segmenter.decode(encoding).logits
    np.testing.assert_array_equal(segmenter.decode(encoding, prompt=encoding.prompt).logits, own)
    other = segmenter.decode(encoding, prompt=~encoding.prompt).logits
    assert np.abs(other - own).max() > 1e-4


def test_a_single_tile_takes_a_plain_grid(image: Array, make_segmenter: MakeSegmenter) -> None:
    segmenter = make_segmenter(geometry="whole")
    encoding = segmenter.encode(image)
    plain = segmenter.decode(encoding, prompt=encoding.prompt[0].tolist())
    np.testing.assert_array_equal(plain.logits, segmenter.decode(encoding).logits)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (np.zeros((2, 2)), r"shape \(2, 2\), and the encoding needs \(4, 2, 2\)"),
        (np.zeros((4, 2, 3)), r"shape \(4, 2, 3\)"),
        (np.full((4, 2, 2), 2), r"beyond 0 to 1"),
        (np.full((4, 2, 2), np.nan), r"beyond 0 to 1"),
        (np.full((4, 2, 2), "on"), r"no numbers \(type <U2\)"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(
    prompt: Any, message: str, image: Array, make_segmenter: MakeSegmenter
) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    assert encoding.prompt.shape == (4, 2, 2)
    with pytest.raises(InputError, match=message):
        segmenter.decode(encoding, prompt=prompt)


def test_an_encoding_of_another_segmenter_is_refused(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    with pytest.raises(InputError, match="another Segmenter"):
        make_segmenter().decode(make_segmenter().encode(image))


def test_the_same_content_is_encoded_once(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter()
    first = segmenter.encode(image)
    n_encoded = len(model.seen)
    assert segmenter.encode(image.copy()) is first
    assert segmenter.encode(np.asfortranarray(image)) is first
    assert len(model.seen) == n_encoded


def test_whatever_changes_the_features_is_encoded_anew(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter(type(model)(("microscopy", "fundus")))
    changed = image.copy()
    changed[0, 0] += 1
    keys = [
        segmenter.encode(image, "microscopy").key,
        segmenter.encode(changed, "microscopy").key,
        segmenter.encode(image.astype(np.uint16), "microscopy").key,
        segmenter.encode(image, "fundus").key,
        segmenter.encode(image, "microscopy", scale=1.5).key,
        segmenter.encode(image, "microscopy", tile=TileSpec(96, 16)).key,
        segmenter.encode(
            image, "microscopy", intensity=segmenter.encode(image // 2, "microscopy").intensity
        ).key,
    ]
    assert len(set(keys)) == len(keys)


def test_a_plane_of_a_stack_can_take_the_range_of_the_stack(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    segmenter = make_segmenter()
    bright = segmenter.encode(image)
    dim = segmenter.encode(image // 4, intensity=bright.intensity)
    assert segmenter.decode(dim).array.max() < 0.5
    assert segmenter.decode(segmenter.encode(image // 4)).array.max() > 0.5


class _Sized:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_the_oldest_encodings_are_forgotten_first() -> None:
    cache = EncodingCache(max_entries=2)
    made: list[str] = []

    def get(key: str) -> Any:
        def make() -> Any:
            made.append(key)
            return _Sized(1)

        return cache.get_or_make(key, make)

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert made == ["a", "b", "c", "b"]
    cache.clear()
    get("a")
    assert made[-1] == "a"


def test_large_encodings_leave_room_for_none_but_the_last() -> None:
    cache = EncodingCache(max_entries=8, max_bytes=10)
    made: list[str] = []

    def get(key: str, nbytes: int) -> Any:
        def make() -> Any:
            made.append(key)
            return _Sized(nbytes)

        return cache.get_or_make(key, make)

    get("small", 4)
    get("large", 20)
    get("large", 20)
    get("small", 4)
    assert made == ["small", "large", "small"]


def test_threads_take_turns_and_get_the_same(
    image: Array, make_segmenter: MakeSegmenter, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most = 0, 0
    plain = type(model).extract

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return plain(self, *arguments)
        finally:
            inside -= 1

    monkeypatch.setattr(type(model), "extract", counted)
    segmenter = make_segmenter()
    expected = segmenter.segment(image).labels
    found: list[Array] = []
    threads = [
        threading.Thread(target=lambda: found.append(segmenter.segment(image).labels))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(found) == 4
    for labels in found:
        np.testing.assert_array_equal(labels, expected)

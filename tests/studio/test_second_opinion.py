"""Another model on the same planes: which one, what it is asked, and what is kept of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.second_opinion import (
    MaskCache,
    SecondOpinion,
    find_other,
    other_request,
)

SETTINGS = SegmentRequest(modality="near", axes="ZYX", threshold=0.9, prompt_threshold=0.8)
REQUEST = other_request("medfastsam", SETTINGS)


@pytest.fixture
def stack(discs: Any) -> np.ndarray:
    return np.stack([discs((96, 128), [(20, 20 + 30 * z)]) for z in range(3)])


@pytest.fixture
def opinion(make_segmenter: Any, gate_model: Any, stack: np.ndarray) -> SecondOpinion:
    segmenter = make_segmenter(gate_model)
    return SecondOpinion(lambda _request: segmenter, stack, segmenter.header)


def _through(steps: Generator[None, None, Any]) -> tuple[int, Any]:
    """Run to the end: how many pauses there were, and the result."""
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return pauses, stop.value
        pauses += 1


@pytest.mark.parametrize(
    ("checkpoint", "modality", "other"),
    [
        ("espmedsam", "microscopy", "medfastsam"),
        ("medfastsam", "microscopy", "espmedsam"),
        ("medfastsam", "dermoscopy", "espmedsam"),
        ("espmedsam", "fundus", None),
        ("/my/own.safetensors", "fundus", "espmedsam"),
        ("espmedsam", None, None),
    ],
)
def test_which_model_is_compared_with(checkpoint: str, modality: Any, other: Any) -> None:
    assert find_other(checkpoint, modality) == other


def test_prompt_and_threshold_are_the_models_own() -> None:
    settings = SegmentRequest(
        checkpoint="espmedsam", modality="near", diameter=9, channel=2, threshold=0.9, tile=512
    )
    request = other_request("medfastsam", settings)
    expected = SegmentRequest(
        checkpoint="medfastsam", modality="near", diameter=9, channel=2, output="mask", min_size=0
    )
    assert request == expected


def test_it_marks_what_the_library_marks(opinion, make_segmenter, gate_model, stack) -> None:
    expected = make_segmenter(gate_model).segment(stack, "near", axes="ZYX", post=REQUEST.post)
    for plane in (2, 0):
        pauses, mask = _through(opinion.mask(plane, REQUEST))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected.labels[plane] > 0)
        assert mask.any()
        assert pauses > 4, "a stroke would have to wait for all tiles"


def test_a_region_is_worked_on_alone(make_segmenter, gate_model, stack) -> None:
    segmenter = make_segmenter(gate_model)
    region = Region(0, 32, 64, 128)
    opinion = SecondOpinion(lambda _request: segmenter, stack, segmenter.header, region)
    _, mask = _through(opinion.mask(1, REQUEST))
    assert mask.shape == region.shape
    assert mask[20, 50 - 32]


def test_the_model_is_loaded_once_and_let_go(make_segmenter, gate_model, stack) -> None:
    loaded: list[SegmentRequest] = []

    def load(request: SegmentRequest) -> Any:
        loaded.append(request)
        return make_segmenter(gate_model)

    opinion = SecondOpinion(load, stack, make_segmenter(gate_model).header)
    for plane in range(2):
        _through(opinion.mask(plane, REQUEST))
    assert [each.checkpoint for each in loaded] == ["medfastsam"]
    opinion.release()
    opinion.release()
    _through(opinion.mask(0, REQUEST))
    assert len(loaded) == 2


def test_a_model_that_is_missing_is_told(gate_model, make_segmenter, stack) -> None:
    def load(_request: SegmentRequest) -> Any:
        raise CheckpointError("The file is missing.")

    opinion = SecondOpinion(load, stack, make_segmenter(gate_model).header)
    with pytest.raises(CheckpointError, match="missing"):
        _through(opinion.mask(0, REQUEST))


@pytest.mark.parametrize(("scale", "seen"), [(None, 2.0), (1.0, 2.0), (0.5, 1.0), (20.0, 20.0)])
def test_objects_are_as_large_for_it_as_in_its_training(
    make_segmenter, gate_model, stack, scale: Any, seen: float, monkeypatch
) -> None:
    own, theirs = make_segmenter(gate_model), make_segmenter(gate_model, far_scale=2.0)
    opinion = SecondOpinion(lambda _request: theirs, stack, own.header)
    scales: list[float] = []
    original = type(theirs).encode_steps

    def look(self: Any, plan: Any, *rest: Any) -> Any:
        scales.append(plan.geometry.scale)
        return original(self, plan, *rest)

    monkeypatch.setattr(type(theirs), "encode_steps", look)
    settings = SegmentRequest(modality="far", axes="ZYX", scale=scale)
    steps = opinion.mask(0, other_request("medfastsam", settings))
    while not scales:
        next(steps)
    steps.close()
    assert scales == [seen]


def test_masks_are_kept_by_plane_and_question_within_their_memory(rng) -> None:
    masks = {plane: rng.random((37, 51)) > 0.5 for plane in range(5)}
    one = (37 * 51 + 7) // 8
    cache = MaskCache(max_bytes=3 * one)
    assert cache.get(0, REQUEST) is None
    for plane, mask in masks.items():
        cache.put(plane, REQUEST, mask)
    assert cache.nbytes == 3 * one
    for plane in (2, 3, 4):
        found = cache.get(plane, REQUEST)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, masks[plane])
    assert cache.get(1, REQUEST) is None
    assert cache.get(4, other_request("espmedsam", SETTINGS)) is None
    tiny = MaskCache(max_bytes=1)
    tiny.put(0, REQUEST, masks[0])
    assert tiny.get(0, REQUEST) is not None

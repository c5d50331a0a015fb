"""Progress, order of planes, and cancelling."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.results import PlaneResult, TileDone
from napari_espmedsam.inference.segmenter import Segmenter

Array = np.ndarray[Any, np.dtype[Any]]
MakeSegmenter = Callable[..., Segmenter]


@pytest.fixture
def stack(discs: Callable[..., Array]) -> Array:
    """Three planes of two tiles each, one disc a plane."""
    return np.stack([discs((64, 96), [(30, 20 + 25 * z)]) for z in range(3)])


def test_each_tile_and_each_plane_is_reported_once(
    stack: Array, make_segmenter: MakeSegmenter
) -> None:
    events = list(make_segmenter().iter_segment(stack))
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["TileDone", "TileDone", "PlaneResult"] * 3
    tiles = [event for event in events if isinstance(event, TileDone)]
    assert [(t.plane, t.tile) for t in tiles] == [(p, t) for p in range(3) for t in range(2)]
    assert {(t.n_planes, t.n_tiles) for t in tiles} == {(3, 2)}
    np.testing.assert_allclose([t.fraction for t in tiles], np.arange(1, 7) / 6)


def test_planes_come_in_the_order_asked_for(stack: Array, make_segmenter: MakeSegmenter) -> None:
    segmenter = make_segmenter()
    expected = segmenter.segment(stack).labels
    events = segmenter.iter_segment(stack, planes=[2, 0])
    results = [event for event in events if isinstance(event, PlaneResult)]
    assert [(r.plane, r.n_planes, r.index) for r in results] == [(0, 2, (2,)), (1, 2, (0,))]
    for result in results:
        np.testing.assert_array_equal(result.labels > 0, expected[result.index] > 0)
    assert [int(r.labels.max()) for r in results] == [1, 2]


def test_a_plane_gets_the_same_mask_alone_and_in_its_stack(
    stack: Array, make_segmenter: MakeSegmenter
) -> None:
    stack = stack * np.array([1, 2, 3], np.uint16)[:, None, None]
    segmenter = make_segmenter()
    together = segmenter.segment(stack).labels
    (alone,) = (
        event.labels
        for event in segmenter.iter_segment(stack, planes=[1])
        if isinstance(event, PlaneResult)
    )
    np.testing.assert_array_equal(alone > 0, together[1] > 0)
    assert alone.any()


@pytest.mark.parametrize("n_events", [0, 1, 2, 4])
def test_closing_runs_no_further_tile(
    n_events: int, stack: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    events = make_segmenter().iter_segment(stack)
    seen = [next(events) for _ in range(n_events)]
    n_tiles = sum(isinstance(event, TileDone) for event in seen)
    assert len(model.seen) == model.n_decoded == n_tiles
    events.close()
    assert len(model.seen) == n_tiles
    assert list(events) == []


def test_mistakes_show_before_the_first_event(stack: Array, make_segmenter: MakeSegmenter) -> None:
    with pytest.raises(InputError, match="2 channels"):
        make_segmenter().iter_segment(stack[:2], axes="CYX")


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ([], r"planes is empty, and the image has 3 plane"),
        ([0, 3], r"planes holds 3.*0 to 2"),
        ([-1], r"planes holds -1"),
    ],
)
def test_planes_that_are_not_there_are_refused(
    planes: list[int], message: str, stack: Array, make_segmenter: MakeSegmenter
) -> None:
    with pytest.raises(InputError, match=message):
        make_segmenter().iter_segment(stack, planes=planes)


def test_a_bad_plane_stops_the_run_with_its_number(
    stack: Array, make_segmenter: MakeSegmenter
) -> None:
    many = np.concatenate([stack] * 11).astype(np.float32)
    many[1, 5, 5] = np.nan  # of 33 planes, the sample for the range skips this one
    events = make_segmenter().iter_segment(many)
    assert isinstance([next(events) for _ in range(3)][-1], PlaneResult)
    with pytest.raises(InputError, match="Plane 1 holds 1 NaN"):
        next(events)


def test_features_are_let_go_tile_by_tile(
    make_segmenter: MakeSegmenter, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory must not grow with the number of tiles."""
    kept: list[weakref.ref[Any]] = []
    plain = type(model).extract

    def extract(self: Any, *arguments: Any) -> Any:
        features = plain(self, *arguments)
        kept.append(weakref.ref(features.embedding))
        return features

    monkeypatch.setattr(type(model), "extract", extract)
    image = np.linspace(0, 1, 192 * 192, dtype=np.float32).reshape(192, 192)
    alive = [
        sum(reference() is not None for reference in kept)
        for event in make_segmenter().iter_segment(image)
        if isinstance(event, TileDone)
    ]
    assert len(alive) == 25
    assert max(alive) <= 1

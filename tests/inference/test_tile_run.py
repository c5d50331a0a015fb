"""Batches give the logits of single tiles, in order, with no more read ahead than is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference import tile_run
from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.inference.tile_feed import PlainFeed, StagedBatch
from napari_espmedsam.inference.tile_run import UNDER_WAY, Tile, segment_batches, segment_tiles
from napari_espmedsam.model.header import InputSpec
from napari_espmedsam.model.registry import create_model

Array = np.ndarray[Any, np.dtype[Any]]
SPEC = InputSpec(geometry="tiled", size=64)


@pytest.fixture(params=["esp_medsam_test", "med_fastsam_test"])
def runner(request: pytest.FixtureRequest) -> ModelRunner:
    torch.manual_seed(0)
    return ModelRunner(create_model(request.param, modalities=("a", "b")).eval(), "cpu")


@pytest.fixture
def esp_runner() -> ModelRunner:
    torch.manual_seed(0)
    return ModelRunner(create_model("esp_medsam_test", modalities=("a", "b")).eval(), "cpu")


def in_batches(
    runner: ModelRunner, size: int, tiles: Any, monkeypatch: pytest.MonkeyPatch, *how: Any
) -> Iterator[Array]:
    monkeypatch.setattr(runner.batches, "size", lambda shape: size)
    return segment_batches(runner, PlainFeed("cpu"), tiles, 1, SPEC, *how)


def random_tiles(rng: np.random.Generator, n: int, *shape: int) -> list[Tile]:
    return [Tile(rng.random(shape or (64, 96), dtype=np.float32)) for _ in range(n)]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_batches_say_what_single_tiles_say(
    runner: ModelRunner,
    size: int,
    threshold: float | None,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiles = random_tiles(rng, 3) + random_tiles(rng, 2, 64, 64, 3) + random_tiles(rng, 2)
    cells = (64, 96) if runner.prompt_kind == "mask" else (2, 3)
    for i, value in ((1, 1), (6, 0)):
        tiles[i] = Tile(tiles[i].pixels, np.full(cells, value, np.int8))
    expected = list(segment_tiles(runner, tiles, 1, SPEC, threshold))
    assert len({each.tobytes() for each in expected}) == len(tiles)
    found = list(in_batches(runner, size, tiles, monkeypatch, threshold))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_processors_take_one_tile_after_the_other(
    esp_runner: ModelRunner, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_run, "segment_batches", lambda *_: pytest.fail("batches"))
    read: list[int] = []
    results = segment_tiles(esp_runner, counted(random_tiles(rng, 3), read), 1, SPEC)
    for n in (1, 2, 3):
        next(results)
        assert len(read) == n


def counted(tiles: list[Tile], read: list[int]) -> Iterator[Tile]:
    for i, tile in enumerate(tiles):
        read.append(i)
        yield tile


def test_no_more_is_read_than_two_batches_ahead(
    esp_runner: ModelRunner, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, read = 3, list[int]()
    tiles = counted(random_tiles(rng, 20), read)
    results = in_batches(esp_runner, size, tiles, monkeypatch)
    for n, _ in enumerate(results, start=1):
        assert n <= len(read) <= n + UNDER_WAY * size
    assert len(read) == 20
    next_results = in_batches(esp_runner, size, counted(random_tiles(rng, 20), read), monkeypatch)
    read.clear()
    next(next_results)
    next_results.close()  # type: ignore[attr-defined]
    assert len(read) <= UNDER_WAY * size


def test_the_next_batch_is_staged_before_results_are_waited_for(
    esp_runner: ModelRunner, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    class Feed(PlainFeed):
        def put(self, tiles: Any) -> StagedBatch:
            log.append("stage")
            return super().put(tiles)

    def fetch(results: torch.Tensor) -> Any:
        log.append("launched")

        def wait() -> Array:
            log.append("wait")
            return results.numpy()

        return wait

    monkeypatch.setattr(tile_run, "fetch", fetch)
    monkeypatch.setattr(esp_runner.batches, "size", lambda shape: 2)
    tiles = random_tiles(rng, 6)
    assert len(list(segment_batches(esp_runner, Feed("cpu"), tiles, 1, SPEC))) == 6
    step = ["stage", "launched"]
    assert log == [*step, *step, "wait", *step, "wait", "wait"]


def test_what_was_read_before_a_damaged_plane_is_handed_out(
    esp_runner: ModelRunner, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> Iterator[Tile]:
        yield from random_tiles(rng, 5)
        raise InputError("plane 5 is damaged")

    results = in_batches(esp_runner, 4, damaged(), monkeypatch)
    assert len([next(results) for _ in range(5)]) == 5
    with pytest.raises(InputError, match="plane 5"):
        next(results)


def test_a_batch_that_does_not_fit_on_its_way_is_halved(
    esp_runner: ModelRunner, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[int] = []

    class SmallFeed(PlainFeed):
        def put(self, tiles: Any) -> StagedBatch:
            put.append(len(tiles))
            if len(tiles) > 2:
                raise torch.cuda.OutOfMemoryError("full")
            return super().put(tiles)

    tiles = random_tiles(rng, 4)
    expected = list(segment_tiles(esp_runner, tiles, 1, SPEC))
    monkeypatch.setattr(esp_runner.batches, "size", lambda shape: 4)
    found = list(segment_batches(esp_runner, SmallFeed("cpu"), tiles, 1, SPEC))
    assert put == [4, 2, 2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

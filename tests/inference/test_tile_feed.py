"""The feed copies the next batch beside the current one, and neither overtakes the other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from napari_espmedsam.inference import tile_feed
from napari_espmedsam.inference.tile_feed import PinnedFeed, PlainFeed, feed_for, fetch

Array = np.ndarray[Any, np.dtype[Any]]


class Streams:
    """Records what is done with streams and events, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.n_events = 0
        self.n_pinned = 0
        self.now = "main"

    def record_event(self) -> Event:
        self.n_events += 1
        self.log.append(f"record {self.n_events} on {self.now}")
        return Event(self, self.n_events)

    def wait_event(self, event: Event) -> None:
        self.log.append(f"main waits for {event.number}")

    @contextmanager
    def stream(self, _: Any) -> Any:
        self.now = "side"
        yield
        self.now = "main"

    def pinned(self, length: int) -> torch.Tensor:
        self.n_pinned += 1
        return torch.full((length,), float("nan"))


class Event:
    def __init__(self, streams: Streams, number: int) -> None:
        self.streams, self.number = streams, number

    def synchronize(self) -> None:
        self.streams.log.append(f"host waits for {self.number}")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    found = Streams()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: found)
    monkeypatch.setattr(torch.cuda, "stream", found.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: found)
    monkeypatch.setattr(tile_feed, "pinned_memory", found.pinned)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, stream: found.log.append("kept for main")
    )
    return found


def test_other_devices_need_no_feed(rng: np.random.Generator) -> None:
    feed = feed_for("cpu")
    assert isinstance(feed, PlainFeed)
    tiles = rng.random((3, 64, 96, 3), dtype=np.float32)
    np.testing.assert_array_equal(feed.put(list(tiles)).take(), tiles)


def test_tiles_arrive_whatever_their_number_and_shape(
    streams: Streams, rng: np.random.Generator
) -> None:
    feed = PinnedFeed("cpu")
    for shape in [(2, 32, 64), (3, 32, 64, 3), (1, 32, 32), (4, 32, 64, 3)]:
        tiles = rng.random(shape, dtype=np.float32)
        np.testing.assert_array_equal(feed.put(list(tiles)).take(), tiles)


def test_strided_tiles_are_copied(streams: Streams, rng: np.random.Generator) -> None:
    plane = rng.random((64, 96), dtype=np.float32)
    tiles = [plane[:32, :32], plane[16:48, 64:]]
    np.testing.assert_array_equal(PinnedFeed("cpu").put(tiles).take(), np.stack(tiles))


def test_a_buffer_is_filled_once_the_device_has_read_it(streams: Streams) -> None:
    feed, tiles = PinnedFeed("cpu"), [np.zeros((32, 32), np.float32)]
    for _ in range(4):
        feed.put(tiles)
    sides = [f"record {n} on side" for n in (1, 2, 3, 4)]
    assert streams.log == [*sides[:2], "host waits for 1", sides[2], "host waits for 2", sides[3]]
    assert streams.n_pinned == 2


def test_what_computes_waits_for_the_copy(streams: Streams) -> None:
    staged = PinnedFeed("cpu").put([np.ones((32, 32), np.float32)])
    assert streams.log == ["record 1 on side"]
    staged.take()
    assert streams.log[1:] == ["main waits for 1", "kept for main"]


def test_smaller_batches_need_no_new_buffers(streams: Streams) -> None:
    feed = PinnedFeed("cpu")
    for n in (4, 4, 2, 1, 4):
        feed.put([np.zeros((32, 32), np.float32)] * n)
    assert streams.n_pinned == 2
    feed.put([np.zeros((32, 32), np.float32)] * 5)
    assert streams.n_pinned == 3


def test_results_of_a_processor_are_there_at_once() -> None:
    results = torch.rand(2, 8, 8)
    np.testing.assert_array_equal(fetch(results)(), results.numpy())

"""Batches are sized to the free memory of the card."""

from __future__ import annotations

import pytest
import torch

from napari_espmedsam.inference.batch_size import MAX_PIXELS, MAX_TILES, SHARE, BatchSizer

MB = 2**20
SHAPE = (256, 256)


class Card:
    """A card of which a tile takes 10 MB."""

    def __init__(self) -> None:
        self.free, self.allocated, self.reserved, self.peak = 1000 * MB, 50 * MB, 50 * MB, 0
        self.asked = 0

    def mem_get_info(self, device: str) -> tuple[int, int]:
        assert device == "cuda:1"
        self.asked += 1
        return self.free, 2000 * MB

    def compute(self, n: int) -> None:
        self.peak = max(self.peak, self.allocated + n * 10 * MB)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    found = Card()
    monkeypatch.setattr(torch.cuda, "mem_get_info", found.mem_get_info)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: found.allocated)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: found.reserved)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: found.peak)
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda d: setattr(found, "peak", found.allocated)
    )
    return found


def measured(card: Card, shape: tuple[int, int] = SHAPE) -> BatchSizer:
    sizer = BatchSizer("cuda:1")
    assert sizer.size(shape) == 1
    with sizer.measuring(shape, 1):
        card.compute(1)
    return sizer


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_take_one_at_a_time(device: str, card: Card) -> None:
    sizer = BatchSizer(device)
    with sizer.measuring(SHAPE, 1):
        pass
    assert sizer.size(SHAPE) == 1
    assert card.asked == 0


@pytest.mark.parametrize(("free", "size"), [(1000, 32), (700, 16), (26, 1), (3, 1), (0, 1)])
def test_the_size_follows_the_free_memory(card: Card, free: int, size: int) -> None:
    sizer = measured(card)
    card.free = free * MB
    assert sizer.size(SHAPE) == size
    assert size == 1 or size * 10 <= SHARE * free


def test_what_torch_holds_and_does_not_use_is_free(card: Card) -> None:
    sizer = measured(card)
    card.free, card.reserved = 0, 50 * MB + 1000 * MB
    assert sizer.size(SHAPE) == 32


def test_a_large_card_has_bounds_too(card: Card) -> None:
    card.free = 10**6 * MB
    assert measured(card, (64, 64)).size((64, 64)) == MAX_TILES
    assert measured(card, (1024, 1024)).size((1024, 1024)) == MAX_PIXELS // 1024**2 == 16
    assert measured(card, (2048, 2048)).size((2048, 2048)) == 4


def test_each_shape_is_measured_once(card: Card) -> None:
    sizer = measured(card)
    with sizer.measuring(SHAPE, 4):
        card.compute(400)
    assert sizer.size(SHAPE) == 32
    assert sizer.size((128, 128)) == 1


def test_a_failed_measurement_is_none(card: Card) -> None:
    sizer = BatchSizer("cuda:1")
    with pytest.raises(RuntimeError), sizer.measuring(SHAPE, 1):
        raise RuntimeError
    assert sizer.size(SHAPE) == 1


def test_the_size_holds_for_a_run_and_is_asked_again_for_the_next(card: Card) -> None:
    sizer = measured(card)
    assert sizer.size(SHAPE) == 32
    card.free = 100 * MB
    assert sizer.size(SHAPE) == 32
    sizer.ask_again()
    assert sizer.size(SHAPE) == 4


def test_what_did_not_fit_is_never_tried_again(card: Card) -> None:
    sizer = measured(card)
    assert sizer.size(SHAPE) == 32
    sizer.shrink(SHAPE, 8)
    assert sizer.size(SHAPE) == 8
    sizer.ask_again()
    assert sizer.size(SHAPE) == 8
    card.free = 50 * MB
    sizer.ask_again()
    assert sizer.size(SHAPE) == 2

"""What does not fit into a device is tried again smaller; that not even one tile fits is said."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_espmedsam.errors import DeviceError
from napari_espmedsam.inference import runner as runner_module
from napari_espmedsam.inference.out_of_memory import in_halves, is_out_of_memory
from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.model.header import InputSpec
from napari_espmedsam.model.output import Features

SPEC = InputSpec(geometry="tiled", size=64, mean=(0.0,) * 3, std=(1.0,) * 3)
CUDA = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
MPS = RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB, max allowed: 9.07 GB).")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


class SmallCard(nn.Module):
    """Its memory holds `room` tiles; the logits are the grey values."""

    prompt_kind = "grid"

    def __init__(self, room: int, error: Exception = CUDA) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.tried: list[int] = []

    def extract(self, images: Tensor, modality: Tensor, unnormalised: Tensor) -> Features:
        self.tried.append(len(images))
        if len(images) > self.room:
            raise self.error
        return Features(images[:, :1, ::4, ::4], images[:, :1, ::32, ::32])

    def decode_features(self, features: Features, modality: Tensor, prompt: Any = None) -> Tensor:
        return features.embedding


def segment(runner: ModelRunner, tiles: Tensor) -> list[Tensor]:
    return runner.segment(tiles, 0, SPEC)


@pytest.mark.parametrize("error", [CUDA, MPS, CUBLAS])
def test_errors_of_full_devices_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access"),
        MemoryError(),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [CUDA, MPS])
def test_a_batch_is_halved_until_it_fits(error: Exception) -> None:
    model = SmallCard(2, error)
    runner = ModelRunner(model, "cpu")
    tiles = torch.rand(11, 64, 64)
    parts = segment(runner, tiles)
    torch.testing.assert_close(torch.cat(parts), tiles[:, ::4, ::4], rtol=0, atol=0)
    assert model.tried == [11, 5, 2, 2, 2, 2, 2, 1]


def test_the_smaller_size_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ModelRunner(SmallCard(2), "cpu")
    kept: list[tuple[Any, int]] = []
    monkeypatch.setattr(runner.batches, "shrink", lambda *what: kept.append(what))
    segment(runner, torch.rand(8, 64, 96))
    assert kept == [((64, 96), 4), ((64, 96), 2)]


@pytest.mark.parametrize("error", [CUDA, MPS])
def test_one_tile_that_does_not_fit_is_told(error: Exception) -> None:
    model = SmallCard(0, error)
    runner = ModelRunner(model, "cpu")
    with pytest.raises(DeviceError, match=r"cpu has too .* one tile \(64 x 96\).*smaller.*'cpu'"):
        segment(runner, torch.rand(4, 64, 96))
    assert model.tried == [4, 2, 1, 1]  # the last one once more, with all room there is
    with pytest.raises(DeviceError, match=r"one tile \(64 x 96\)"):
        runner.extract(torch.rand(64, 96).numpy(), 0, SPEC)


def test_memory_is_freed_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SmallCard(1)
    freed: list[tuple[str, int]] = []
    monkeypatch.setattr(
        runner_module, "free_memory", lambda device: freed.append((device, len(model.tried)))
    )
    segment(ModelRunner(model, "cpu"), torch.rand(4, 64, 64))
    assert freed == [("cpu", 1), ("cpu", 2)]


def test_nothing_of_a_failed_try_is_held() -> None:
    held: list[Any] = []
    alive: list[bool] = []

    def compute(start: int, stop: int) -> int:
        local = torch.zeros(3)
        held.append(weakref.ref(local))
        if stop - start > 1:
            raise torch.cuda.OutOfMemoryError("full")
        return start

    found = in_halves(
        compute, 2, 2, lambda size: alive.append(held[0]() is not None), device="x", shape=(1, 1)
    )
    assert (found, alive) == ([0, 1], [False])


def test_other_faults_are_passed_on() -> None:
    runner = ModelRunner(SmallCard(0, RuntimeError("a fault")), "cpu")
    with pytest.raises(RuntimeError, match="a fault"):
        segment(runner, torch.rand(2, 64, 64))


def test_each_tile_has_a_second_try_of_its_own() -> None:
    failed: list[int] = []

    def compute(start: int, stop: int) -> int:
        if start not in failed:
            failed.append(start)
            raise CUDA
        return start

    sizes: list[int] = []
    assert in_halves(compute, 3, 1, sizes.append, device="cuda:0", shape=(64, 64)) == [0, 1, 2]
    assert (failed, sizes) == ([0, 1, 2], [1, 1, 1])

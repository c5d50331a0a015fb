"""The device is chosen in one place, and says why."""

from __future__ import annotations

import pytest
import torch

from napari_espmedsam.errors import DeviceError
from napari_espmedsam.inference.device import available_devices, choose_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to two CUDA devices and an Apple GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to a machine without any GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("machine")
def test_cuda_comes_first_then_mps_then_cpu() -> None:
    assert available_devices() == ("cuda:0", "cuda:1", "mps", "cpu")
    choice = choose_device()
    assert choice.device == "cuda:0"
    assert choice.reason.startswith("cuda:0 (Card cuda:0): the fastest")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("wish", "device"),
    [("cpu", "cpu"), ("mps", "mps"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")],
)
def test_a_wish_is_followed(wish: str, device: str) -> None:
    choice = choose_device(wish)
    assert choice.device == device
    assert "as asked for" in choice.reason


@pytest.mark.usefixtures("bare_machine")
def test_the_cpu_is_the_last_resort() -> None:
    choice = choose_device("auto")
    assert choice.device == "cpu"
    assert "neither a CUDA nor an Apple GPU" in choice.reason


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "mps", "tpu", ""])
def test_what_is_not_there_is_refused_with_what_is(wish: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{wish}' is not available.*auto, cpu"):
        choose_device(wish)

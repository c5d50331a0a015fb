"""An accelerator that computes something else than the CPU is not used, and is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_espmedsam.errors import DeviceError
from napari_espmedsam.inference import segmenter as segmenter_module
from napari_espmedsam.inference import self_check
from napari_espmedsam.inference.device import DeviceChoice
from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import create_model

Damage = Callable[[Tensor], Tensor]
SPEC = InputSpec(geometry="tiled", size=64)


class PretendRunner(ModelRunner):
    """Everything runs on the CPU; what "gpu:0" answers is changed by `damage`."""

    damage: Damage = staticmethod(lambda tensor: tensor)
    started: list[str] = []  # noqa: RUF012

    def __init__(self, model: Any, device: str, *how: Any) -> None:
        super().__init__(model, "cpu", *how)
        self.started.append(device)
        self.pretended = device

    def extract(self, *arguments: Any) -> Any:
        features = super().extract(*arguments)
        if self.pretended == "cpu":
            return features
        return features._replace(embedding=type(self).damage(features.embedding))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Segmenter]:
    """Return a function that starts a Segmenter on a device that damages what it computes."""
    monkeypatch.setattr(self_check, "ModelRunner", PretendRunner)
    monkeypatch.setattr(self_check, "_verdicts", {})
    monkeypatch.setattr(PretendRunner, "started", [])
    choice = DeviceChoice("gpu:0", "a fake")
    monkeypatch.setattr(segmenter_module, "choose_device", lambda wish: choice)

    def build(damage: Damage, name: str = "esp_medsam_test") -> Segmenter:
        monkeypatch.setattr(PretendRunner, "damage", staticmethod(damage))
        torch.manual_seed(0)
        model = create_model(name, modalities=("microscopy",))
        header = CheckpointHeader(
            name="fake",
            architecture=name,
            config=model.config.model_dump(mode="json"),
            modalities=("microscopy",),
            inputs={"microscopy": SPEC},
            licence="Apache-2.0",
        )
        return Segmenter(model, header)

    return build


def _shifted(tensor: Tensor) -> Tensor:
    return tensor.roll(1, -1)


def _refuse(tensor: Tensor) -> Tensor:
    raise NotImplementedError("aten::roll is not there")


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_shifted, r"differs from the CPU's by [\d.]+ of the spread; the limit is 0\.05"),
        (lambda tensor: tensor * float("nan"), "by inf"),
        (torch.zeros_like, "differs"),
        (_refuse, r"failed on a fixed tile \(aten::roll is not there\)"),
    ],
)
def test_a_wrong_device_is_left_for_the_cpu(
    start: Callable[..., Segmenter], damage: Damage, says: str, name: str
) -> None:
    segmenter = start(damage, name)
    assert segmenter.device.device == "cpu"
    assert segmenter.device.distrusted
    assert PretendRunner.started[-1] == "cpu"
    assert segmenter.device.reason.startswith("The CPU, as gpu:0 cannot be trusted")
    assert re.search(says, segmenter.device.reason)
    record = segmenter.segment(self_check.fixed_tile()).provenance
    assert (record["device"], record["device_note"]) == ("cpu", segmenter.device.reason)


def test_rounding_is_no_mistake(start: Callable[..., Segmenter]) -> None:
    segmenter = start(lambda tensor: tensor * (1 + 1e-3 * torch.randn_like(tensor)))
    assert segmenter.device == DeviceChoice("gpu:0", "a fake")
    assert PretendRunner.started == ["cpu", "gpu:0", "gpu:0"]
    assert segmenter.segment(self_check.fixed_tile()).provenance["device_note"] == ""


def test_a_device_is_compared_once_per_process(start: Callable[..., Segmenter]) -> None:
    start(_shifted)
    PretendRunner.started.clear()
    again = start(_shifted)
    assert PretendRunner.started == ["cpu"]  # no comparison, just the run
    assert "cannot be trusted" in again.device.reason


def test_no_memory_is_said_and_not_remembered(start: Callable[..., Segmenter]) -> None:
    def fill(_: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError("full")

    with pytest.raises(DeviceError, match="gpu:0 has too little free memory"):
        start(fill)
    assert start(lambda tensor: tensor).device.device == "gpu:0"


def test_the_tile_is_fixed_and_in_range() -> None:
    tile = self_check.fixed_tile()
    np.testing.assert_array_equal(tile, self_check.fixed_tile())
    assert (tile.shape, tile.dtype) == ((96, 96), np.float32)
    assert 0 <= tile.min() < 0.1 < 0.9 < tile.max() <= 1


def test_the_cpu_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_judge", lambda *_: pytest.fail("compared"))
    model = create_model("esp_medsam_test")
    choice = DeviceChoice("cpu", "as asked for")
    assert self_check.checked_runner(model, choice, "auto", SPEC)[0] is choice

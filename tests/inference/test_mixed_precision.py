"""Half precision is offered where a device has it, trusted where it rounds, and left where not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference import self_check
from napari_espmedsam.inference.device import DeviceChoice
from napari_espmedsam.inference.mixed_precision import check_half, halve_weights
from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.inference.self_check import checked_runner
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.header import InputSpec
from napari_espmedsam.model.registry import create_model

SPEC = InputSpec(geometry="tiled", size=64)


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_weights_in_half_precision_are_those_that_autocast_makes(name: str) -> None:
    torch.manual_seed(0)
    model: Any = to_inference(create_model(name, modalities=("a",)))
    images, modality = torch.rand(1, 3, 96, 96), torch.tensor([0])

    def answer() -> list[torch.Tensor]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            features = model.extract(images.clone(), modality, images)
            return [*tree_leaves(features), model.decode_features(features, modality)]

    expected = answer()
    halve_weights(model.encoder, torch.bfloat16)
    assert any(each.dtype == torch.bfloat16 for each in model.parameters())
    assert any(each.dtype == torch.float32 for each in model.parameters())
    for a, b in zip(answer(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("precision", "device", "capability", "message"),
    [
        ("float16", "cpu", (0, 0), "'float16', which is for GPUs.*bfloat16, or float32"),
        ("bfloat16", "cuda:1", (7, 5), r"cuda:1 lacks \(compute capability 7\.5.*float16"),
        ("bfloat16", "cuda:1", (8, 0), ""),
        ("bfloat16", "cpu", (0, 0), ""),
        ("float16", "cuda:1", (7, 5), ""),
        ("float32", "cuda:1", (7, 5), ""),
    ],
)
def test_what_a_device_lacks_is_refused(
    precision: str,
    device: str,
    capability: tuple[int, int],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if not message:
        check_half(precision, device)
        return
    with pytest.raises(InputError, match=message):
        check_half(precision, device)


class HalfRunner(ModelRunner):
    """Computes on the CPU; half precisions answer with `factor` times the logits."""

    factor = 1.0

    def __init__(self, model: Any, device: str, precision: str = "auto", *how: Any) -> None:
        super().__init__(model, "cpu", "auto", *how)
        self.precision = "float32" if precision == "auto" else precision

    def decode(self, *arguments: Any) -> Any:
        logits = super().decode(*arguments)
        return logits * self.factor if self.precision != "float32" else logits


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_half_precision_that_is_wrong_is_left(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_check, "ModelRunner", HalfRunner)
    monkeypatch.setattr(self_check, "_verdicts", {})
    model, choice = create_model("esp_medsam_test"), DeviceChoice("gpu:0", "a fake")
    found, runner = checked_runner(model, choice, precision, SPEC)
    assert (found, runner.precision) == (choice, precision)
    assert found.note == ""
    monkeypatch.setattr(HalfRunner, "factor", float("inf"))
    found, runner = checked_runner(model, choice, precision, SPEC)
    assert (found.device, runner.precision) == ("gpu:0", "float32")
    assert found.note.startswith(f"gpu:0 in float32, as {precision} cannot be trusted")
    assert "that of float32 by inf" in found.note


def test_float16_ends_with_the_device_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_verdicts", {("gpu:0", "ESPMedSAM"): "it is wrong"})
    model = create_model("esp_medsam_test")
    found, runner = checked_runner(model, DeviceChoice("gpu:0", "a fake"), "float16", SPEC)
    assert (found.device, runner.precision) == ("cpu", "float32")
    assert "it is wrong" in found.note

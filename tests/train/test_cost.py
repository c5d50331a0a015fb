"""Cost of models: what is counted, and whose clock it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from napari_espmedsam.errors import CheckpointError, DeviceError, InputError
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
from napari_espmedsam.model.complexity import complexity
from napari_espmedsam.model.registry import build, model_config
from training import cost as costs
from training.cost import cost, machine


def _rows(text: str) -> dict[str, dict[str, str]]:
    """Cells by model and heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:]}


def test_models_are_counted_and_timed_at_the_size_asked_for() -> None:
    said: list[str] = []
    text = cost(["esp_medsam_test", "med_fastsam_test"], size=64, device="cpu", report=said.append)
    rows = _rows(text)
    for name in ("esp_medsam_test", "med_fastsam_test"):
        count = complexity(model_config(name), 64)
        row = rows[name]
        assert row["parameters, M"] == f"{count.parameters / 1e6:.2f}"
        assert row["GMACs"] == f"{count.macs / 1e9:.2f}"
        assert row["input, px"] == "64"
        assert row["measured on"] == "this machine"
        middle, low, high = map(float, re.findall(r"[\d.]+", row["ms per image"]))
        assert 0 < low <= middle <= high
        assert float(row["FPS"]) == pytest.approx(1000 / middle, rel=0.1)
    assert said[0] == "counting esp_medsam_test"
    assert said[-1] == "round 7 of 7"


def test_the_papers_stand_below_with_their_machines() -> None:
    text = cost(["esp_medsam_test"], size=32, repeats=1, device="cpu")
    rows = _rows(text)
    esp = rows["ESP-MedSAM (ESP-MedSAM paper)"]
    fast = rows["Med-FastSAM (Med-FastSAM paper)"]
    assert rows["U-Net (ESP-MedSAM paper)"]["GMACs"] == "497.91"
    assert list(esp.values())[1:] == ["1024", "28.46", "55.88", "-", "12.87", "NVIDIA A6000"]
    assert (fast["parameters, M"], fast["GMACs"], fast["FPS"]) == ("14.48", "-", "24.19")
    assert f"This machine: {machine('cpu')}, PyTorch {torch.__version__}" in text
    assert f"{torch.get_num_threads()} threads" in machine("cpu")


def test_a_checkpoint_is_counted_as_what_it_holds(tmp_path: Path) -> None:
    config = model_config("esp_medsam_test", modalities=("a", "b", "c"))
    spec = InputSpec(geometry="whole", size=64)
    header = CheckpointHeader(
        name="three",
        architecture="esp_medsam_test",
        config=config.model_dump(mode="json"),
        modalities=("a", "b", "c"),
        inputs=dict.fromkeys("abc", spec),
        licence="Apache-2.0",
    )
    path = save_checkpoint(tmp_path / "three.safetensors", build(config), header)
    rows = _rows(cost([str(path), "unet"], size=32, repeats=1, device="cpu"))
    parameters = complexity(config, 32).parameters
    assert parameters > complexity(model_config("esp_medsam_test"), 32).parameters
    assert rows[str(path)]["parameters, M"] == f"{parameters / 1e6:.2f}"
    assert float(rows["unet"]["parameters, M"]) > 1
    assert float(rows["unet"]["GMACs"]) > 0


def test_dropped_operations_are_named() -> None:
    count = complexity(model_config("med_fastsam_published"), 32)
    subject = costs.Subject("x", 1_500_000, count.macs, count.discarded_macs, lambda: None, [0.1])
    row = costs._row(subject, 32)
    assert row[2:4] == [
        "1.50",
        f"{count.macs / 1e9:.2f} (+ {count.discarded_macs / 1e9:.2f} dropped)",
    ]
    assert row[4:6] == ["100.0 (100.0 to 100.0)", "10.00"]


def test_models_take_turns_and_warm_up_untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    subjects = [
        costs.Subject(name, 1, 1, 0, lambda name=name: order.append(name))  # type: ignore[misc]
        for name in "ab"
    ]
    ticks = iter(range(1000))
    monkeypatch.setattr("training.cost.time.perf_counter", lambda: float(next(ticks)))
    costs._time(subjects, 3, "cpu", lambda line: None)
    assert order == ["a", "b"] * (costs.WARM_UP + 3)
    assert [s.seconds for s in subjects] == [[1.0] * 3] * 2


def test_wrong_requests_are_refused() -> None:
    for size in (0, 100):
        with pytest.raises(InputError, match="multiple of 32"):
            cost(["esp_medsam_test"], size=size)
    with pytest.raises(InputError, match="repeats is 0"):
        cost(["esp_medsam_test"], size=32, repeats=0)
    with pytest.raises(CheckpointError, match="no_such_model"):
        cost(["no_such_model"], size=32, device="cpu")
    with pytest.raises(DeviceError, match="cuda:99"):
        cost(["esp_medsam_test"], size=32, device="cuda:99")

"""Loading weights: what it leaves out to be quick and small."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch import nn

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.model import budget, checkpoint
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import create_model, model_config


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a tiny file of weights, in half precision."""
    model = create_model("esp_medsam_test", modalities=("m",))
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model.config.model_dump(),
        modalities=("m",),
        inputs={"m": InputSpec(geometry="tiled", size=64)},
        licence="Apache-2.0",
    )
    return checkpoint.save_checkpoint(tmp_path / "tiny.safetensors", model, header)


def test_values_that_a_file_replaces_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: object) -> nn.Module:
        last = nn.Linear(4, 4)
        nn.init.trunc_normal_(last.weight, std=0.02)
        return nn.Sequential(nn.Linear(4, 4), nn.Conv2d(3, 4, 3), nn.Embedding(5, 4), last)

    monkeypatch.setattr(budget, "build", build)
    before = torch.get_rng_state()
    budget.build_within(model_config("esp_medsam_test"), 10_000, "a file")
    assert torch.equal(torch.get_rng_state(), before)
    build(None)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what is mapped")
def test_the_file_is_mapped_and_never_held_as_a_whole(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[bool] = []
    check_fit = checkpoint._check_fit

    def look(model: nn.Module, shapes: dict[str, torch.Size], source: str) -> None:
        mapped.append(str(weights) in Path("/proc/self/maps").read_text())
        check_fit(model, shapes, source)

    monkeypatch.setattr(checkpoint, "_check_fit", look)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read whole"))
    loaded = checkpoint.load_checkpoint(weights)
    assert mapped == [True]
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert str(weights) not in Path("/proc/self/maps").read_text()


def test_loading_again_and_again_leaves_nothing(weights: Path) -> None:
    def count() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    tensors = len(checkpoint.load_checkpoint(weights).model.state_dict())
    before = count()
    for _ in range(10):
        checkpoint.load_checkpoint(weights)
    assert count() - before < 5 * tensors  # one object lost per tensor and load would be 10


def test_a_kind_of_number_that_numpy_lacks_is_refused(weights: Path) -> None:
    with safetensors.safe_open(weights, framework="pt") as file:
        state = {name: file.get_tensor(name).bfloat16() for name in file.keys()}  # noqa: SIM118
        save_file(state, weights, file.metadata())
    with pytest.raises(CheckpointError, match=r"stores .* as BF16\. Store floats as float16"):
        checkpoint.load_checkpoint(weights)

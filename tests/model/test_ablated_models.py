"""Models with a part left out, as in the papers' ablations: the rest is untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.complexity import complexity
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import upsample_logits
from napari_espmedsam.model.registry import Model, create_model, model_config

Randomise = Callable[[nn.Module, int], None]

ESP_OPTIONS: dict[str, dict[str, Any]] = {
    "MMDKD": {"bags": False},
    "SPPG": {"prompt": "none"},
    "QDMD": {"query_rows": (0, 0), "query_count": 1, "mask_mlp": "shared"},
}
FAST_OPTIONS: dict[str, dict[str, Any]] = {
    "LKA": {"knowledge_aggregation": False},
    "CP": {"prompt": "none"},
    "MSF": {"detail": False},
}
OPTIONS = [("esp_medsam_test", o) for o in ESP_OPTIONS.values()] + [
    ("med_fastsam_test", o) for o in FAST_OPTIONS.values()
]


def pixels(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def run(model: Model, x: Tensor, *modality: int) -> Tensor:
    prompt = {"unnormalised": x} if isinstance(model, MedFastSAM) else {}
    return model(x, torch.tensor(modality), **prompt).mask_logits


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_a_part_less_is_a_model_with_fewer_weights_and_the_same_names(
    name: str, options: dict[str, Any], randomise: Randomise
) -> None:
    """So that a warm start for the whole model is one for the ablated model too."""
    whole, ablated = create_model(name), create_model(name, **options)
    new = set(ablated.state_dict()) - set(whole.state_dict())
    assert new <= {"dense_prompt.vector", "coarse_prompt.vector"}
    assert sum(p.numel() for p in ablated.parameters()) < sum(p.numel() for p in whole.parameters())
    randomise(ablated, 3)
    masks = run(ablated, pixels(), 0, 0)
    assert masks.shape == (2, 1, 16, 24)
    assert masks.isfinite().all()


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_training_step_reaches_every_weight_of_an_ablated_model(
    name: str, options: dict[str, Any]
) -> None:
    """Distributed training stops at a parameter without a gradient."""
    model = create_model(name, modalities=("a", "b"), **options)
    x = pixels()
    prompt = {"unnormalised": x} if isinstance(model, MedFastSAM) else {}
    output = model(x, torch.tensor([0, 1]), **prompt)
    loss = output.mask_logits.square().mean()
    if output.prompt_logits is not None:
        loss = loss + output.prompt_logits.square().mean()
    loss.backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("removed", ["MMDKD", "QDMD"])
def test_what_is_shared_treats_all_modalities_alike(removed: str, randomise: Randomise) -> None:
    model = create_model("esp_medsam_test", **ESP_OPTIONS[removed])
    assert isinstance(model, ESPMedSAM)
    randomise(model, 4)
    x = pixels(1)
    a, b = (model(x, torch.tensor([k])) for k in (0, 1))
    assert torch.equal(a.embedding, b.embedding) == (removed == "MMDKD")
    assert not torch.equal(a.mask_logits, b.mask_logits)  # the other part still tells them apart
    both = create_model("esp_medsam_test", **ESP_OPTIONS["MMDKD"], **ESP_OPTIONS["QDMD"])
    randomise(both, 4)
    assert torch.equal(run(both, x, 0), run(both, x, 1))


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_without_a_prompt_none_is_proposed_and_none_is_taken(
    name: str, randomise: Randomise
) -> None:
    model = create_model(name, prompt="none")
    randomise(model, 5)
    x, modality = pixels(1), torch.tensor([0])
    features = model.extract(x, modality, x)
    whole = create_model(name).extract(x, modality, x)
    assert features.prompt.shape == whole.prompt.shape
    empty = features.prompt.sigmoid() if model.prompt_kind == "grid" else features.prompt
    assert not empty.any()
    assert torch.equal(model.decode_features(features, modality), run(model, x, 0))
    with pytest.raises(InputError, match="without prompts"):
        model.decode_features(features, modality, torch.ones_like(whole.prompt))
    given = "prompt_grid" if name.startswith("esp") else "coarse_mask"
    with pytest.raises(InputError, match="without prompts"):
        model(x, modality, **{given: torch.ones_like(whole.prompt)})
    assert model(x, modality).prompt_logits is None  # nor does Med-FastSAM need its raw image


def test_an_unused_setting_is_still_counted_right() -> None:
    plain: dict[str, Any] = {"knowledge_aggregation": False, "prompt": "none", "detail": False}
    cost = complexity(model_config("med_fastsam", **plain), 64)
    published = complexity(model_config("med_fastsam_published", **plain), 64)
    whole = complexity(model_config("med_fastsam"), 64)
    assert cost.parameters < whole.parameters - 4e6  # the medical parts are 4.3 M
    assert cost.macs < whole.macs
    assert published.discarded_macs == 0


def test_logits_of_every_pixel_are_only_cut() -> None:
    """A network with full-size output is not passed through the decoders' enlargement."""
    logits = torch.randn(1, 1, 48, 64)
    assert torch.equal(upsample_logits(logits, (48, 64)), logits)
    assert torch.equal(upsample_logits(logits, (40, 50)), logits[..., :40, :50])
    quarter = torch.randn(1, 1, 12, 16)
    expected = nn.functional.interpolate(quarter, scale_factor=4, mode="bilinear")
    assert torch.equal(upsample_logits(quarter, (40, 50)), expected[..., :40, :50])

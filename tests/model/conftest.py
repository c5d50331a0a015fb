"""Rule weights and pictures, and the models that carry them.

The goldens in ``tests/golden`` record what the authors' code computes for weights and pictures
that a rule produces, so that neither has to be stored. Each entry of a state_dict is drawn from
``RandomState(crc32(its full official name))`` and scaled by its kind.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_espmedsam.model.checkpoint import load_strict
from napari_espmedsam.model.config import PUBLISHED_MODALITIES
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.published import rename_esp_key
from napari_espmedsam.model.published_fast import rename_fast_key
from napari_espmedsam.model.registry import create_model

Shapes = Mapping[str, Sequence[int]]
RuleState = Callable[[Shapes], dict[str, Tensor]]
Picture = Callable[[int, int, str], Tensor]

_EMBEDDINGS = ("mask_query", "mask_tokens", "iou_token", "not_a_point_embed", "no_mask_embed")
_UNIT = ("positional_encoding_gaussian_matrix", "deep_QKV_embeddings_med")


def _normal(seed: str, shape: Sequence[int]) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(seed.encode())).standard_normal(tuple(shape))


def _rule_value(key: str, shape: Sequence[int]) -> np.ndarray:
    """Value of one official entry; the first rule that fits decides."""
    z = _normal(key, shape)
    if key.endswith("running_mean"):
        return 0.1 * z
    if key.endswith("running_var"):
        return 0.5 + 0.25 * np.abs(z)
    if "attention_biases" in key:
        return 0.5 * z
    is_embedding = key.endswith(tuple(f"{name}.weight" for name in _EMBEDDINGS))
    if key.endswith(_UNIT) or is_embedding or ".point_embeddings." in key:
        return z
    if key.endswith(".bias"):
        return 0.1 * z
    if len(shape) == 1:
        return 1 + 0.1 * z
    return z / math.sqrt(math.prod(shape[1:]))


def _rule_tensor(key: str, shape: Sequence[int]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    return torch.from_numpy(_rule_value(key, shape).astype(np.float32))


@pytest.fixture(scope="session")
def rule_state() -> RuleState:
    """Fill a table of official entries with the rule's weights."""
    return lambda shapes: {key: _rule_tensor(key, shape) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Draw the rule's picture (1, 3, H, W): 32 px blocks of noise plus pixel noise."""

    def draw(height: int, width: int, name: str) -> Tensor:
        tag = f"{name}-{height}x{width}"
        coarse = _normal(f"{tag}-coarse", (1, 3, height // 32, width // 32))
        fine = _normal(f"{tag}-fine", (1, 3, height, width))
        blocks = coarse.repeat(32, axis=2).repeat(32, axis=3)
        return torch.from_numpy((blocks + 0.25 * fine).astype(np.float32))

    return draw


@pytest.fixture(scope="session")
def picture01(picture: Picture) -> Picture:
    """Draw the same picture mapped to [0, 1]."""

    def draw(height: int, width: int, name: str) -> Tensor:
        mapped = 0.5 + 0.25 * picture(height, width, name).numpy().astype(np.float64)
        return torch.from_numpy(np.clip(mapped, 0, 1).astype(np.float32))

    return draw


@pytest.fixture(scope="session")
def official_entries() -> dict[str, Any]:
    """Names and shapes of the authors' state_dicts."""
    path = Path(__file__).resolve().parents[1] / "golden" / "official_entries.json"
    entries: dict[str, Any] = json.loads(path.read_text())
    return entries


@pytest.fixture(scope="session")
def published_esp(official_entries: dict[str, Any], rule_state: RuleState) -> ESPMedSAM:
    """ESP-MedSAM in the authors' layout; each of its six bags is the one of the golden."""
    model = create_model("esp_medsam_published")
    assert isinstance(model, ESPMedSAM)
    state = {rename_esp_key(k): v for k, v in rule_state(official_entries["esp_medsam"]).items()}
    prefix = "encoder.bags.0."
    for key in [key for key in state if key.startswith(prefix)]:
        for k in range(1, len(PUBLISHED_MODALITIES)):
            state[f"encoder.bags.{k}.{key.removeprefix(prefix)}"] = state[key]
    load_strict(model, state, "the rule's weights")
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def published_fast(official_entries: dict[str, Any], rule_state: RuleState) -> MedFastSAM:
    """Med-FastSAM in the authors' layout with the rule's weights."""
    model = create_model("med_fastsam_published")
    assert isinstance(model, MedFastSAM)
    state = {rename_fast_key(k): v for k, v in rule_state(official_entries["med_fastsam"]).items()}
    load_strict(model, state, "the rule's weights")
    return model.eval().requires_grad_(False)


def _randomise(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                z = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(0.5 + 0.25 * z.abs() if name.endswith("running_var") else 0.3 * z)
    model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module, int], None]:
    """Make every weight of a model count: no zero initialisation, uneven BatchNorm statistics."""
    return _randomise


@pytest.fixture
def tiny_esp() -> ESPMedSAM:
    """The test-sized ESP-MedSAM with random weights everywhere."""
    model = create_model("esp_medsam_test", modalities=("a", "b", "c"))
    assert isinstance(model, ESPMedSAM)
    _randomise(model, 1)
    return model


@pytest.fixture
def tiny_fast() -> MedFastSAM:
    """The test-sized Med-FastSAM with random weights everywhere."""
    model = create_model("med_fastsam_test")
    assert isinstance(model, MedFastSAM)
    _randomise(model, 2)
    return model

"""A model whose answer is known: it thresholds grey values, gated by its prompt cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.output import Features

Array = np.ndarray[Any, np.dtype[Any]]


class ThresholdModel(nn.Module):
    """Foreground is what is brighter than a half and lies in a prompt cell that is on.

    It looks at 4 x 4 px blocks, and at 32 x 32 px cells for the prompt, so what it says about a
    block does not depend on where the tile lies. Modality k adds k to the logits.
    """

    prompt_kind = "grid"

    def __init__(self, modalities: tuple[str, ...] = ("microscopy",)) -> None:
        super().__init__()
        self.modalities = modalities
        self.gain = nn.Parameter(torch.tensor(20.0))
        self.seen: list[tuple[int, ...]] = []
        self.n_decoded = 0

    def extract(
        self, images: Tensor, modality: Tensor, unnormalised: Tensor | None = None
    ) -> Features:
        self.seen.append(tuple(images.shape))
        logits = self.gain * (F.avg_pool2d(images.mean(1, keepdim=True), 4) - 0.5)
        return Features(logits, F.max_pool2d(logits, 8))

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        self.n_decoded += 1
        on = (features.prompt >= 0).float() if prompt is None else prompt
        gate = F.interpolate(on, scale_factor=8.0, mode="nearest")
        logits = features.embedding + modality.view(-1, 1, 1, 1)
        return torch.where(gate > 0, logits, torch.full_like(logits, -20.0))


MakeSpec = Callable[..., InputSpec]
MakeSegmenter = Callable[..., Segmenter]


@pytest.fixture
def make_spec() -> MakeSpec:
    """Build an InputSpec that leaves grey values as they are."""

    def build(**changes: Any) -> InputSpec:
        plain: dict[str, Any] = {
            "geometry": "tiled",
            "size": 64,
            "scale": 1.0,
            "percentiles": (0.0, 100.0),
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
        }
        return InputSpec(**(plain | changes))

    return build


@pytest.fixture
def model() -> ThresholdModel:
    """Return a model that counts what it is asked for."""
    return ThresholdModel()


@pytest.fixture
def make_segmenter(make_spec: MakeSpec, model: ThresholdModel) -> MakeSegmenter:
    """Build a Segmenter on the CPU around a model (the fixture's by default)."""

    def build(
        with_model: nn.Module | None = None,
        *,
        sha256: str = "0" * 64,
        threshold: float = 0.5,
        **spec: Any,
    ) -> Segmenter:
        chosen: Any = model if with_model is None else with_model
        header = CheckpointHeader(
            name="fake",
            architecture="esp_medsam_test",
            config={"modalities": chosen.modalities},
            modalities=chosen.modalities,
            inputs={name: make_spec(**spec) for name in chosen.modalities},
            licence="Apache-2.0",
            threshold=threshold,
        )
        return Segmenter(chosen, header, sha256, device="cpu")

    return build


@pytest.fixture
def discs() -> Callable[..., Array]:
    """Draw bright discs of radius 10 on a dark plane."""

    def draw(
        shape: tuple[int, int], centres: list[tuple[int, int]], dtype: Any = np.uint8
    ) -> Array:
        rows, columns = np.indices(shape)
        plane = np.full(shape, 20, dtype)
        for row, column in centres:
            plane[np.hypot(rows - row, columns - column) <= 10] = 200
        return plane

    return draw

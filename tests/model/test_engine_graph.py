"""The form that graphs are exported from says what the inference form says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.engine.graph import to_graph
from napari_espmedsam.model.registry import create_model

LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("esp_medsam_test", {}),
    "shared": ("esp_medsam_test", {"kv_tokens": "shared"}),
    "tokens": ("esp_medsam_test", {"tokens_per_block": 3}),
    "no bags": ("esp_medsam_test", {"bags": False}),
    "fast": ("med_fastsam_test", {}),
    "fast trunk": ("med_fastsam_test", {"knowledge_aggregation": False, "detail": False}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(64, 64), (77, 151)])  # whole windows and parts
def test_the_same_numbers(
    layout: str, size: tuple[int, int], randomise: Callable[[nn.Module, int], None]
) -> None:
    name, options = LAYOUTS[layout]
    model: Any = create_model(name, modalities=("a", "b"), **options)
    randomise(model, 5)
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    modality = (torch.tensor([1]),) if name == "esp_medsam_test" else ()
    with torch.inference_mode():
        expected = model.eval().encoder(images, *modality)
        found = to_graph(to_inference(model).encoder, 1)(images)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)

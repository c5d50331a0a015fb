"""In inference mode attention takes shorter ways, to the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_espmedsam.model.registry import create_model
from napari_espmedsam.model.transformer import Attention


@pytest.mark.parametrize("n_queries", [1, 3, 4, 40])
@pytest.mark.parametrize("n_keys", [1, 2, 40])
def test_the_short_ways_lead_to_the_same_numbers(n_queries: int, n_keys: int) -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4, 2).eval()  # 16 wide inside: up to 3 queries are few
    q, k, v = (torch.randn(2, n, 32) for n in (n_queries, n_keys, n_keys))
    expected = attention(q, k, v).detach()
    with torch.inference_mode():
        found = attention(q, k, v)
    assert found.shape == expected.shape
    torch.testing.assert_close(found.clone(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("esp_medsam_test", {}),
        ("esp_medsam_test", {"queries": "joint", "mask_mlp": "shared"}),
        ("med_fastsam_test", {}),
        ("med_fastsam_test", {"mask_tokens": 4, "iou_token": True}),
    ],
)
def test_a_model_decodes_the_same_in_inference_mode(
    name: str, config: dict[str, Any], randomise: Callable[[nn.Module, int], None]
) -> None:
    model = create_model(name, **config)
    randomise(model, 3)
    model.eval()
    images, modality = torch.rand(1, 3, 96, 64), torch.tensor([0])
    with torch.no_grad():
        features = model.extract(images, modality, images)
        expected = model.decode_features(features, modality)
    with torch.inference_mode():
        found = model.decode_features(features, modality)
    torch.testing.assert_close(found.clone(), expected, atol=1e-5, rtol=1e-4)


def test_a_single_query_needs_no_projection_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that is short: what would be done for each cell of the image is not."""
    seen: list[int] = []
    plain = F.linear

    def counted(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(x.shape[-2])
        return plain(x, *rest)

    monkeypatch.setattr(F, "linear", counted)
    attention = Attention(32, 4, 2).eval()
    image, query = torch.randn(1, 500, 32), torch.randn(1, 1, 32)
    for q, k in ((query, image), (image, query)):
        attention(q, k, k)
        assert max(seen) == 500
        seen.clear()
        with torch.inference_mode():
            attention(q, k, k)
        assert max(seen) == 1
        seen.clear()

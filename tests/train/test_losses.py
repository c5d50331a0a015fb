"""Losses against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_espmedsam.model.output import ModelOutput
from napari_espmedsam.model.sppg import prompt_target
from training.config import LossConfig
from training.losses import dice_loss, mask_loss, segmentation_loss


def _logits_and_target() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 64, 64, generator=generator)
    target = (torch.rand(2, 1, 64, 64, generator=generator) > 0.7).float()
    return logits, target


def test_dice_loss_is_one_minus_soft_dice() -> None:
    logits, target = _logits_and_target()
    p, y = 1 / (1 + np.exp(-logits.double().numpy())), target.numpy()
    expected = [
        1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, y, strict=True)
    ]
    assert dice_loss(logits, target).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_mask_loss_weighs_dice_and_focal_as_eq_1() -> None:
    logits, target = _logits_and_target()
    p, y = 1 / (1 + np.exp(-logits.double().numpy())), target.numpy()
    right = np.where(y > 0, p, 1 - p)
    focal = ((1 - right) ** 2 * -np.log(right)).mean()
    expected = 0.7 * dice_loss(logits, target).item() + 0.3 * focal
    assert mask_loss(logits, target, LossConfig()).item() == pytest.approx(expected, abs=1e-6)


def test_prompt_target_is_on_where_a_cell_holds_any_foreground() -> None:
    mask = torch.zeros(1, 1, 70, 64)
    mask[0, 0, 31, 32] = 1  # last row of cell row 0, first column of cell column 1
    mask[0, 0, 69, 0] = 1  # in the cut-off third row of cells
    expected = [[0, 1], [0, 0], [1, 0]]
    assert prompt_target(mask, 32)[0, 0].tolist() == expected


def test_total_is_the_weighted_sum_of_its_parts_and_needs_no_prompt() -> None:
    _, target = _logits_and_target()
    masks, grid = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 2, 2)
    config = LossConfig(prompt_weight=0.5)
    parts = segmentation_loss(ModelOutput(masks, grid, torch.empty(0)), target, config)
    assert parts["total"].item() == pytest.approx(
        parts["mask"].item() + 0.5 * parts["prompt"].item()
    )
    p, y = 1 / (1 + np.exp(-grid.double().numpy())), prompt_target(target, 32).numpy()
    bce = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert parts["prompt"].item() == pytest.approx(bce, abs=1e-6)
    alone = segmentation_loss(ModelOutput(masks, None, torch.empty(0)), target, config)
    assert alone["total"].item() == pytest.approx(parts["mask"].item())

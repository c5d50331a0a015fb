"""Losses on masks: ESP-MedSAM eq. 1 and eq. 6 (self-patch prompt), Med-FastSAM eq. 14."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from napari_espmedsam.model.output import ModelOutput, upsample_logits
from napari_espmedsam.model.sppg import prompt_target
from training.config import LossConfig


def dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice of each image, averaged.

    Parameters
    ----------
    logits, target : Tensor
        (B, 1, H, W); target in {0, 1}.
    smooth : float
        Added to numerator and denominator, so that an empty image has a defined value.
    """
    probability = logits.sigmoid().flatten(1)
    truth = target.flatten(1)
    overlap = 2 * (probability * truth).sum(1) + smooth
    return (1 - overlap / (probability.sum(1) + truth.sum(1) + smooth)).mean()


def mask_loss(logits: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """eq. 1: ``dice_weight * dice + focal_weight * focal`` on full-size logits (B, 1, H, W)."""
    focal = sigmoid_focal_loss(
        logits, target, alpha=config.focal_alpha, gamma=config.focal_gamma, reduction="mean"
    )
    return config.dice_weight * dice_loss(logits, target) + config.focal_weight * focal


def segmentation_loss(
    output: ModelOutput, target: Tensor, config: LossConfig, *, wanted: Tensor | None = None
) -> dict[str, Tensor]:
    """Total loss and its parts.

    Parameters
    ----------
    output : ModelOutput
        Forward pass on a batch.
    target : Tensor
        (B, 1, H, W) float in {0, 1}.
    config : LossConfig
        Weights.
    wanted : Tensor, optional
        As ``target``: what the mask shall be where that is not all of the ground truth, because
        the prompt was corrected. The prompt that the model proposes is held against ``target``.

    Returns
    -------
    dict of str to Tensor
        ``"mask"``, ``"prompt"`` and their weighted sum ``"total"``: scalars.
    """
    height, width = target.shape[-2:]
    logits = upsample_logits(output.mask_logits.float(), (height, width))
    mask = mask_loss(logits, target if wanted is None else wanted, config)
    if output.prompt_logits is None:
        return {"total": mask, "mask": mask}
    cell = height // output.prompt_logits.shape[-2]
    prompt = F.binary_cross_entropy_with_logits(
        output.prompt_logits.float(), prompt_target(target, cell)
    )
    return {"total": mask + config.prompt_weight * prompt, "mask": mask, "prompt": prompt}

"""What a model returns, and how a mask gets back to the size of its image."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class ModelOutput(NamedTuple):
    """Result of one forward pass; h = ceil(H/16), w = ceil(W/16).

    Attributes
    ----------
    mask_logits : Tensor
        (B, 1, 4h, 4w): one logit per 4 x 4 input pixels. (A network of another kind may return
        one per pixel, (B, 1, 16h, 16w): :func:`upsample_logits` takes both.)
    prompt_logits : Tensor or None
        (B, 1, ceil(h/2), ceil(w/2)) logits of the self-patch prompt; None for Med-FastSAM.
    embedding : Tensor
        (B, C, h, w) image embedding.
    """

    mask_logits: Tensor
    prompt_logits: Tensor | None
    embedding: Tensor


class Features(NamedTuple):
    """All that decoding needs, and that does not change when a prompt is edited.

    Attributes
    ----------
    embedding : Tensor
        (B, C, h, w) image embedding.
    prompt : Tensor
        The model's own proposal: SPPG logits (B, 1, gh, gw) for ESP-MedSAM, the coarse Otsu mask
        {0, 1} (B, 1, H, W) for Med-FastSAM.
    skips : tuple of Tensor
        Fine-grained maps for the decoder; empty for ESP-MedSAM.
    """

    embedding: Tensor
    prompt: Tensor
    skips: tuple[Tensor, ...] = ()


def upsample_logits(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize mask logits to the input grid (ESP-MedSAM eq. 8: logits first, sigmoid after).

    Parameters
    ----------
    mask_logits : Tensor
        (B, 1, 4h, 4w), or (B, 1, 16h, 16w) where there is nothing left to enlarge.
    size : tuple of int
        (H, W) of the model's input in pixels.

    Returns
    -------
    Tensor
        (B, 1, H, W), bilinear, ``align_corners=False``. Where H or W is no multiple of 16, the
        part of the decoder's grid that lies beyond the image is cut off.
    """
    factor = 16 * -(-size[0] // 16) // mask_logits.shape[-2]
    if factor > 1:
        mask_logits = F.interpolate(
            mask_logits, scale_factor=float(factor), mode="bilinear", align_corners=False
        )
    return mask_logits[..., : size[0], : size[1]]

"""Coarse prompt: an Otsu threshold on the grey image, and its encoding for the decoder.

Med-FastSAM section 3.2, eq. 6-10.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.layers import LayerNorm2d

LEVELS = 256
# ITU-R BT.601, rounded as torchvision does: the authors' masks are reproduced to the pixel.
_RED, _GREEN, _BLUE = 0.2989, 0.587, 0.114

OtsuLevels = Literal["image", "unit"]


def luma(images: Tensor) -> Tensor:
    """Grey value (B, 1, H, W) of RGB images (B, 3, H, W), in the images' own range."""
    return _RED * images[:, 0:1] + _GREEN * images[:, 1:2] + _BLUE * images[:, 2:3]


def grey_range(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each image (B, 1, H, W), each (B, 1, 1, 1)."""
    return grey.amin(dim=(1, 2, 3), keepdim=True), grey.amax(dim=(1, 2, 3), keepdim=True)


def histograms(grey: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Counts of ``LEVELS`` equal bins between ``low`` and ``high``: (B, LEVELS) float64, CPU."""
    scale = torch.where(high > low, high - low, torch.ones_like(high))
    bins = ((grey - low) / scale * LEVELS).long().clamp(0, LEVELS - 1)
    batch = len(grey)
    offset = torch.arange(batch, device=grey.device).view(-1, 1, 1, 1) * LEVELS
    counts = torch.bincount((bins + offset).flatten(), minlength=batch * LEVELS)
    # 256 numbers an image: float64 is exact enough for ties and not every device has it.
    return counts.view(batch, LEVELS).cpu().double()


def best_level(counts: Tensor) -> Tensor:
    """Eq. 7-8: last level of the lower class, for histograms (B, LEVELS); (B,) int64.

    The between-class variance is 0, not NaN, where one class is empty.
    """
    share = counts / counts.sum(dim=1, keepdim=True)
    weight = share.cumsum(dim=1)
    moment = (share * torch.arange(LEVELS, dtype=share.dtype)).cumsum(dim=1)
    between = (moment[:, -1:] * weight - moment) ** 2
    spread = weight * (1 - weight)
    usable = spread > 1e-12
    variance = torch.where(usable, between / spread.clamp_min(1e-12), torch.zeros_like(between))
    return variance.argmax(dim=1)


def otsu_threshold(grey: Tensor, levels: OtsuLevels = "image") -> Tensor:
    """Otsu's threshold t* of each image: foreground is where ``grey >= t*`` (eq. 6-9).

    Parameters
    ----------
    grey : Tensor
        (B, 1, H, W) float in [0, 1], before any mean/std normalisation.
    levels : {"image", "unit"}
        256 grey levels over each image's own range, or over [0, 1] with t* = level / 255 as in
        the authors' code.

    Returns
    -------
    Tensor
        (B, 1, 1, 1), same unit as ``grey``. For a constant image it is that constant.
    """
    low, high = grey_range(grey)
    constant = high <= low
    lower, upper = low, high
    if levels == "unit":
        lower, upper = torch.zeros_like(low), torch.ones_like(high)
    level = best_level(histograms(grey, lower, upper)).to(grey.device).view(-1, 1, 1, 1)
    if levels == "unit":
        threshold = level.to(grey.dtype) / (LEVELS - 1)
    else:
        threshold = lower + (level + 1).to(grey.dtype) / LEVELS * (upper - lower)
    return torch.where(constant, low, threshold)


def coarse_mask(images: Tensor, levels: OtsuLevels = "image") -> Tensor:
    """Coarse segmentation C of eq. 9.

    Parameters
    ----------
    images : Tensor
        (B, 3, H, W) float in [0, 1], **not** mean/std normalised.
    levels : {"image", "unit"}
        See :func:`otsu_threshold`.

    Returns
    -------
    Tensor
        (B, 1, H, W) in {0, 1}, dtype of ``images``. A constant image has no foreground.
    """
    grey = luma(images)
    low, high = grey_range(grey)
    threshold = otsu_threshold(grey, levels)
    # The authors' level belongs to the lower class, so only what lies above it is foreground.
    above = grey > threshold if levels == "unit" else grey >= threshold
    return (above & (high > low)).to(images.dtype)


def extend_to_grid(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Extend (B, C, H, W) at the bottom and right to (B, C, 16h, 16w) by its last row and column.

    The embedding has ceil(H/16) cells; its last cell may reach beyond the image.
    """
    pad_y, pad_x = 16 * size[0] - x.shape[-2], 16 * size[1] - x.shape[-1]
    return F.pad(x, (0, pad_x, 0, pad_y), mode="replicate") if pad_y or pad_x else x


def mask_prompt_layers(channels: int) -> nn.Sequential:
    """SAM's mask prompt layers: (B, 1, 4h, 4w) to (B, channels, h, w)."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 2, 2),
        LayerNorm2d(4),
        nn.GELU(),
        nn.Conv2d(4, 16, 2, 2),
        LayerNorm2d(16),
        nn.GELU(),
        nn.Conv2d(16, channels, 1),
    )


class CoarsePromptEncoder(nn.Module):
    """Encode a coarse mask into a dense prompt (eq. 10).

    Parameters
    ----------
    channels : int
        Channels of the embedding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = mask_prompt_layers(channels)

    def forward(self, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """Encode a mask.

        Parameters
        ----------
        mask : Tensor
            (B, 1, H, W) float in [0, 1]: usually binary.
        size : tuple of int
            (h, w) of the embedding, h = ceil(H/16), w = ceil(W/16).

        Returns
        -------
        Tensor
            (B, channels, h, w) dense prompt p.

        Raises
        ------
        InputError
            If the mask does not belong to an embedding of this size.
        """
        self._check(mask, size)
        quarter = F.interpolate(
            extend_to_grid(mask, size),
            size=(4 * size[0], 4 * size[1]),
            mode="bilinear",
            align_corners=False,
        )
        return self.layers(quarter)

    @staticmethod
    def _check(mask: Tensor, size: tuple[int, int]) -> None:
        fits = mask.ndim == 4 and mask.shape[1] == 1
        if not fits or (-(-mask.shape[-2] // 16), -(-mask.shape[-1] // 16)) != tuple(size):
            raise InputError(
                f"The coarse mask has shape {tuple(mask.shape)}, but this embedding of "
                f"{size[0]} x {size[1]} needs (B, 1, H, W) of the image it came from: H in "
                f"{16 * size[0] - 15}..{16 * size[0]}, W in {16 * size[1] - 15}..{16 * size[1]}."
            )

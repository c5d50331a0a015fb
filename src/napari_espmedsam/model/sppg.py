"""Self-patch prompt generator: a coarse grid proposed by the image itself.

ESP-MedSAM section 3.3, eq. 5-6.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.layers import LayerNorm2d


class PatchGenerator(nn.Module):
    """delta in eq. 5: L blocks of (2x2 stride-2 conv, LayerNorm, GELU), then a 1x1 conv.

    Parameters
    ----------
    channels, hidden : int
        Channels of the embedding and of the blocks.
    levels : int
        L; one grid cell covers ``16 * 2**levels`` input pixels.
    """

    def __init__(self, channels: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        blocks: list[nn.Module] = []
        for level in range(levels):
            width = channels if level == 0 else hidden
            blocks.append(
                nn.Sequential(nn.Conv2d(width, hidden, 2, 2), LayerNorm2d(hidden), nn.GELU())
            )
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(hidden if levels else channels, 1, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return prompt logits.

        Parameters
        ----------
        embedding : Tensor
            (B, C, h, w).

        Returns
        -------
        Tensor
            (B, 1, ceil(h / 2**levels), ceil(w / 2**levels)) logits. An odd side is extended by
            its last row or column, so that border cells exist for any image size.
        """
        x = embedding
        for block in self.blocks:
            x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
            x = block(x)
        return self.head(x)


class DensePromptEncoder(nn.Module):
    """Turn a prompt grid into a map that is added to the embedding."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.conv = nn.Conv2d(1, channels, 1)
        self.norm = LayerNorm2d(channels)

    def forward(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """Encode a grid.

        Parameters
        ----------
        grid : Tensor
            (B, 1, gh, gw), values in [0, 1]: usually binary.
        size : tuple of int
            (h, w) of the embedding.

        Returns
        -------
        Tensor
            (B, C, h, w) dense prompt p.
        """
        cells = 2**self.levels
        expected = (-(-size[0] // cells), -(-size[1] // cells))
        if grid.shape[-2:] != expected or grid.shape[1] != 1:
            raise InputError(
                f"The prompt grid has shape {tuple(grid.shape)}, but this embedding of "
                f"{size[0]} x {size[1]} needs (B, 1, {expected[0]}, {expected[1]}): one cell per "
                f"{16 * cells} pixels."
            )
        # All three work on single cells, so it is the same to enlarge the grid after them.
        x = F.gelu(self.norm(self.conv(grid)))
        x = F.interpolate(x, scale_factor=float(cells), mode="nearest")
        return x[..., : size[0], : size[1]]


def binarise(prompt_logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Binary grid of a prompt: sigmoid(logits) >= threshold, as float and without gradient."""
    return (prompt_logits.detach().sigmoid() >= threshold).to(prompt_logits.dtype)


def prompt_target(mask: Tensor, cell: int) -> Tensor:
    """P in eq. 6: a cell is on where its part of the ground truth holds any foreground.

    Parameters
    ----------
    mask : Tensor
        (B, 1, H, W) float in {0, 1}.
    cell : int
        Side of a cell in pixels.

    Returns
    -------
    Tensor
        (B, 1, ceil(H/cell), ceil(W/cell)) float in {0, 1}.
    """
    return F.max_pool2d(mask, cell, cell, ceil_mode=True)

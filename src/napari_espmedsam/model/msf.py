"""Multi-scale feature decoder: one query, plus fine detail straight from the image.

Med-FastSAM section 3.3, eq. 11-13.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.model.coarse_prompt import extend_to_grid
from napari_espmedsam.model.config import MedFastSAMConfig
from napari_espmedsam.model.layers import LayerNorm2d
from napari_espmedsam.model.transformer import (
    FourierPositionEncoding,
    MaskMlp,
    TwoWayTransformer,
)


class PatchDetail(nn.Module):
    """Patch embeddings of the input image at S/4 and S/8 (r_2 and r_1 of eq. 12).

    Parameters
    ----------
    quarter, eighth : int
        Channels at S/4 and S/8.
    """

    def __init__(self, quarter: int, eighth: int) -> None:
        super().__init__()
        self.quarter = nn.Sequential(nn.Conv2d(3, quarter, 4, 4), LayerNorm2d(quarter), nn.GELU())
        self.eighth = nn.Sequential(
            nn.Conv2d(quarter, eighth, 2, 2), LayerNorm2d(eighth), nn.GELU()
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed patches.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised; any H and W.

        Returns
        -------
        tuple of Tensor
            (B, quarter, 4h, 4w) and (B, eighth, 2h, 2w), h = ceil(H/16), w = ceil(W/16).
        """
        size = (-(-images.shape[-2] // 16), -(-images.shape[-1] // 16))
        quarter = self.quarter(extend_to_grid(images, size))
        return quarter, self.eighth(quarter)


class MSFDecoder(nn.Module):
    """Decode a prompted embedding together with the image's detail.

    Parameters
    ----------
    config : MedFastSAMConfig
        Architecture. All tokens take part in the attention; the first mask token is the answer.
    """

    def __init__(self, config: MedFastSAMConfig) -> None:
        super().__init__()
        dim = config.trunk.out_channels
        quarter, eighth = config.detail_channels
        self.iou_token = nn.Parameter(torch.randn(int(config.iou_token), dim) * dim**-0.5)
        self.mask_tokens = nn.Parameter(torch.randn(config.mask_tokens, dim) * dim**-0.5)
        self.position = FourierPositionEncoding(dim)
        self.transformer = TwoWayTransformer(dim, config.decoder)
        self.upscale1 = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2), LayerNorm2d(dim // 4), nn.GELU()
        )
        self.upscale2 = nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2)
        self.detail = config.detail
        if config.detail:
            self.reduce1 = nn.Conv2d(dim // 4 + eighth, dim // 4, 1)
            self.reduce2 = nn.Conv2d(dim // 8 + quarter, dim // 8, 1)
        # Only the first is used; the authors' files carry one per token.
        self.mask_mlps = nn.ModuleList(MaskMlp(dim, dim // 8) for _ in range(config.mask_tokens))

    def forward(self, embedding: Tensor, dense_prompt: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """Return mask logits.

        Parameters
        ----------
        embedding, dense_prompt : Tensor
            (B, C, h, w) each; their sum is attended to.
        skips : tuple of Tensor
            Detail from :class:`PatchDetail`: (B, 32, 4h, 4w) and (B, 64, 2h, 2w); empty for a
            decoder without detail.

        Returns
        -------
        Tensor
            (B, 1, 4h, 4w) logits.
        """
        batch, _, height, width = embedding.shape
        tokens = torch.cat([self.iou_token, self.mask_tokens]).expand(batch, -1, -1)
        queries, image = self.transformer(
            embedding + dense_prompt, self.position(height, width), tokens
        )
        weights = self.mask_mlps[0](queries[:, len(self.iou_token)])
        return torch.einsum("bc,bchw->bhw", weights, self._upscale(image, skips))[:, None]

    def _upscale(self, image: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """Eq. 12: (B, C, h, w) to (B, C/8, 4h, 4w), a reduction after each concatenation."""
        if not self.detail:
            return F.gelu(self.upscale2(self.upscale1(image)))
        quarter, eighth = skips
        x = self.reduce1(torch.cat([self.upscale1(image), eighth], dim=1))
        x = F.gelu(self.upscale2(x))
        return self.reduce2(torch.cat([x, quarter], dim=1))

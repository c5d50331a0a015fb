"""Query-decoupled modality decoder: one private query per modality.

ESP-MedSAM section 3.4, eq. 7-8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_espmedsam.model.config import ESPMedSAMConfig
from napari_espmedsam.model.layers import LayerNorm2d
from napari_espmedsam.model.transformer import (
    FourierPositionEncoding,
    MaskMlp,
    TwoWayTransformer,
)


class QueryDecoupledDecoder(nn.Module):
    """Decode a prompted embedding with the query of each image's modality.

    Parameters
    ----------
    config : ESPMedSAMConfig
        ``queries="isolated"``: only the wanted query enters the transformer, so modalities cannot
        influence each other. ``"joint"``: the whole table does, as in the authors' code.
    """

    def __init__(self, config: ESPMedSAMConfig) -> None:
        super().__init__()
        dim = config.trunk.out_channels
        self.joint = config.queries == "joint"
        self.rows = config.rows
        self.queries = nn.Parameter(torch.randn(config.rows_in_table, dim) * dim**-0.5)
        self.position = FourierPositionEncoding(dim)
        self.transformer = TwoWayTransformer(dim, config.decoder)
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        mlps = 1 if config.mask_mlp == "shared" else len(config.modalities)
        self.mask_mlps = nn.ModuleList(MaskMlp(dim, dim // 8) for _ in range(mlps))

    def forward(self, embedding: Tensor, dense_prompt: Tensor, modality: Tensor) -> Tensor:
        """Return mask logits.

        Parameters
        ----------
        embedding, dense_prompt : Tensor
            (B, C, h, w) each; their sum is h' of the paper.
        modality : Tensor
            (B,) int64.

        Returns
        -------
        Tensor
            (B, 1, 4h, 4w) logits.
        """
        batch = len(embedding)
        rows = torch.tensor(self.rows, device=modality.device)[modality]
        tokens = self.queries.expand(batch, -1, -1) if self.joint else self.queries[rows][:, None]
        queries, image = self._transform(embedding, dense_prompt, tokens)
        wanted = rows if self.joint else torch.zeros_like(rows)
        query = queries[torch.arange(batch, device=rows.device), wanted]
        return self._masks(self._mask_weights(query, modality), image)

    def decode_one(self, embedding: Tensor, dense_prompt: Tensor, modality: int) -> Tensor:
        """Do the same for images of one modality, whose index no tensor holds."""
        row = self.rows[modality]
        table = self.queries if self.joint else self.queries[row : row + 1]
        tokens = table.expand(len(embedding), -1, -1)
        queries, image = self._transform(embedding, dense_prompt, tokens)
        mlp = self.mask_mlps[0 if len(self.mask_mlps) == 1 else modality]
        return self._masks(mlp(queries[:, row if self.joint else 0]), image)

    def _transform(
        self, embedding: Tensor, dense_prompt: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        place = self.position(*embedding.shape[-2:])
        queries, image = self.transformer(embedding + dense_prompt, place, tokens)
        return queries, image

    def _masks(self, weights: Tensor, image: Tensor) -> Tensor:
        """(B, C/8) and (B, C, h, w) to (B, 1, 4h, 4w)."""
        return torch.einsum("bc,bchw->bhw", weights, self.upscale(image))[:, None]

    def _mask_weights(self, query: Tensor, modality: Tensor) -> Tensor:
        """Apply each row's own MLP: (B, C) to (B, C/8)."""
        if len(self.mask_mlps) == 1:
            return self.mask_mlps[0](query)
        return torch.stack(
            [self.mask_mlps[k](q) for k, q in zip(modality.tolist(), query, strict=True)]
        )

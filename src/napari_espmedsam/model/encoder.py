"""Lightweight semi-parameter sharing encoder: one shared trunk, one small bag per modality.

ESP-MedSAM section 3.2.3, eq. 3-4. The trunk is the modality aggregator; the bags are the modality
controller.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from napari_espmedsam.model.config import ESPMedSAMConfig
from napari_espmedsam.model.layers import NormMlp
from napari_espmedsam.model.tiny_vit import BagGroup, BlockBag, TinyViT


class ModalityBlockBag(nn.Module):
    """Key/value tokens, their biases and the expert MLP of one attention block.

    Parameters
    ----------
    dim, heads : int
        Channels and heads of the block.
    tokens : int
        Number z of extra key/value tokens.
    shared : bool
        One tensor serves as key and value (the authors' code) instead of two (eq. 3).
    mlp_ratio : float
        Hidden width of the expert over ``dim``.
    """

    def __init__(self, dim: int, heads: int, tokens: int, shared: bool, mlp_ratio: float) -> None:
        super().__init__()
        shape = (heads, tokens, dim // heads)
        self.key_tokens = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.key_tokens, std=0.02)
        if shared:
            self.value_tokens = self.key_tokens
        else:
            self.value_tokens = nn.Parameter(torch.zeros(shape))
        self.token_biases = nn.Parameter(torch.zeros(tokens))
        self.expert = NormMlp(dim, int(dim * mlp_ratio))
        # A new bag starts as a no-op beside a pretrained trunk.
        nn.init.zeros_(self.expert.fc2.weight)
        nn.init.zeros_(self.expert.fc2.bias)

    def tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys (heads, z, d_head), values (heads, z, d_head) and biases (z,)."""
        return self.key_tokens, self.value_tokens, self.token_biases


class ParameterBag(nn.Module):
    """Everything the encoder holds for one modality (about 3.14 M parameters)."""

    def __init__(self, config: ESPMedSAMConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ModalityBlockBag(
                dim,
                heads,
                config.tokens_per_block,
                config.kv_tokens == "shared",
                config.trunk.mlp_ratio,
            )
            for dim, heads in config.trunk.attention_blocks
        )


class SemiParameterSharingEncoder(nn.Module):
    """Modality aggregator plus K modality bags.

    Parameters
    ----------
    config : ESPMedSAMConfig
        Architecture; ``config.modalities`` fixes the order of the bags.
    """

    def __init__(self, config: ESPMedSAMConfig) -> None:
        super().__init__()
        self.trunk = TinyViT(config.trunk)
        bags = config.modalities if config.bags else ()
        self.bags = nn.ModuleList(ParameterBag(config) for _ in bags)

    def groups(self, modality: Tensor) -> list[BagGroup]:
        """Runs of a batch that is sorted by modality; only the bags that occur are touched."""
        if not self.bags:
            return []
        found, sizes = torch.unique_consecutive(modality, return_counts=True)
        bags = [cast(ParameterBag, self.bags[k]) for k in found.tolist()]
        return [
            BagGroup(size, cast("list[BlockBag]", list(bag.blocks)))
            for size, bag in zip(sizes.tolist(), bags, strict=True)
        ]

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """Embed images, each with the bag of its modality.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised.
        modality : Tensor
            (B,) int64 index into the modalities; the batch may mix them.

        Returns
        -------
        Tensor
            (B, C, ceil(H/16), ceil(W/16)) embedding h.
        """
        # Sorted once here, so that every block takes its groups as views instead of gathering rows.
        order = torch.argsort(modality, stable=True)
        ordered = modality[order]
        if torch.equal(ordered, modality):
            return self.trunk(images, self.groups(modality))
        return self.trunk(images[order], self.groups(ordered))[torch.argsort(order)]

"""Parameters that the authors' checkpoints carry but their forward pass never reads.

They are kept, when a configuration asks for it, so that counts match the published figures and an
imported file loses nothing.
"""

from __future__ import annotations

from torch import nn

from napari_espmedsam.model.coarse_prompt import mask_prompt_layers


class UnusedHeads(nn.Module):
    """TinyViT's ImageNet classifier and SAM's sparse and mask prompt embeddings.

    Parameters
    ----------
    width : int
        Channels of the trunk before the neck.
    channels : int
        Channels of the embedding.
    mask_downscaling : bool
        Include SAM's mask prompt convolutions (ESP-MedSAM); Med-FastSAM uses its own for real.
    """

    def __init__(self, width: int, channels: int, mask_downscaling: bool = True) -> None:
        super().__init__()
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1000)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.no_mask_embed = nn.Embedding(1, channels)
        if mask_downscaling:
            self.mask_downscaling = mask_prompt_layers(channels)

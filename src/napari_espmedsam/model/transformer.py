"""SAM's two-way transformer and random Fourier position encoding, shared by both decoders.

ESP-MedSAM eq. 7 and Med-FastSAM eq. 11, after Kirillov et al., "Segment Anything" (2023).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.model.config import DecoderConfig

CELLS = 1024  # of the image, at a time


class FourierPositionEncoding(nn.Module):
    """Random Fourier features of the cell centres of a grid.

    Parameters
    ----------
    channels : int
        Even number of output channels.
    """

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, channels // 2))

    def forward(self, height: int, width: int) -> Tensor:
        """Return (1, channels, height, width)."""
        kind = {"device": self.frequencies.device, "dtype": self.frequencies.dtype}
        y = (torch.arange(height, **kind) + 0.5) / height  # type: ignore[call-overload]
        x = (torch.arange(width, **kind) + 0.5) / width  # type: ignore[call-overload]
        grid_y, grid_x = torch.meshgrid(2 * y - 1, 2 * x - 1, indexing="ij")
        angles = 2 * math.pi * (torch.stack([grid_x, grid_y], dim=-1) @ self.frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).permute(2, 0, 1)[None]


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its input."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q (B, N, dim) over k and v (B, M, dim) gives (B, N, dim).

        In inference mode, a few tokens and the many cells of an image attend to each other by
        cheaper ways to the same numbers. (Elsewhere gradients and operations are counted.)
        """
        if torch.is_inference_mode_enabled():
            if k.shape[1] == 1:  # the only key gets all attention, whatever the query
                return self.out_proj(self.v_proj(v)).expand(-1, q.shape[1], -1)
            if q.shape[1] * self.heads < self.k_proj.out_features:
                return self._few_queries(q, k, v)
        q, k, v = (
            self._heads(self.q_proj(q)),
            self._heads(self.k_proj(k)),
            self._heads(self.v_proj(v)),
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(-2))

    def _few_queries(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Take projections to the side of the queries, where there is less to project.

        ``q . (W k + b)`` is ``(W' q) . k``, and a number that is the same for all keys, which the
        softmax cancels. ``sum a (W v + b)`` is ``W (sum a v) + b``, as the weights add up to one.
        """
        q = self._heads(self.q_proj(q))  # (B, heads, N, d)
        batch, heads, n, d = q.shape
        by_head = (heads, d, -1)
        asked = torch.einsum("bhnd,hdc->bhnc", q, self.k_proj.weight.view(by_head)) / math.sqrt(d)
        weights = (asked.flatten(1, 2) @ k.transpose(1, 2)).softmax(-1)  # (B, heads * N, M)
        seen = (weights @ v).view(batch, heads, n, -1)
        out = torch.einsum("bhnc,hdc->bnhd", seen, self.v_proj.weight.view(by_head))
        return self.out_proj(out.flatten(2) + self.v_proj.bias)


class TransformerMlp(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (..., dim)."""
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Query self-attention, query-to-image attention, MLP, image-to-query attention (eq. 7)."""

    def __init__(self, dim: int, config: DecoderConfig, first: bool) -> None:
        super().__init__()
        heads, downsample = config.heads, config.attention_downsample
        self.first = first
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = TransformerMlp(dim, config.mlp_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample)

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update queries (B, N, dim) and image keys (B, M, dim)."""
        if self.first:  # the first block has no earlier output to add to
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)
        attended = self.cross_attn_token_to_image(queries + query_pe, keys + key_pe, keys)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))
        placed_queries = queries + query_pe
        if not torch.is_inference_mode_enabled() or keys.device.type != "cpu":
            return queries, self._update(keys, key_pe, placed_queries, queries)
        # Each cell of the image is on its own here: what lies between stays in the cache.
        updated = torch.empty_like(keys)
        parts = (each.split(CELLS, dim=1) for each in (updated, keys, key_pe))
        for into, some, pe in zip(*parts, strict=True):
            into.copy_(self._update(some, pe, placed_queries, queries))
        return queries, updated

    def _update(self, keys: Tensor, key_pe: Tensor, placed: Tensor, queries: Tensor) -> Tensor:
        attended = self.cross_attn_image_to_token(keys + key_pe, placed, queries)
        return self.norm4(keys + attended)


class TwoWayTransformer(nn.Module):
    """A stack of two-way blocks and a final query-to-image attention.

    Parameters
    ----------
    dim : int
        Channels of queries and image embedding.
    config : DecoderConfig
        Depth, heads and MLP width.
    """

    def __init__(self, dim: int, config: DecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, config, i == 0) for i in range(config.depth))
        self.final_attn_token_to_image = Attention(dim, config.heads, config.attention_downsample)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens and image attend to each other.

        Parameters
        ----------
        image : Tensor
            (B, dim, h, w) prompted embedding.
        image_pe : Tensor
            (1, dim, h, w) position encoding.
        tokens : Tensor
            (B, N, dim) queries, which are also their own position encoding.

        Returns
        -------
        tuple of Tensor
            Updated tokens (B, N, dim) and image (B, dim, h, w).
        """
        keys, key_pe = image.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, key_pe)
        attended = self.final_attn_token_to_image(queries + tokens, keys + key_pe, keys)
        queries = self.norm_final_attn(queries + attended)
        return queries, keys.transpose(1, 2).reshape(image.shape)


class MaskMlp(nn.Module):
    """Three-layer perceptron that turns a query into the weights of a per-pixel dot product."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, out_dim)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., out_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)

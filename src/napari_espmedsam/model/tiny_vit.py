"""TinyViT trunk that accepts extra key/value tokens and experts, and the SAM neck.

A modality's parameter bag reaches into both attention and block (ESP-MedSAM eq. 3-4). Parameter
names follow timm's ``tiny_vit`` models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.model.config import TinyViTConfig
from napari_espmedsam.model.layers import (
    ConvNorm,
    LayerNorm2d,
    MBConv,
    NormMlp,
    PatchEmbed,
    PatchMerging,
)


class BlockBag(Protocol):
    """What one modality adds to one attention block."""

    expert: nn.Module

    def tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys (heads, z, d_head), values (heads, z, d_head) and biases (z,)."""
        ...


class BagGroup(NamedTuple):
    """Neighbouring rows of a batch that share one modality."""

    size: int  # number of rows
    bags: Sequence[BlockBag]  # one per attention block, in forward order


def apply_per_group(
    function: Callable[[Tensor, BlockBag], Tensor],
    x: Tensor,
    groups: Sequence[tuple[int, BlockBag]],
) -> Tensor:
    """Apply ``function(rows of x, bag)`` to one group of rows after the other."""
    if len(groups) == 1:
        return function(x, groups[0][1])
    parts = x.split([size for size, _ in groups])
    return torch.cat([function(part, bag) for part, (_, bag) in zip(parts, groups, strict=True)])


def relative_offset_index(window: int) -> Tensor:
    """Index of the (|dy|, |dx|) offset of each pair of window cells: (window**2, window**2)."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y[:, None] - y).abs() * window + (x[:, None] - x).abs()


def partition_windows(x: Tensor, window: int) -> Tensor:
    """Cut (B, H, W, C), H and W multiples of ``window``, into (B * n_windows, window**2, C)."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c).transpose(2, 3)
    return x.reshape(-1, window * window, c)


def merge_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo :func:`partition_windows`: (B * n_windows, window**2, C) to (B, height, width, C)."""
    c = x.shape[-1]
    x = x.view(-1, height // window, width // window, window, window, c).transpose(2, 3)
    return x.reshape(-1, height, width, c)


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Zero-pad (B, H, W, C) at the bottom and right to multiples of ``window``."""
    pad_y, pad_x = -x.shape[1] % window, -x.shape[2] % window
    return F.pad(x, (0, 0, 0, pad_x, 0, pad_y)) if pad_y or pad_x else x


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention with an additive bias: (n, heads, N, d) each, bias (1, heads, N, M)."""
    if bias.requires_grad:
        # The fused kernel has no gradient for its mask and falls back to a slower path.
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class WindowAttention(nn.Module):
    """Pre-norm multi-head attention with TinyViT's relative position bias.

    Parameters
    ----------
    dim, heads, window : int
        Channels, heads, and side of the square window.
    """

    attention_bias_idxs: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.register_buffer("attention_bias_idxs", relative_offset_index(window), persistent=False)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (n, N, 3 * dim), laid out (head, [q, k, v], d), into three (n, heads, N, d)."""
        n, length, _ = qkv.shape
        q, k, v = qkv.view(n, length, self.heads, 3, -1).permute(3, 0, 2, 1, 4)
        return q, k, v

    def position_bias(self) -> Tensor:
        """Relative position bias, (1, heads, N, N)."""
        return self.attention_biases[:, self.attention_bias_idxs][None]

    def forward(self, x: Tensor, bag: BlockBag | None = None) -> Tensor:
        """Attend within windows (n, N, dim), the bag's tokens being extra keys/values (eq. 3)."""
        q, k, v = self.split_heads(self.qkv(self.norm(x)))
        bias = self.position_bias()
        if bag is not None:
            keys, values, token_bias = bag.tokens()
            k = torch.cat([k, keys.to(k.dtype).expand(k.shape[0], -1, -1, -1)], dim=2)
            v = torch.cat([v, values.to(v.dtype).expand(v.shape[0], -1, -1, -1)], dim=2)
            bias = torch.cat([bias, token_bias.expand(*bias.shape[:-1], -1)], dim=-1)
        out = attend(q, k, v, bias.to(q.dtype))
        return self.proj(out.transpose(1, 2).reshape(x.shape))


class TinyViTBlock(nn.Module):
    """Window attention, depthwise convolution, MLP, and the bag's expert beside the MLP (eq. 4)."""

    def __init__(self, dim: int, heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, 1, 1, groups=dim)
        self.mlp = NormMlp(dim, int(dim * mlp_ratio))

    def attend(self, x: Tensor, bag: BlockBag | None = None) -> Tensor:
        """Window attention over a map (B, H, W, C).

        The map is padded before the attention's LayerNorm, so padding acts as live keys: that is
        how the released TinyViT weights were trained.
        """
        _, height, width, _ = x.shape
        padded = pad_to_windows(x, self.window)
        out = self.attn(partition_windows(padded, self.window), bag)
        out = merge_windows(out, self.window, padded.shape[1], padded.shape[2])
        return out[:, :height, :width]

    def convolve(self, x: Tensor) -> Tensor:
        """Depthwise convolution and BatchNorm on a map (B, H, W, C)."""
        return self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def forward(self, x: Tensor, groups: Sequence[tuple[int, BlockBag]] = ()) -> Tensor:
        """Transform a map (B, H, W, C); ``groups`` gives each run of rows its bag."""
        if not groups:
            x = self.convolve(x + self.attend(x))
            return x + self.mlp(x)
        x = self.convolve(x + apply_per_group(self.attend, x, groups))
        return x + self.mlp(x) + apply_per_group(lambda h, bag: bag.expert(h), x, groups)


BlockFactory = Callable[[int, int, int, float], nn.Module]


class PointwisePatchEmbed(nn.Module):
    """LiteMedSAM's stem: two 1x1 convolutions, no stride."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, out_channels // 2)
        self.act = nn.GELU()
        self.conv2 = ConvNorm(out_channels // 2, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, 3, H, W) into (B, out_channels, H, W)."""
        return self.conv2(self.act(self.conv1(x)))


class ConvStage(nn.Module):
    """Stage 0: inverted bottlenecks on (B, C, H, W)."""

    def __init__(self, dim: int, depth: int, mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(MBConv(dim, mlp_ratio) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W)."""
        return self.blocks(x)


class AttentionStage(nn.Module):
    """Patch merging followed by attention blocks."""

    def __init__(
        self, in_dim: int, dim: int, depth: int, stride: int, block: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.downsample = PatchMerging(in_dim, dim, stride)
        self.blocks = nn.ModuleList(block() for _ in range(depth))


class TinyViT(nn.Module):
    """TinyViT without classifier, last merge at stride 1, then SAM's neck.

    Parameters
    ----------
    config : TinyViTConfig
        Shape of the trunk.
    block : callable, optional
        ``block(dim, heads, window, mlp_ratio)`` builds one attention block. It is called as
        ``block(x, groups)`` on (B, H, W, C).
    """

    def __init__(self, config: TinyViTConfig, block: BlockFactory = TinyViTBlock) -> None:
        super().__init__()
        widths = config.widths
        self.patch_embed = (
            PatchEmbed(3, widths[0]) if config.patch_stride == 4 else PointwisePatchEmbed(widths[0])
        )
        stages: list[nn.Module] = [ConvStage(widths[0], config.depths[0], config.mlp_ratio)]
        for s in (1, 2, 3):
            stages.append(
                AttentionStage(
                    widths[s - 1],
                    widths[s],
                    config.depths[s],
                    stride=1 if s == 3 else 2,
                    block=lambda s=s: block(  # type: ignore[misc]
                        widths[s], config.heads[s], config.windows[s], config.mlp_ratio
                    ),
                )
            )
        self.stages = nn.ModuleList(stages)
        channels = config.out_channels
        self.neck = nn.Sequential(
            nn.Conv2d(widths[3], channels, 1, bias=False),
            LayerNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            LayerNorm2d(channels),
        )

    def features(self, images: Tensor, groups: Sequence[BagGroup] = ()) -> Tensor:
        """Return the map before the neck, (B, widths[3], ceil(H/16), ceil(W/16))."""
        x = self.stages[0](self.patch_embed(images))
        number = 0
        for stage in self.stages[1:]:
            x = stage.downsample(x).permute(0, 2, 3, 1)  # type: ignore[operator]
            for block in stage.blocks:  # type: ignore[union-attr]
                x = block(x, [(group.size, group.bags[number]) for group in groups])
                number += 1
            x = x.permute(0, 3, 1, 2)
        return x

    def forward(self, images: Tensor, groups: Sequence[BagGroup] = ()) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised; any H and W.
        groups : sequence of BagGroup
            Consecutive runs of rows and the bags they use; empty for the plain trunk.

        Returns
        -------
        Tensor
            (B, out_channels, ceil(H/16), ceil(W/16)).
        """
        return self.neck(self.features(images, groups))

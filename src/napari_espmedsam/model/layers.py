"""The convolutional parts of TinyViT, and LayerNorm over channels.

They are written here, not taken from timm, because importing timm imports torchvision and with it
Triton; on Mesa's OpenGL that ends the process once a napari window is open. Parameter names are
those of timm's ``tiny_vit`` models, which stay the oracle of the tests.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W); SAM's epsilon of 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then BatchNorm.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels.
    kernel, stride, padding, groups : int
        As in ``nn.Conv2d``.
    """

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        *,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)


class NormMlp(nn.Module):
    """Pre-norm MLP on the last axis; the residual is the caller's."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (..., dim)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class PatchEmbed(nn.Module):
    """Stem: two strided 3x3 convolutions, (B, in, H, W) to (B, out, ceil(H/4), ceil(W/4))."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels // 2, 3, 2, 1)
        self.conv2 = ConvNorm(out_channels // 2, out_channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, in, H, W)."""
        out: Tensor = self.conv2(F.gelu(self.conv1(x)))
        return out


class MBConv(nn.Module):
    """Inverted bottleneck with a residual; starts as GELU of its input (last BatchNorm at 0)."""

    def __init__(self, dim: int, expand_ratio: float) -> None:
        super().__init__()
        hidden = int(dim * expand_ratio)
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, 1, 1, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)
        nn.init.zeros_(self.conv3.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, dim, H, W)."""
        hidden = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(hidden))


class PatchMerging(nn.Module):
    """Narrow the map between two stages: 1x1, depthwise 3x3 with the stride, 1x1."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride, 1, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out_dim, ceil(H/stride), ceil(W/stride))."""
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out

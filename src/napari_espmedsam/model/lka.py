"""LKA-encoder blocks: a distilled branch and a medical branch in every attention and MLP.

Med-FastSAM section 3.1, eq. 2-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from napari_espmedsam.model.layers import NormMlp
from napari_espmedsam.model.tiny_vit import BlockBag, TinyViTBlock, WindowAttention, attend


class GroupAttention(WindowAttention):
    """Window attention of the distilled branch, refined by a medical branch (eq. 2-4).

    Parameters
    ----------
    dim, heads, window : int
        Channels, heads, and side of the square window.
    medical : bool
        False: return the distilled branch alone, as the authors' code does. The parameters of the
        medical branch exist either way.
    """

    def __init__(self, dim: int, heads: int, window: int, medical: bool = True) -> None:
        super().__init__(dim, heads, window)
        self.medical = medical
        self.med_qkv = nn.Linear(dim, 3 * dim)
        self.attention_biases_med = nn.Parameter(torch.zeros(heads, window * window))
        # Values of zero: a new branch starts as a no-op beside a distilled one.
        with torch.no_grad():
            self.med_qkv.weight.view(heads, 3, dim // heads, dim)[:, 2] = 0
            self.med_qkv.bias.view(heads, 3, dim // heads)[:, 2] = 0

    def _branch(self, x: Tensor, qkv: nn.Linear, biases: Tensor) -> Tensor:
        """Attend within windows (n, N, dim) under one branch's own projection and biases."""
        q, k, v = self.split_heads(qkv(x))
        bias = biases[:, self.attention_bias_idxs][None]
        out = attend(q, k, v, bias.to(q.dtype))
        return out.transpose(1, 2).reshape(x.shape)

    def forward(self, x: Tensor, bag: BlockBag | None = None) -> Tensor:
        """Attend within windows (n, N, dim); ``bag`` is not used."""
        del bag
        x = self.norm(x)
        attended = self._branch(x, self.qkv, self.attention_biases)
        if self.medical:
            attended = attended + self._branch(
                x + attended, self.med_qkv, self.attention_biases_med
            )
        return self.proj(attended)


class LKABlock(TinyViTBlock):
    """Group attention, depthwise convolution, and the hybrid expert head (eq. 5).

    Parameters
    ----------
    dim, heads, window : int
        Channels, heads, and side of the square window.
    mlp_ratio : float
        Hidden width of both experts over ``dim``.
    medical_attention : bool
        See :class:`GroupAttention`.
    experts : {"parallel", "sequential"}
        Both experts read the same input (eq. 5), or the second reads what the first has updated
        (the authors' code).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        mlp_ratio: float,
        medical_attention: bool = True,
        experts: Literal["parallel", "sequential"] = "parallel",
    ) -> None:
        super().__init__(dim, heads, window, mlp_ratio)
        self.attn = GroupAttention(dim, heads, window, medical_attention)
        self.parallel = experts == "parallel"
        self.mlp_med = NormMlp(dim, int(dim * mlp_ratio))
        # Like the attention branch, a new expert starts as a no-op.
        nn.init.zeros_(self.mlp_med.fc2.weight)
        nn.init.zeros_(self.mlp_med.fc2.bias)

    def forward(self, x: Tensor, groups: Sequence[tuple[int, BlockBag]] = ()) -> Tensor:
        """Transform a map (B, H, W, C); one set of weights serves all rows of the batch."""
        del groups
        x = self.convolve(x + self.attend(x))
        if self.parallel:
            return x + self.mlp(x) + self.mlp_med(x)
        x = x + self.mlp(x)
        return x + self.mlp_med(x)

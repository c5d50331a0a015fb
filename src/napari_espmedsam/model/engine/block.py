"""An attention block that works in place, on a few windows or tokens at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_espmedsam.model.encoder import ModalityBlockBag
from napari_espmedsam.model.engine.bands import in_pieces
from napari_espmedsam.model.engine.conv import InferenceConv
from napari_espmedsam.model.engine.fold import fold_affine
from napari_espmedsam.model.engine.module import InferenceModule, gelu_
from napari_espmedsam.model.layers import NormMlp
from napari_espmedsam.model.tiny_vit import (
    TinyViTBlock,
    merge_windows,
    pad_to_windows,
    partition_windows,
)

CHUNK = 1024  # tokens: what lies between two linear maps stays in the processor's cache


class InferenceMlp(InferenceModule):
    """:class:`NormMlp` without its norm."""

    def __init__(self, mlp: NormMlp) -> None:
        super().__init__()
        self.fc1, self.fc2 = fold_affine(mlp.norm, mlp.fc1), mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        """Transform normalised (n, dim)."""
        return self.fc2(gelu_(self.fc1(x)))


class InferenceBag(InferenceModule):
    """:class:`ModalityBlockBag` in the layout of :class:`InferenceBlock`."""

    rows: Tensor
    biases: Tensor

    def __init__(self, bag: ModalityBlockBag) -> None:
        super().__init__()
        keys, values, biases = bag.tokens()
        # (z, heads, 2, d): z more rows below the block's own keys and values
        rows = torch.stack([keys, values], dim=2).transpose(0, 1)
        self.register_buffer("rows", rows.detach().contiguous())
        self.register_buffer("biases", biases.detach())
        self.expert = InferenceMlp(bag.expert)


class InferenceBlock(InferenceModule):
    """:class:`TinyViTBlock` for inference; the weights that need no change are taken over."""

    position_bias: Tensor

    def __init__(self, block: TinyViTBlock) -> None:
        super().__init__()
        attention = block.attn
        self.window, self.heads, self.eps = block.window, attention.heads, attention.norm.eps
        # Gathered from its table once, not in every pass.
        self.register_buffer("position_bias", attention.position_bias().detach())
        self.qkv = fold_affine(attention.norm, attention.qkv)
        self.proj = attention.proj
        self.local_conv = InferenceConv(block.local_conv)
        self.mlp = InferenceMlp(block.mlp)

    def forward(self, x: Tensor, groups: Sequence[tuple[int, InferenceBag]] = ()) -> Tensor:
        """Transform a map (B, H, W, C), which is overwritten; each run of rows has its bag."""
        runs: Sequence[tuple[int, InferenceBag | None]] = groups or [(len(x), None)]
        sizes = [size for size, _ in runs]
        for rows, (_, bag) in zip(x.split(sizes), runs, strict=True):
            self.attend(rows, bag)
        x = self.local_conv(x).contiguous()
        for rows, (_, bag) in zip(x.split(sizes), runs, strict=True):
            self.mix(rows, bag)
        return x

    def attend(self, x: Tensor, bag: InferenceBag | None) -> None:
        """Add window attention to (B, H, W, C), some rows of windows at a time."""
        bias = self.position_bias
        if bag is not None:
            bias = torch.cat([bias, bag.biases.expand(*bias.shape[:-1], -1)], dim=-1)
        height, width = x.shape[1:3]
        if in_pieces(x):
            height = self.window * max(1, CHUNK // (self.window * width))
        for band in x.split(height, dim=1):
            padded = pad_to_windows(self._normalise(band), self.window)
            windows = self.attend_windows(partition_windows(padded, self.window), bag, bias)
            added = merge_windows(windows, self.window, padded.shape[1], padded.shape[2])
            band += added[:, : band.shape[1], : band.shape[2]]

    def attend_windows(self, x: Tensor, bag: InferenceBag | None, bias: Tensor) -> Tensor:
        """Attend within normalised windows (n, N, C), the bag's tokens being more keys (eq. 3)."""
        n, length, channels = x.shape
        qkv = self.qkv(x).view(n, length, self.heads, 3, -1)
        q, kv = qkv[..., 0, :], qkv[..., 1:, :]
        if bag is not None:
            kv = torch.cat([kv, bag.rows.to(kv.dtype).expand(n, -1, -1, -1, -1)], dim=1)
        q, k, v = (part.transpose(1, 2) for part in (q, kv[..., 0, :], kv[..., 1, :]))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(out.transpose(1, 2).reshape(n, length, channels))

    def mix(self, x: Tensor, bag: InferenceBag | None) -> None:
        """Add the MLP and the bag's expert to (B, H, W, C), some tokens at a time (eq. 4)."""
        tokens = x.view(-1, x.shape[-1])
        for chunk in tokens.split(CHUNK if in_pieces(x) else len(tokens)):
            normalised = self._normalise(chunk)
            chunk += self.mlp(normalised)
            if bag is not None:
                chunk += bag.expert(normalised)

    def _normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)

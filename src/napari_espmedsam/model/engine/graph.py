"""The encoder of one modality in few large steps: what a graph of it is exported from.

Libraries that compute graphs choose layouts and pieces themselves. So convolutions stay
channels first, 1 x 1 ones included, and an attention block is one product for queries, keys and
values of all tokens, one permutation into windows, and one pair of products for MLP and expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.model.encoder import SemiParameterSharingEncoder
from napari_espmedsam.model.engine.block import InferenceBag, InferenceBlock, InferenceMlp
from napari_espmedsam.model.engine.conv import (
    InferenceMBConv,
    InferencePatchEmbed,
    InferencePatchMerging,
)
from napari_espmedsam.model.engine.module import InferenceModule
from napari_espmedsam.model.tiny_vit import pad_to_windows


def to_graph(encoder: nn.Module, bag: int) -> nn.Module:
    """Turn an encoder into a form to export, of the same results to about 1e-5.

    Parameters
    ----------
    encoder : nn.Module
        Of a model that ``to_inference`` returned. It must not be used any more.
    bag : int
        Index of the modality whose bag is built in; of no effect where there are no bags.

    Returns
    -------
    nn.Module
        From one normalised image (1, 3, H, W) to its embedding, (1, C, ceil(H/16), ceil(W/16)).
    """
    bags: list[InferenceBag | None] = []
    trunk = encoder
    if isinstance(encoder, SemiParameterSharingEncoder):
        trunk = encoder.trunk
        groups = encoder.groups(torch.tensor([bag]))
        bags = [cast(InferenceBag, each) for group in groups for each in group.bags]
    blocks = iter(bags)
    for parent in list(trunk.modules()):
        for name, child in parent.named_children():
            if isinstance(child, InferenceBlock):
                setattr(parent, name, GraphBlock(child, next(blocks, None)))
            elif isinstance(child, InferencePatchEmbed):
                setattr(parent, name, _in_turn(child.conv1.conv, child.conv2.conv))
            elif isinstance(child, InferenceMBConv):
                setattr(parent, name, GraphMBConv(child))
            elif isinstance(child, InferencePatchMerging):
                steps = (as_conv(child.narrow), child.depthwise.conv, as_conv(child.mix))
                setattr(parent, name, _in_turn(*steps))
    return trunk.eval().requires_grad_(False)


def as_conv(linear: nn.Linear) -> nn.Conv2d:
    """1x1 convolution of (B, C, H, W) that does what a linear map does to (B, H, W, C)."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    with torch.no_grad():
        conv.weight.copy_(linear.weight[:, :, None, None])
        conv.bias.copy_(linear.bias)  # type: ignore[union-attr]
    return conv


def _in_turn(first: nn.Conv2d, *others: nn.Conv2d) -> nn.Sequential:
    """Convolutions with GELU between them."""
    steps: list[nn.Module] = [first]
    for conv in others:
        steps += [nn.GELU(), conv]
    return nn.Sequential(*steps)


class GraphMBConv(InferenceModule):
    """:class:`InferenceMBConv` channels first."""

    def __init__(self, block: InferenceMBConv) -> None:
        super().__init__()
        expand, reduce = as_conv(block.expand), as_conv(block.reduce)
        self.steps = _in_turn(expand, block.depthwise.conv, reduce)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, dim, H, W)."""
        return F.gelu(x + self.steps(x))


def join_mlps(mlps: Sequence[InferenceMlp]) -> nn.Sequential:
    """Return the sum of MLPs that read the same (..., dim), as one MLP."""
    dim = mlps[0].fc1.in_features
    hidden = sum(mlp.fc1.out_features for mlp in mlps)
    widen, narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    with torch.no_grad():
        widen.weight.copy_(torch.cat([mlp.fc1.weight for mlp in mlps]))
        widen.bias.copy_(torch.cat([mlp.fc1.bias for mlp in mlps]))
        narrow.weight.copy_(torch.cat([mlp.fc2.weight for mlp in mlps], dim=1))
        narrow.bias.copy_(torch.stack([mlp.fc2.bias for mlp in mlps]).sum(0))
    return nn.Sequential(widen, nn.GELU(), narrow)


class GraphBlock(InferenceModule):
    """:class:`InferenceBlock` with the bag of one modality built in.

    Padding is zeros of queries, keys and values, after their linear map and not before it. What
    the map adds, its bias, must then be nothing: that of the keys shifts all scores of a query
    alike, once the bag's keys are shifted as well, and changes no softmax; that of the values is
    added behind it, since its weights sum to one. Padded queries are dropped.
    """

    extra: Tensor
    scores: Tensor

    def __init__(self, block: InferenceBlock, bag: InferenceBag | None) -> None:
        super().__init__()
        self.window, self.heads, self.eps = block.window, block.heads, block.eps
        channels = block.proj.in_features
        depth = channels // self.heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.local_conv = block.local_conv.conv
        self.mlp = join_mlps([block.mlp] if bag is None else [block.mlp, bag.expert])
        rows = torch.zeros(0, self.heads, 2, depth) if bag is None else bag.rows
        bias = block.position_bias
        if bag is not None:
            bias = torch.cat([bias, bag.biases.expand(*bias.shape[:-1], -1)], dim=-1)
        with torch.no_grad():
            # (heads, [q, k, v], d, ...) to ([q, k, v], heads, d, ...)
            weight = block.qkv.weight.view(self.heads, 3, depth, channels).transpose(0, 1).clone()
            offset = block.qkv.bias.view(self.heads, 3, depth).transpose(0, 1).clone()
            weight[0] *= depth**-0.5
            offset[0] *= depth**-0.5
            self.qkv.weight.copy_(weight.reshape(-1, channels))
            self.qkv.bias.copy_(torch.cat([offset[0].flatten(), torch.zeros(2 * channels)]))
            self.proj.weight.copy_(block.proj.weight)
            self.proj.bias.copy_(block.proj.bias + block.proj.weight @ offset[2].flatten())
            extra = rows.permute(2, 1, 0, 3) - offset[1:, :, None]  # ([k, v], heads, z, d)
        self.register_buffer("extra", extra)
        self.register_buffer("scores", bias.clone())

    def forward(self, x: Tensor, groups: object = ()) -> Tensor:
        """Transform a map (1, H, W, C).

        All but the convolution sees tokens, (1, H * W, C): to a tensor of four axes OpenVINO gives
        an image's layout, and copies it before and after each step that cannot use that one.
        """
        _, height, width, channels = x.shape
        x = x.flatten(1, 2)
        x = x + self.proj(self.attend(self._normalise(x), height, width))
        x = x.view(1, height, width, channels).permute(0, 3, 1, 2)
        x = self.local_conv(x).permute(0, 2, 3, 1).flatten(1, 2)
        x = x + self.mlp(self._normalise(x))
        return x.view(1, height, width, channels)

    def attend(self, x: Tensor, height: int, width: int) -> Tensor:
        """Attend within the windows of normalised tokens (1, height * width, C)."""
        channels = x.shape[-1]
        side, heads = self.window, self.heads
        parts = pad_to_windows(self.qkv(x).view(1, height, width, -1), side)
        rows, columns = parts.shape[1] // side, parts.shape[2] // side
        parts = parts.view(rows, side, columns, side, 3, heads, channels // heads)
        parts = parts.permute(4, 0, 2, 5, 1, 3, 6)  # q, k or v; window; head; cell; depth
        parts = parts.reshape(3, rows * columns, heads, side * side, channels // heads)
        q, k, v = (part.squeeze(0) for part in parts.split(1))
        if self.extra.shape[2]:
            own = self.extra[:, None].expand(-1, len(q), -1, -1, -1)
            k, v = torch.cat([k, own[0]], dim=2), torch.cat([v, own[1]], dim=2)
        out = (q @ k.transpose(-2, -1) + self.scores).softmax(dim=-1) @ v
        out = out.view(rows, columns, heads, side, side, -1).permute(0, 3, 1, 4, 2, 5)
        out = out.reshape(1, rows * side, columns * side, channels)
        return out[:, :height, :width].flatten(1, 2)

    def _normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)

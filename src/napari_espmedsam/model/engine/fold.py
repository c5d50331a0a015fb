"""Fold what follows or precedes a linear map with fixed numbers into the map itself."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_espmedsam.model.layers import ConvNorm


def fold_norm(pair: ConvNorm) -> nn.Conv2d:
    """Convolution and BatchNorm (in evaluation mode) as one convolution with a bias."""
    return fuse_conv_bn_eval(pair.conv, pair.bn)


def fold_pointwise(pair: ConvNorm) -> nn.Linear:
    """1x1 convolution and BatchNorm as one linear map over the last axis of (B, H, W, C)."""
    conv = fold_norm(pair)
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
        linear.bias.copy_(conv.bias)  # type: ignore[arg-type]
    return linear


def fold_affine(norm: nn.LayerNorm, linear: nn.Linear) -> nn.Linear:
    """Linear map that reads what ``norm`` has normalised, before its own weight and bias.

    So all readers of one map share one normalisation, and padding with zeros after it is the same
    as before it.
    """
    folded = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        folded.weight.copy_(linear.weight * norm.weight)
        folded.bias.copy_(linear.bias + linear.weight @ norm.bias)
    return folded

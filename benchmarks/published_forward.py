"""ESP-MedSAM computed as its authors' release does it: the yardstick of ``engine.py``.

Channels first, BatchNorm as a step of its own, attention by softmax, padding before everything,
all queries decoded. It reads the weights of our ``esp_medsam_published`` and shares no arithmetic
with it, so it also checks both forms of ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Module = Any  # the parts of our model are reached by name


def published_forward(model: Module, images: Tensor, modality: int) -> tuple[Tensor, Tensor]:
    """Segment images of one modality.

    Parameters
    ----------
    model : ESPMedSAM
        ``esp_medsam_published``.
    images : Tensor
        (B, 3, H, W) float32, normalised, sides multiples of 32.
    modality : int
        Its bag encodes them.

    Returns
    -------
    tuple of Tensor
        Embedding (B, C, H/16, W/16), and the mask logits of all queries, (B, rows, H/4, W/4).
    """
    embedding = encode(model.encoder.trunk, model.encoder.bags[modality].blocks, images)
    on = (patch_logits(model.patch_generator, embedding).sigmoid() >= 0.5).float()
    return embedding, decode(model, embedding, on)


def encode(trunk: Module, bags: Module, images: Tensor) -> Tensor:
    """TinyViT with the bags of one modality, and the neck."""
    stem = trunk.patch_embed
    x = stem.conv2(F.gelu(stem.conv1(images)))
    for block in trunk.stages[0].blocks:
        hidden = F.gelu(block.conv2(F.gelu(block.conv1(x))))
        x = F.gelu(x + block.conv3(hidden))
    number = 0
    for stage in trunk.stages[1:]:
        merge = stage.downsample
        x = merge.conv3(F.gelu(merge.conv2(F.gelu(merge.conv1(x)))))
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        for block in stage.blocks:
            tokens = transform(block, bags[number], tokens, size)
            number += 1
        x = tokens.transpose(1, 2).reshape(len(x), -1, *size)
    first, norm1, second, norm2 = trunk.neck
    return norm_channels(norm2, second(norm_channels(norm1, first(x))))


def transform(block: Module, bag: Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    """One attention block on tokens (B, H * W, C)."""
    batch, length, channels = x.shape
    x = x + window_attention(block, bag, x, size)
    as_map = x.transpose(1, 2).reshape(batch, channels, *size)
    x = block.local_conv(as_map).view(batch, channels, length).transpose(1, 2)
    return x + mlp(block.mlp, x) + mlp(bag.expert, x)


def window_attention(block: Module, bag: Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention within padded windows, the bag's token being one more key and value."""
    (height, width), side = size, block.window
    batch, _, channels = x.shape
    x = F.pad(x.view(batch, height, width, channels), (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    x = x.reshape(-1, side * side, channels)
    attention, heads = block.attn, block.attn.heads
    qkv = attention.qkv(attention.norm(x)).view(len(x), side * side, heads, -1)
    q, k, v = (part.permute(0, 2, 1, 3) for part in qkv.chunk(3, dim=-1))
    keys, values, token_bias = bag.tokens()
    k = torch.cat([k, keys.expand(len(x), -1, -1, -1)], dim=2)
    v = torch.cat([v, values.expand(len(x), -1, -1, -1)], dim=2)
    bias = attention.attention_biases[:, attention.attention_bias_idxs]
    bias = torch.cat([bias, token_bias.expand(*bias.shape[:2], -1)], dim=2)
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias).softmax(dim=-1)
    x = attention.proj((weights @ v).transpose(1, 2).reshape(x.shape))
    x = x.view(batch, rows, columns, side, side, channels).transpose(2, 3)
    x = x.reshape(batch, rows * side, columns * side, channels)
    return x[:, :height, :width].reshape(batch, height * width, channels)


def mlp(module: Module, x: Tensor) -> Tensor:
    """Pre-norm MLP."""
    return module.fc2(F.gelu(module.fc1(module.norm(x))))


def norm_channels(norm: Module, x: Tensor) -> Tensor:
    """LayerNorm over the channels of (B, C, H, W), step by step."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + norm.eps)
    return norm.weight[:, None, None] * x + norm.bias[:, None, None]


def patch_logits(generator: Module, embedding: Tensor) -> Tensor:
    """Logits of the patch grid."""
    x = embedding
    for convolution, norm, _ in generator.blocks:
        x = F.gelu(norm_channels(norm, convolution(x)))
    return generator.head(x)


def decode(model: Module, embedding: Tensor, grid: Tensor) -> Tensor:
    """Mask logits of all queries under a grid."""
    batch, channels, height, width = embedding.shape
    prompt = model.dense_prompt
    enlarged = F.interpolate(grid, size=(height, width), mode="nearest")
    dense = F.gelu(norm_channels(prompt.norm, prompt.conv(enlarged)))
    decoder = model.decoder
    tokens = decoder.queries.expand(batch, -1, -1)
    keys = (embedding + dense).flatten(2).transpose(1, 2)
    place = decoder.position(height, width).flatten(2).transpose(1, 2)
    queries, keys = two_way(decoder.transformer, tokens, keys, place)
    x = keys.transpose(1, 2).reshape(batch, channels, height, width)
    first, norm, _, second, _ = decoder.upscale
    x = F.gelu(second(F.gelu(norm_channels(norm, first(x)))))
    weights = decoder.mask_mlps[0](queries)
    return (weights @ x.flatten(2)).view(batch, -1, 4 * height, 4 * width)


def two_way(
    transformer: Module, tokens: Tensor, keys: Tensor, place: Tensor
) -> tuple[Tensor, Tensor]:
    """SAM's two-way transformer."""
    queries = tokens
    for number, layer in enumerate(transformer.layers):
        asked = queries + tokens if number else queries
        attended = attention(layer.self_attn, asked, asked, queries)
        queries = layer.norm1(queries + attended if number else attended)
        to_image = layer.cross_attn_token_to_image
        queries = queries + attention(to_image, queries + tokens, keys + place, keys)
        queries = layer.norm2(queries)
        queries = layer.norm3(queries + layer.mlp.lin2(F.relu(layer.mlp.lin1(queries))))
        to_token = layer.cross_attn_image_to_token
        keys = keys + attention(to_token, keys + place, queries + tokens, queries)
        keys = layer.norm4(keys)
    final = transformer.final_attn_token_to_image
    queries = queries + attention(final, queries + tokens, keys + place, keys)
    return transformer.norm_final_attn(queries), keys


def attention(module: Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Multi-head attention, all of it written out."""
    projected = (module.q_proj(q), module.k_proj(k), module.v_proj(v))
    q, k, v = (x.unflatten(-1, (module.heads, -1)).transpose(1, 2) for x in projected)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return module.out_proj((weights @ v).transpose(1, 2).flatten(2))

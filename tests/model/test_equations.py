"""Each equation against a plain restatement of it, written here with loops and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.filters import threshold_otsu
from torch import Tensor, nn

from napari_espmedsam.model.coarse_prompt import (
    CoarsePromptEncoder,
    coarse_mask,
    luma,
    otsu_threshold,
)
from napari_espmedsam.model.encoder import ModalityBlockBag
from napari_espmedsam.model.lka import GroupAttention, LKABlock
from napari_espmedsam.model.sppg import DensePromptEncoder, binarise, prompt_target
from napari_espmedsam.model.tiny_vit import TinyViTBlock, WindowAttention

Randomise = Callable[[nn.Module, int], None]

DIM, HEADS, WINDOW = 8, 2, 3
CELLS = [(y, x) for y in range(WINDOW) for x in range(WINDOW)]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def attend(
    x: Tensor,
    qkv: nn.Linear,
    biases: Tensor,
    tokens: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """softmax(Q K^T / sqrt(d) + bias) V for one window (N, DIM), head by head, row by row."""
    width = DIM // HEADS
    rows = []
    for head in range(HEADS):
        part = (x @ qkv.weight.T + qkv.bias)[:, 3 * width * head : 3 * width * (head + 1)]
        q, k, v = part[:, :width], part[:, width : 2 * width], part[:, 2 * width :]
        extra = torch.empty(0)
        if tokens is not None:
            k = torch.cat([k, tokens[0][head]])
            v = torch.cat([v, tokens[1][head]])
            extra = tokens[2]
        out = []
        for i, (y, x_) in enumerate(CELLS):
            offsets = [abs(y - b) * WINDOW + abs(x_ - c) for b, c in CELLS]
            scores = k @ q[i] / math.sqrt(width) + torch.cat([biases[head, offsets], extra])
            out.append(torch.softmax(scores, 0) @ v)
        rows.append(torch.stack(out))
    return torch.cat(rows, dim=1)


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * layer.weight + layer.bias


def mlp(module: nn.Module, x: Tensor) -> Tensor:
    """Pre-norm MLP with the exact GELU."""
    hidden = module.fc1(norm(module.norm, x))  # type: ignore[operator,arg-type]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    out: Tensor = module.fc2(hidden)  # type: ignore[operator]
    return out


@pytest.fixture
def bag(randomise: Randomise) -> ModalityBlockBag:
    module = ModalityBlockBag(DIM, HEADS, tokens=2, shared=False, mlp_ratio=4)
    randomise(module, 3)
    return module


def test_esp_eq3_tokens_are_extra_keys_and_values(
    bag: ModalityBlockBag, randomise: Randomise
) -> None:
    attention = WindowAttention(DIM, HEADS, WINDOW)
    randomise(attention, 4)
    x = torch.randn(1, 9, DIM)
    expected = attend(
        norm(attention.norm, x[0]), attention.qkv, attention.attention_biases, bag.tokens()
    )
    close(attention(x, bag)[0], attention.proj(expected))
    assert not torch.allclose(attention(x, bag), attention(x))


def test_esp_eq4_expert_stands_beside_the_mlp(bag: ModalityBlockBag, randomise: Randomise) -> None:
    block = TinyViTBlock(DIM, HEADS, WINDOW, 4)
    randomise(block, 5)
    x = torch.randn(1, WINDOW, WINDOW, DIM)
    attended = block.attn(x.reshape(1, 9, DIM), bag).reshape(x.shape)
    a = block.convolve(x + attended)
    expected = a + mlp(block.mlp, a) + mlp(bag.expert, a)
    close(block(x, [(torch.tensor([0]), bag)]), expected)


def test_shared_token_is_key_and_value() -> None:
    module = ModalityBlockBag(DIM, HEADS, tokens=1, shared=True, mlp_ratio=4)
    keys, values, _ = module.tokens()
    assert keys is values


def test_fast_eq2_to_eq4_medical_branch_sees_the_natural_one(randomise: Randomise) -> None:
    attention = GroupAttention(DIM, HEADS, WINDOW)
    randomise(attention, 6)
    x = torch.randn(1, 9, DIM)
    normed = norm(attention.norm, x[0])
    natural = attend(normed, attention.qkv, attention.attention_biases)
    medical = attend(normed + natural, attention.med_qkv, attention.attention_biases_med)
    close(attention(x)[0], attention.proj(natural + medical))


def test_fast_as_published_returns_the_natural_branch(randomise: Randomise) -> None:
    attention = GroupAttention(DIM, HEADS, WINDOW, medical=False)
    randomise(attention, 6)
    x = torch.randn(1, 9, DIM)
    natural = attend(norm(attention.norm, x[0]), attention.qkv, attention.attention_biases)
    close(attention(x)[0], attention.proj(natural))


def test_fast_eq5_experts_in_parallel_or_in_sequence(randomise: Randomise) -> None:
    block = LKABlock(DIM, HEADS, WINDOW, 4)
    randomise(block, 7)
    x = torch.randn(1, WINDOW, WINDOW, DIM)
    attended = block.attn(x.reshape(1, 9, DIM)).reshape(x.shape)
    e = block.convolve(x + attended)
    close(block(x), e + mlp(block.mlp, e) + mlp(block.mlp_med, e))
    block.parallel = False
    first = e + mlp(block.mlp, e)
    close(block(x), first + mlp(block.mlp_med, first))


def test_new_medical_parts_start_as_a_no_op() -> None:
    block = LKABlock(DIM, HEADS, WINDOW, 4).eval()
    plain = TinyViTBlock(DIM, HEADS, WINDOW, 4).eval()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if "med" not in k})
    x = torch.randn(1, 5, 4, DIM)
    close(block(x), plain(x))
    block(x).square().sum().backward()
    assert isinstance(block.attn, GroupAttention)
    gradient = block.attn.med_qkv.weight.grad
    assert gradient is not None
    # Otherwise the branch could never leave its starting point.
    assert gradient.view(HEADS, 3, -1)[:, 2].abs().sum() > 0


def test_window_padding_is_a_live_key(randomise: Randomise) -> None:
    """A map smaller than its window is padded before the LayerNorm, as TinyViT was trained."""
    block = TinyViTBlock(DIM, HEADS, WINDOW, 4)
    randomise(block, 8)
    x = torch.randn(1, 2, 3, DIM)
    padded = torch.zeros(1, 3, 3, DIM)
    padded[:, :2] = x
    attention = block.attn
    expected = attend(
        norm(attention.norm, padded.reshape(9, DIM)), attention.qkv, attention.attention_biases
    )
    close(block.attend(x).reshape(6, DIM), attention.proj(expected)[:6])


@pytest.mark.parametrize(("height", "width", "cell"), [(64, 96, 32), (70, 33, 32), (40, 48, 16)])
def test_esp_eq6_target_is_the_max_over_each_cell(
    rng: np.random.Generator, height: int, width: int, cell: int
) -> None:
    mask = (rng.random((2, 1, height, width)) > 0.998).astype(np.float32)
    rows, columns = -(-height // cell), -(-width // cell)
    expected = np.zeros((2, 1, rows, columns), np.float32)
    for r in range(rows):
        for c in range(columns):
            part = mask[:, 0, r * cell : (r + 1) * cell, c * cell : (c + 1) * cell]
            expected[:, 0, r, c] = part.max(axis=(1, 2))
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(prompt_target(torch.from_numpy(mask), cell), expected)


def test_binarised_grid_has_no_gradient_and_includes_one_half() -> None:
    logits = torch.tensor([[[[-1e-3, 0.0, 1e-3]]]], requires_grad=True)
    grid = binarise(logits)
    assert grid.tolist() == [[[[0.0, 1.0, 1.0]]]]
    assert not grid.requires_grad


def test_dense_prompt_repeats_each_cell(randomise: Randomise) -> None:
    encoder = DensePromptEncoder(6, levels=1)
    randomise(encoder, 9)
    grid = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    dense = encoder(grid, (3, 4))
    assert dense.shape == (1, 6, 3, 4)
    off, on = dense[0, :, 0, 0], dense[0, :, 0, 2]
    assert not torch.allclose(on, off)
    pattern = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    for y in range(3):
        for x in range(4):
            close(dense[0, :, y, x], on if pattern[y, x] else off)


# Otsu: eq. 6-9


def _blobs(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    base = np.where((y - 30) ** 2 + (x - 30) ** 2 < 300, high, low)
    noise = 0.1 * (high - low) * rng.standard_normal((60, 80))
    return np.clip(base + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (0.35, 0.75), (0.02, 0.05), (0.9, 0.97)])
def test_otsu_agrees_with_scikit_image(rng: np.random.Generator, low: float, high: float) -> None:
    grey = _blobs(rng, low, high)
    actual = otsu_threshold(torch.from_numpy(grey)[None, None]).item()
    bin_width = float(grey.max() - grey.min()) / 256
    assert actual == pytest.approx(threshold_otsu(grey), abs=1.01 * bin_width)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (0.35, 0.75)])
def test_otsu_over_the_unit_range(rng: np.random.Generator, low: float, high: float) -> None:
    grey = _blobs(rng, low, high)
    levels = np.clip((grey * 256).astype(int), 0, 255)
    share = np.bincount(levels.ravel(), minlength=256) / grey.size
    best, best_variance = 0, -1.0
    for t in range(255):  # eq. 7-8, term by term
        weight = share[: t + 1].sum()
        mean = (np.arange(256) * share).sum()
        moment = (np.arange(t + 1) * share[: t + 1]).sum()
        variance = (mean * weight - moment) ** 2 / (weight * (1 - weight) + 1e-9)
        if variance > best_variance + 1e-6:  # levels without pixels tie: the first counts
            best, best_variance = t, variance
    actual = otsu_threshold(torch.from_numpy(grey)[None, None], "unit").item()
    assert actual == pytest.approx(best / 255)


def test_otsu_is_per_image(rng: np.random.Generator) -> None:
    greys = [_blobs(rng, 0.1, 0.3), _blobs(rng, 0.6, 0.9)]
    batch = torch.from_numpy(np.stack(greys))[:, None]
    together = otsu_threshold(batch)
    assert together.shape == (2, 1, 1, 1)
    for k in range(2):
        assert together[k].item() == otsu_threshold(batch[k : k + 1]).item()
    assert together[0] < 0.3 < 0.6 < together[1]


@pytest.mark.parametrize("levels", ["image", "unit"])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_constant_image_has_no_foreground(levels: str, value: float) -> None:
    images = torch.full((1, 3, 32, 32), value)
    threshold = otsu_threshold(luma(images), levels)  # type: ignore[arg-type]
    assert threshold.isfinite().all()
    assert coarse_mask(images, levels).sum() == 0  # type: ignore[arg-type]


def test_coarse_mask_separates_two_values() -> None:
    images = torch.full((1, 3, 32, 32), 0.2)
    images[..., 8:20, 4:9] = 0.3
    mask = coarse_mask(images)
    assert set(mask.flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(mask, (images[:, :1] > 0.25).float(), rtol=0, atol=0)


def test_fast_eq10_encodes_the_mask_at_a_quarter(randomise: Randomise) -> None:
    encoder = CoarsePromptEncoder(6)
    randomise(encoder, 10)
    mask = (torch.rand(1, 1, 48, 64) > 0.5).float()
    # Bilinear reduction by 4 reads the middle 2 x 2 of every 4 x 4.
    quarter = F.avg_pool2d(mask, 2, 1)[..., 1::4, 1::4]
    close(encoder(mask, (3, 4)), encoder.layers(quarter))

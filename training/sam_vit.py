"""SAM's image encoder through timm: the teacher's trunk, plain or with new parts in every block.

ESP-MedSAM section 3.2.1. Importing this module imports timm, and with it Triton; only training may.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer_sam import VisionTransformerSAM, get_decomposed_rel_pos_bias
from torch import Tensor, nn

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.model.checkpoint import first_ten, load_strict
from napari_espmedsam.model.published import read_pickled_state

_PREFIX = "image_encoder."

# SAM was trained with this epsilon; timm's default for these models is 1e-5. Any: timm asks for a
# class, but is content with what it can call.
_LAYER_NORM: Any = partial(nn.LayerNorm, eps=1e-6)


class Variant(NamedTuple):
    """One of the three released sizes: its name in timm, and what tells it from the others."""

    timm_name: str
    width: int
    depth: int


VARIANTS = {
    "sam_vit_b": Variant("samvit_base_patch16.sa1b", 768, 12),
    "sam_vit_l": Variant("samvit_large_patch16.sa1b", 1024, 24),
    "sam_vit_h": Variant("samvit_huge_patch16.sa1b", 1280, 32),
}


def encoder_entries(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Entries of the image encoder in Meta's layout, under timm's names."""
    return {
        key.removeprefix(_PREFIX).replace(".mlp.lin", ".mlp.fc"): value
        for key, value in state.items()
        if key.startswith(_PREFIX)
    }


def deduce_shape(entries: dict[str, Tensor], source: str) -> dict[str, Any]:
    """Arguments of timm's ``VisionTransformerSAM`` that fit these entries.

    Parameters
    ----------
    entries : dict of str to Tensor
        From :func:`encoder_entries`.
    source : str
        Name of the file, for the message.

    Raises
    ------
    CheckpointError
        If the entries that tell the shape are missing.
    """
    needed = [
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.0.attn.rel_pos_h",
        "blocks.0.mlp.fc1.weight",
        "neck.0.weight",
    ]
    missing = [key for key in needed if key not in entries]
    if missing:
        raise CheckpointError(
            f"{source} holds no SAM image encoder in Meta's layout; it lacks "
            f"{first_ten([_PREFIX + key for key in missing])}. Use a sam_vit_*.pth."
        )
    _, grid, _, width = entries["pos_embed"].shape
    depth = len([key for key in entries if key.endswith(".attn.rel_pos_h")])
    # A table of 2 n - 1 offsets serves an attention over n x n cells.
    offsets = [entries.get(f"blocks.{i}.attn.rel_pos_h") for i in range(depth)]
    sides = [grid if table is None else (len(table) + 1) // 2 for table in offsets]
    patch = entries["patch_embed.proj.weight"].shape[-1]
    return {
        "img_size": grid * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // entries["blocks.0.attn.rel_pos_h"].shape[1],
        "mlp_ratio": entries["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "window_size": min(sides),
        "global_attn_indexes": tuple(i for i, side in enumerate(sides) if side == grid),
        "neck_chans": entries["neck.0.weight"].shape[0],
    }


def sam_trunk(**shape: Any) -> VisionTransformerSAM:
    """timm's SAM encoder without a classifier, in eval mode, with fresh weights."""
    return VisionTransformerSAM(
        num_classes=0, use_rel_pos=True, norm_layer=_LAYER_NORM, **shape
    ).eval()


def read_sam(path: Path, kind: str) -> tuple[VisionTransformerSAM, dict[str, Tensor]]:
    """Read a ``sam_vit_*.pth`` of Meta's release.

    Parameters
    ----------
    path : Path
        State dict with ``image_encoder.*`` entries; other entries do not disturb.
    kind : str
        A key of :data:`VARIANTS` to insist on that size, or "sam_vit" for what the file holds.

    Returns
    -------
    tuple of VisionTransformerSAM and dict
        The encoder in eval mode, and all entries of the file.

    Raises
    ------
    CheckpointError
        If the file is unreadable, incomplete, or holds another size.
    """
    state = read_pickled_state(path)
    entries = encoder_entries(state)
    shape = deduce_shape(entries, path.name)
    wanted = VARIANTS.get(kind)
    if wanted and (shape["embed_dim"], shape["depth"]) != (wanted.width, wanted.depth):
        raise CheckpointError(
            f"{path.name} holds an encoder of width {shape['embed_dim']} and depth "
            f"{shape['depth']}; {kind} has {wanted.width} and {wanted.depth}. Change the kind, "
            'or set it to "sam_vit" to take what the file holds.'
        )
    trunk = sam_trunk(**shape)
    load_strict(trunk, entries, path.name)
    return trunk, state


def download_sam(kind: str) -> VisionTransformerSAM:
    """Build a released encoder with the weights of the hub (0.4 to 2.6 GB, fetched once).

    Raises
    ------
    CheckpointError
        If the kind is none of :data:`VARIANTS`, or the hub cannot be reached.
    """
    if kind not in VARIANTS:
        raise CheckpointError(
            f"The hub has no weights for {kind!r}; it has {', '.join(VARIANTS)}. Choose one of "
            "these, or give a file in `weights`."
        )
    name = VARIANTS[kind].timm_name
    try:
        trunk: Any = timm.create_model(name, pretrained=True, num_classes=0, norm_layer=_LAYER_NORM)
    except OSError as error:
        raise CheckpointError(
            f"The weights of {name} could not be fetched: {error}. Go online once, or set "
            f"`weights` to a local {kind}_*.pth."
        ) from error
    sam: VisionTransformerSAM = trunk.eval()
    return sam


class TokenAttention(nn.Module):
    """A frozen attention of timm's SAM with extra key and value tokens beside the image's own.

    Parameters
    ----------
    inner : nn.Module
        timm's ``Attention`` with decomposed relative positions.
    tokens : int
        t, the number of key/value tokens theta in R^{t x d}; they have no position.
    """

    def __init__(self, inner: Any, tokens: int) -> None:
        super().__init__()
        self.inner = inner
        shape = (inner.num_heads, tokens, inner.head_dim)
        self.key_tokens = nn.Parameter(0.02 * torch.randn(shape))
        # Values of zero: only the share of attention that the tokens draw is felt at the start.
        self.value_tokens = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows, or over the whole map: (n, H, W, dim) to the same."""
        n, height, width, _ = x.shape
        heads, size = self.inner.num_heads, (height, width)
        qkv = self.inner.qkv(x).view(n, height * width, 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        table_h, table_w = self.inner.rel_pos_h, self.inner.rel_pos_w
        bias = get_decomposed_rel_pos_bias(q.flatten(0, 1), table_h, table_w, size, size)
        bias = F.pad(bias.unflatten(0, (n, heads)), (0, self.key_tokens.shape[1]))
        k = torch.cat([k, self.key_tokens.to(k.dtype).expand(n, -1, -1, -1)], dim=2)
        v = torch.cat([v, self.value_tokens.to(v.dtype).expand(n, -1, -1, -1)], dim=2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.inner.proj(out.transpose(1, 2).reshape(x.shape))


class ParallelMlp(nn.Module):
    """A frozen MLP and a learnable one beside it on the same input; starts as the frozen one.

    Parameters
    ----------
    inner : nn.Module
        timm's ``Mlp``.
    dim, hidden : int
        Channels, and hidden width of the new MLP.
    """

    def __init__(self, inner: nn.Module, dim: int, hidden: int) -> None:
        super().__init__()
        self.inner = inner
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (..., dim)."""
        return self.inner(x) + self.fc2(F.gelu(self.fc1(x)))


class SamEncoder(nn.Module):
    """SAM's image encoder as a teacher: frozen, optionally with new learnable parts.

    Parameters
    ----------
    trunk : VisionTransformerSAM
        From :func:`read_sam`, :func:`download_sam` or :func:`sam_trunk`. It is frozen, and
        changed in place if parts are added.
    tokens : int
        Key/value tokens per attention layer; 0: none, and no parallel MLPs (F_ViT-SAM).
    mlp_ratio : float
        Hidden width of each parallel MLP over the channels.
    """

    #: Pixels per cell of the embedding.
    stride = 16

    def __init__(self, trunk: VisionTransformerSAM, tokens: int = 0, mlp_ratio: float = 4) -> None:
        super().__init__()
        self.trunk: Any = trunk.requires_grad_(False)
        self.channels: int = trunk.num_features
        if tokens:
            dim = trunk.embed_dim
            # timm's blocks cut the windows and add the residuals; only their two parts change.
            blocks: Any = trunk.blocks
            for block in blocks:
                block.attn = TokenAttention(block.attn, tokens)
                block.mlp = ParallelMlp(block.mlp, dim, int(dim * mlp_ratio))

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images (B, 3, H, W), H and W multiples of 16: (B, C, H/16, W/16).

        Position embeddings are resampled where the size is not the one of the pretraining.
        """
        return self.trunk.forward_features(images)

"""Encoders that teach: SAM's or LiteMedSAM's, frozen, as one interface.

ESP-MedSAM section 3.2.1. Alone, such an encoder is F_ViT-SAM; training/teacher.py adds what makes
it F_ViT-Med.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import Triple, load_strict
from napari_espmedsam.model.config import (
    DecoderConfig,
    ESPMedSAMConfig,
    FrozenModel,
    TinyViTConfig,
)
from napari_espmedsam.model.encoder import ParameterBag
from napari_espmedsam.model.published import read_pickled_state
from napari_espmedsam.model.tiny_vit import BagGroup, BlockBag, TinyViT
from training.warm_start import litemedsam_path, litemedsam_trunk


class MedicalConfig(FrozenModel):
    """What F_ViT-Med adds to a frozen encoder."""

    #: t: key/value tokens per attention layer.
    tokens_per_block: int = Field(default=1, ge=1)
    #: Hidden width of every parallel MLP over the channels of its block.
    mlp_ratio: float = Field(default=4.0, gt=0)
    #: SPPG, as in the student.
    prompt_levels: int = Field(default=1, ge=1, le=5)
    prompt_hidden: int = Field(default=64, ge=1)
    decoder: DecoderConfig = DecoderConfig()


class TeacherSpec(FrozenModel):
    """Which teacher."""

    #: "sam_vit_b", "_l", "_h": SAM's encoder, from `weights` or the hub. "sam_vit": whichever size
    #: `weights` holds. "litemedsam": LiteMedSAM's, from `weights` or the package that ships it.
    kind: Literal["sam_vit_b", "sam_vit_l", "sam_vit_h", "sam_vit", "litemedsam"] = "litemedsam"
    #: ``sam_vit_*.pth`` in Meta's layout, or ``lite_medsam.pth``.
    weights: Path | None = None
    #: Trained medical parts (``adapted.safetensors``). None: the frozen encoder alone.
    adapted: Path | None = None
    #: Side of the square input in pixels; None: 1024 for SAM, 256 for LiteMedSAM.
    size: int | None = Field(default=None, ge=32, multiple_of=32)
    #: Of the embeddings that are distilled.
    precision: Literal["float32", "bfloat16"] = "float32"
    #: Shape of new medical parts; trained ones bring their own.
    medical: MedicalConfig = MedicalConfig()
    #: Shape of LiteMedSAM's trunk.
    trunk: TinyViTConfig = TinyViTConfig(patch_stride=1)

    @model_validator(mode="after")
    def _weights_tell_the_size(self) -> TeacherSpec:
        if self.kind == "sam_vit" and self.weights is None:
            raise ValueError('kind "sam_vit" takes its size from `weights`, which is missing')
        return self

    @property
    def side(self) -> int:
        """Side of the square input in pixels."""
        return self.size or (256 if self.kind == "litemedsam" else 1024)

    @property
    def normalisation(self) -> tuple[Triple, Triple]:
        """Mean and deviation that images in [0, 1] are normalised by."""
        if self.kind == "litemedsam":  # trained on images in [0, 1] as they are
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LiteMedSAMEncoder(nn.Module):
    """LiteMedSAM's trunk as a teacher: frozen, optionally with one learnable parameter bag.

    Parameters
    ----------
    config : TinyViTConfig
        Shape of the trunk.
    state : mapping of str to Tensor
        Entries of the released file.
    tokens : int
        Key/value tokens per attention layer; 0: none, and no parallel MLPs.
    mlp_ratio : float
        Hidden width of each parallel MLP over the channels.
    """

    #: Pixels per cell of the embedding.
    stride = 4

    def __init__(
        self,
        config: TinyViTConfig,
        state: Mapping[str, Tensor],
        tokens: int = 0,
        mlp_ratio: float = 4,
    ) -> None:
        super().__init__()
        self.channels = config.out_channels
        self.trunk = TinyViT(config)
        load_strict(self.trunk, litemedsam_trunk(dict(state)), "LiteMedSAM's encoder")
        self.trunk.requires_grad_(False).eval()
        self.bag = None
        if tokens:
            # Blocks and bags do not depend on the stem, which a whole model needs strided.
            shape = {"patch_stride": 4, "mlp_ratio": mlp_ratio}
            self.bag = ParameterBag(
                ESPMedSAMConfig(
                    trunk=config.model_copy(update=shape),
                    tokens_per_block=tokens,
                )
            )

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images (B, 3, H, W): (B, C, ceil(H/4), ceil(W/4))."""
        if self.bag is None:
            return self.trunk(images)
        blocks = cast("list[BlockBag]", list(self.bag.blocks))
        return self.trunk(images, [BagGroup(len(images), blocks)])


def read_encoder(spec: TeacherSpec, medical: bool) -> tuple[Any, dict[str, Tensor]]:
    """Encoder of a teacher, and all entries of the file it came from (none from the hub)."""
    tokens = spec.medical.tokens_per_block if medical else 0
    ratio = spec.medical.mlp_ratio
    if spec.kind == "litemedsam":
        state = read_pickled_state(spec.weights or litemedsam_path())
        return LiteMedSAMEncoder(spec.trunk, state, tokens, ratio), state
    # timm is slow to import and brings Triton.
    from training.sam_vit import SamEncoder, download_sam, read_sam

    if spec.weights is None:
        trunk, state = download_sam(spec.kind), {}
    else:
        trunk, state = read_sam(spec.weights, spec.kind)
    return SamEncoder(trunk, tokens, ratio), state


def digest(entries: Iterable[tuple[str, Tensor]], settings: Mapping[str, Any]) -> str:
    """sha256 over named tensors and settings."""
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(entries, key=lambda entry: entry[0]):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


class EncoderTeacher(nn.Module):
    """An encoder that embeds images; without medical parts it is F_ViT-SAM.

    Parameters
    ----------
    encoder : nn.Module
        ``SamEncoder`` or :class:`LiteMedSAMEncoder`.
    spec : TeacherSpec
        Where it comes from.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Any, spec: TeacherSpec) -> None:
        super().__init__()
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.spec = spec
        self.name = f"{spec.kind} {spec.side} px"
        self.size = spec.side
        for name, values in zip(("mean", "std"), spec.normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> EncoderTeacher:
        """Set the mode of the new parts; the frozen trunk always stays as in inference."""
        super().train(mode)
        self.encoder.trunk.eval()
        return self

    @property
    def fingerprint(self) -> str:
        """sha256 over the encoder's weights, input size and precision."""
        settings = {"kind": self.spec.kind, "size": self.size, "precision": self.spec.precision}
        return digest(self.encoder.state_dict().items(), settings)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Embed images on the teacher's device.

        Parameters
        ----------
        images : Tensor
            (B, 3, size, size) float32 in [0, 1].

        Returns
        -------
        Tensor
            (B, C, size / stride, size / stride) float32.

        Raises
        ------
        InputError
            If the shape is another.
        """
        if images.ndim != 4 or images.shape[1:] != (3, self.size, self.size):
            raise InputError(
                f"The teacher {self.name} got images of shape {tuple(images.shape)}; resize them "
                f"to (B, 3, {self.size}, {self.size})."
            )
        device = self.mean.device
        x = (images.to(device) - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        half = self.spec.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            embedding: Tensor = self.encoder(x)
        return embedding.float()

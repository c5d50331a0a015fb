"""Architectures as data: every number that shapes a model, validated, and stored in its checkpoint.

An unknown key is an error, so that a misspelt setting never falls back to a default in silence.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Modality order of the authors' released ESP-MedSAM code (rows of its query table).
PUBLISHED_MODALITIES = (
    "dermoscopy",
    "xray",
    "ultrasound",
    "fundus",
    "microscopy",
    "colonoscopy",
)


# A configuration may come from a file of anybody. The limits lie far above every useful model and
# keep one that is absurd from being built at all.
Channels = Annotated[int, Field(ge=1, le=8192)]
Depth = Annotated[int, Field(ge=0, le=32)]
Heads = Annotated[int, Field(ge=1, le=128)]
Window = Annotated[int, Field(ge=1, le=32)]
Level = Annotated[float, Field(ge=-1e6, le=1e6)]


class FrozenModel(BaseModel):
    """Base of all configurations: immutable, finite, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TinyViTConfig(FrozenModel):
    """Shape of the TinyViT trunk and SAM neck; the defaults are TinyViT-5M at stride 16."""

    widths: tuple[Channels, Channels, Channels, Channels] = (64, 128, 160, 320)
    depths: tuple[Depth, Depth, Depth, Depth] = (2, 2, 6, 2)
    heads: tuple[Heads, Heads, Heads, Heads] = (2, 4, 5, 10)
    windows: tuple[Window, Window, Window, Window] = (7, 7, 14, 7)
    mlp_ratio: float = Field(default=4.0, gt=0, le=16)
    #: 4: two strided 3x3 convolutions (TinyViT). 1: two 1x1 convolutions (LiteMedSAM, 256 px in).
    patch_stride: Literal[4, 1] = 4
    #: Channels of the embedding after the neck.
    out_channels: Channels = 256

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> TinyViTConfig:
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"width {width} is not divisible by {heads} heads")
        return self

    @property
    def attention_blocks(self) -> tuple[tuple[int, int], ...]:
        """(width, heads) of every attention block, in forward order (stage 0 has none)."""
        stages = zip(self.widths[1:], self.heads[1:], self.depths[1:], strict=True)
        return tuple((width, heads) for width, heads, depth in stages for _ in range(depth))


class DecoderConfig(FrozenModel):
    """Shape of SAM's two-way transformer and of the mask upscaling."""

    depth: int = Field(default=2, ge=1, le=32)
    heads: Heads = 8
    mlp_dim: int = Field(default=2048, ge=1, le=65536)
    #: The cross attentions work in ``channels / attention_downsample`` dimensions.
    attention_downsample: int = Field(default=2, ge=1, le=64)


def check_whole(trunk: TinyViTConfig, decoder: DecoderConfig) -> None:
    """Refuse a trunk and a decoder that make no whole model."""
    if trunk.patch_stride != 4:  # LiteMedSAM's stem; prompts and masks count on stride 16
        raise ValueError(f"trunk.patch_stride is {trunk.patch_stride}; a whole model needs 4")
    channels = trunk.out_channels
    if channels < 8 or channels % 2:  # masks have an eighth of them, positions sines and cosines
        raise ValueError(f"trunk.out_channels is {channels}; a whole model needs an even 8 or more")
    for width in (channels, channels // decoder.attention_downsample):
        if width < decoder.heads or width % decoder.heads:
            raise ValueError(f"attention over {width} channels does not fit {decoder.heads} heads")


class ESPMedSAMConfig(FrozenModel):
    """ESP-MedSAM: semi-parameter sharing encoder, SPPG and QDMD."""

    modalities: tuple[str, ...] = Field(default=PUBLISHED_MODALITIES, max_length=256)
    trunk: TinyViTConfig = TinyViTConfig()
    decoder: DecoderConfig = DecoderConfig()
    #: eq. 3 has separate key and value tokens; the authors' code uses one tensor for both.
    kv_tokens: Literal["separate", "shared"] = "separate"
    tokens_per_block: int = Field(default=1, ge=1, le=1024)
    #: SPPG: number of stride-2 blocks (one grid cell covers 16 * 2**levels pixels), their width.
    prompt_levels: int = Field(default=1, ge=0, le=5)
    prompt_hidden: Channels = 64
    #: Feed the probability itself, not its binarised grid, to the dense prompt encoder.
    soft_prompt: bool = False
    #: "isolated": only the wanted query enters the transformer. "joint": all rows attend.
    queries: Literal["isolated", "joint"] = "isolated"
    #: Row of the query table used by each modality; None: one row per modality, in order.
    query_rows: tuple[int, ...] | None = None
    #: Rows of the query table; None: as many as modalities. The authors' table has 7.
    query_count: int | None = Field(default=None, ge=1, le=4096)
    #: eq. 8 reads one MLP per modality; the authors' code shares one.
    mask_mlp: Literal["private", "shared"] = "private"
    #: One parameter bag per modality. False (ablation): the aggregator alone serves them all.
    bags: bool = True
    #: "none" (ablation): no SPPG; the decoder gets SAM's no-mask embedding.
    prompt: Literal["self_patch", "none"] = "self_patch"
    #: Values of the cells that a user switched off and on. A decoder that was trained on
    #: corrections tells them from its own 0 and 1.
    correction_levels: tuple[Level, Level] = (0.0, 1.0)
    #: Keep the parameters that the authors' files carry but their forward pass never uses.
    unused_heads: bool = False

    @model_validator(mode="after")
    def _modalities_and_queries_fit(self) -> ESPMedSAMConfig:
        check_whole(self.trunk, self.decoder)
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities must be distinct and at least one, got {self.modalities}")
        if len(self.rows) != len(self.modalities):
            raise ValueError(f"{len(self.rows)} query_rows for {len(self.modalities)} modalities")
        if min(self.rows) < 0 or max(self.rows) >= self.rows_in_table:
            raise ValueError(f"query_rows {self.rows} exceed the table of {self.rows_in_table}")
        return self

    @property
    def rows(self) -> tuple[int, ...]:
        """Query row of every modality."""
        if self.query_rows is None:
            return tuple(range(len(self.modalities)))
        return self.query_rows

    @property
    def rows_in_table(self) -> int:
        """Number of rows in the query table."""
        return self.query_count or len(self.modalities)


class MedFastSAMConfig(FrozenModel):
    """Med-FastSAM: LKA-encoder, coarse prompt encoder and MSF-decoder."""

    modalities: tuple[str, ...] = Field(default=("microscopy",), max_length=256)
    trunk: TinyViTConfig = TinyViTConfig()
    decoder: DecoderConfig = DecoderConfig()
    #: Medical branch and expert in every block. False (ablation): plain TinyViT blocks.
    knowledge_aggregation: bool = True
    #: eq. 4 sums both attention branches; the authors' code returns the natural branch alone.
    medical_attention: bool = True
    #: eq. 5 adds both experts in parallel; the authors' code applies them one after the other.
    experts: Literal["parallel", "sequential"] = "parallel"
    #: "none" (ablation): no coarse mask; the decoder gets SAM's no-mask embedding.
    prompt: Literal["otsu", "none"] = "otsu"
    #: Values of the cells that a user switched off and on. A decoder that was trained on
    #: corrections tells them from its own 0 and 1.
    correction_levels: tuple[Level, Level] = (0.0, 1.0)
    #: Otsu's 256 grey levels span each image's own range; the authors' code spans [0, 1].
    otsu_levels: Literal["image", "unit"] = "image"
    #: Detail of the image joins the decoder (eq. 12). False (ablation): SAM's own upscaling.
    detail: bool = True
    #: Channels of the patch embeddings at S/4 and S/8.
    detail_channels: tuple[Channels, Channels] = (32, 64)
    #: Mask tokens and mask MLPs (the authors keep SAM's four); the first one is the answer.
    mask_tokens: int = Field(default=1, ge=1, le=4096)
    #: SAM's extra IoU token, which takes part in the attention.
    iou_token: bool = False
    #: Keep the parameters that the authors' files carry but their forward pass never uses.
    unused_heads: bool = False

    @model_validator(mode="after")
    def _modalities_are_distinct(self) -> MedFastSAMConfig:
        check_whole(self.trunk, self.decoder)
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities must be distinct and at least one, got {self.modalities}")
        return self


ModelConfig = ESPMedSAMConfig | MedFastSAMConfig

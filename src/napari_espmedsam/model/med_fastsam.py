"""Med-FastSAM: LKA-encoder, coarse prompt and multi-scale decoder wired together."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.coarse_prompt import CoarsePromptEncoder, coarse_mask
from napari_espmedsam.model.config import MedFastSAMConfig
from napari_espmedsam.model.lka import LKABlock
from napari_espmedsam.model.msf import MSFDecoder, PatchDetail
from napari_espmedsam.model.no_prompt import NoPrompt, correct_prompt, refuse_prompt
from napari_espmedsam.model.output import Features, ModelOutput
from napari_espmedsam.model.tiny_vit import TinyViT, TinyViTBlock
from napari_espmedsam.model.transformer import MaskMlp
from napari_espmedsam.model.unused import UnusedHeads
from napari_espmedsam.model.validate import check_images, check_modality


class MedFastSAM(nn.Module):
    """SAM distilled to TinyViT, prompted by an Otsu mask of the image itself.

    One set of weights serves all modalities, so ``modality`` is accepted wherever ESP-MedSAM needs
    it, checked, and otherwise ignored.

    Parameters
    ----------
    config : MedFastSAMConfig
        Architecture. The default is the paper's; ``med_fastsam_published`` in the registry is the
        layout of the authors' code.
    """

    prompt_kind: Literal["mask"] = "mask"

    def __init__(self, config: MedFastSAMConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.trunk.out_channels

        def block(dim: int, heads: int, window: int, mlp_ratio: float) -> TinyViTBlock:
            if not config.knowledge_aggregation:
                return TinyViTBlock(dim, heads, window, mlp_ratio)
            return LKABlock(dim, heads, window, mlp_ratio, config.medical_attention, config.experts)

        self.encoder = TinyViT(config.trunk, block)
        self.coarse_prompt = (
            NoPrompt(channels) if config.prompt == "none" else CoarsePromptEncoder(channels)
        )
        if config.detail:
            self.patch_detail = PatchDetail(*config.detail_channels)
        self.decoder = MSFDecoder(config)
        if config.unused_heads:
            self.unused = UnusedHeads(config.trunk.widths[3], channels, mask_downscaling=False)
            self.unused.iou_head = MaskMlp(channels, config.mask_tokens)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of their index."""
        return self.config.modalities

    def encode(self, images: Tensor, modality: Tensor | None = None) -> Tensor:
        """Embed images, (B, 3, H, W) normalised float, into (B, C, ceil(H/16), ceil(W/16)).

        Raises
        ------
        InputError
            If the shapes do not fit or a side is below 32 px.
        """
        check_images(images)
        if modality is not None:
            check_modality(modality, len(images), self.modalities)
        return self.encoder(images)

    def prompt(self, unnormalised: Tensor) -> Tensor:
        """Propose a mask (B, 1, H, W) in {0, 1} for images (B, 3, H, W) in [0, 1] (eq. 9).

        A model without prompts proposes an empty mask.
        """
        check_images(unnormalised)
        if self.config.prompt == "none":
            return torch.zeros_like(unnormalised[:, :1])
        return coarse_mask(unnormalised, self.config.otsu_levels)

    def detail(self, images: Tensor) -> tuple[Tensor, ...]:
        """Fine-grained maps of (B, 3, H, W) normalised images, at S/4 and S/8, if it uses any."""
        return self.patch_detail(images) if self.config.detail else ()

    def decode(self, embedding: Tensor, skips: tuple[Tensor, ...], coarse_mask: Tensor) -> Tensor:
        """Decode an embedding under a coarse mask.

        Parameters
        ----------
        embedding : Tensor
            (B, C, h, w) from :meth:`encode`.
        skips : tuple of Tensor
            From :meth:`detail`.
        coarse_mask : Tensor
            (B, 1, H, W) float in [0, 1]; 1 = look here. Any mask of the image's size will do, the
            model's own or a painted one (``config.correction_levels`` where it was painted).

        Returns
        -------
        Tensor
            (B, 1, 4h, 4w) mask logits.
        """
        height, width = embedding.shape[-2:]
        dense = self.coarse_prompt(coarse_mask.to(embedding.dtype), (height, width))
        return self.decoder(embedding, dense, skips)

    def forward(
        self,
        images: Tensor,
        modality: Tensor | None = None,
        coarse_mask: Tensor | None = None,
        unnormalised: Tensor | None = None,
    ) -> ModelOutput:
        """Segment images.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised, H and W of 32 px and more.
        modality : Tensor, optional
            (B,) int64; checked, otherwise ignored.
        coarse_mask : Tensor, optional
            Replaces the model's own mask; see :meth:`decode`. Where ``unnormalised`` is given
            too it corrects it: pixels below 0 stay as they are, 0 is off, 1 is on.
        unnormalised : Tensor, optional
            (B, 3, H, W) the same images in [0, 1]; needed where no ``coarse_mask`` is given.

        Returns
        -------
        ModelOutput
            Mask logits at S/4, no prompt logits, embedding at S/16.
        """
        refuse_prompt(coarse_mask, self.config.prompt)
        embedding = self.encode(images, modality)
        if coarse_mask is None:
            coarse_mask = self._own_prompt(images, unnormalised)
        elif unnormalised is not None:
            own = self._own_prompt(images, unnormalised)
            coarse_mask = correct_prompt(coarse_mask, own, self.config.correction_levels)
        return ModelOutput(
            self.decode(embedding, self.detail(images), coarse_mask), None, embedding
        )

    def extract(
        self, images: Tensor, modality: Tensor | None = None, unnormalised: Tensor | None = None
    ) -> Features:
        """Do the expensive part once; ``unnormalised`` is what the coarse mask is made from."""
        embedding = self.encode(images, modality)
        return Features(embedding, self._own_prompt(images, unnormalised), self.detail(images))

    def decode_features(
        self, features: Features, modality: Tensor | None = None, prompt: Tensor | None = None
    ) -> Tensor:
        """Do the cheap part: mask logits (B, 1, 4h, 4w) under ``prompt`` or the model's own."""
        del modality
        refuse_prompt(prompt, self.config.prompt)
        mask = features.prompt if prompt is None else prompt
        return self.decode(features.embedding, features.skips, mask)

    def _own_prompt(self, images: Tensor, unnormalised: Tensor | None) -> Tensor:
        if self.config.prompt == "none":
            return self.prompt(images)
        if unnormalised is None:
            raise InputError(
                "Med-FastSAM makes its prompt from the image before mean/std normalisation, but "
                "unnormalised is None. Pass the images scaled to [0, 1], or a coarse_mask."
            )
        if unnormalised.shape != images.shape:
            raise InputError(
                f"unnormalised has shape {tuple(unnormalised.shape)}; it must be that of the "
                f"images, {tuple(images.shape)}."
            )
        return self.prompt(unnormalised)

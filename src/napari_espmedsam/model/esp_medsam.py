"""ESP-MedSAM: encoder, self-patch prompt and decoder wired together."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from napari_espmedsam.model.config import ESPMedSAMConfig
from napari_espmedsam.model.encoder import SemiParameterSharingEncoder
from napari_espmedsam.model.no_prompt import NoPrompt, correct_prompt, refuse_prompt
from napari_espmedsam.model.output import Features, ModelOutput
from napari_espmedsam.model.qdmd import QueryDecoupledDecoder
from napari_espmedsam.model.sppg import DensePromptEncoder, PatchGenerator, binarise
from napari_espmedsam.model.unused import UnusedHeads
from napari_espmedsam.model.validate import check_images, check_modality


class ESPMedSAM(nn.Module):
    """Efficient self-prompting SAM for many modalities.

    Parameters
    ----------
    config : ESPMedSAMConfig
        Architecture. The default is the paper's; ``esp_medsam_published`` in the registry is the
        layout of the authors' code.
    """

    prompt_kind: Literal["grid"] = "grid"

    def __init__(self, config: ESPMedSAMConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.trunk.out_channels
        self.encoder = SemiParameterSharingEncoder(config)
        self.dense_prompt: DensePromptEncoder | NoPrompt
        if config.prompt == "none":
            self.dense_prompt = NoPrompt(channels)
        else:
            self.patch_generator = PatchGenerator(
                channels, config.prompt_hidden, config.prompt_levels
            )
            self.dense_prompt = DensePromptEncoder(channels, config.prompt_levels)
        self.decoder = QueryDecoupledDecoder(config)
        if config.unused_heads:
            self.unused = UnusedHeads(config.trunk.widths[3], channels)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of their index."""
        return self.config.modalities

    @property
    def prompt_cell(self) -> int:
        """Side of one prompt cell in input pixels (32 in the paper)."""
        return int(16 * 2**self.config.prompt_levels)

    def encode(self, images: Tensor, modality: Tensor) -> Tensor:
        """Embed images, (B, 3, H, W) normalised float, into (B, C, ceil(H/16), ceil(W/16)).

        Raises
        ------
        InputError
            If the shapes do not fit or a side is below 32 px.
        """
        check_images(images)
        check_modality(modality, len(images), self.modalities)
        return self.encoder(images, modality)

    def prompt(self, embedding: Tensor) -> Tensor:
        """Propose a prompt grid: logits (B, 1, ceil(h/2), ceil(w/2)) (eq. 5 before the sigmoid).

        A model without prompts proposes an empty grid: minus infinity in every cell.
        """
        if self.config.prompt == "none":
            cell = 2**self.config.prompt_levels
            height, width = (-(-side // cell) for side in embedding.shape[-2:])
            return embedding.new_full((len(embedding), 1, height, width), -torch.inf)
        return self.patch_generator(embedding)

    def decode(self, embedding: Tensor, modality: Tensor, prompt_grid: Tensor) -> Tensor:
        """Decode an embedding under a prompt grid.

        Parameters
        ----------
        embedding : Tensor
            (B, C, h, w) from :meth:`encode`.
        modality : Tensor
            (B,) int64.
        prompt_grid : Tensor
            (B, 1, ceil(h/2), ceil(w/2)) float in [0, 1]; 1 = look here. Any grid will do, the
            model's own or an edited one (``config.correction_levels`` in its edited cells).

        Returns
        -------
        Tensor
            (B, 1, 4h, 4w) mask logits.
        """
        height, width = embedding.shape[-2:]
        dense = self.dense_prompt(prompt_grid.to(embedding.dtype), (height, width))
        return self.decoder(embedding, dense, modality)

    def grid(self, prompt_logits: Tensor) -> Tensor:
        """Grid that the decoder sees for these logits: binary, or soft if so configured."""
        if self.config.soft_prompt:
            return prompt_logits.detach().sigmoid()
        return binarise(prompt_logits)

    def forward(
        self, images: Tensor, modality: Tensor, prompt_grid: Tensor | None = None
    ) -> ModelOutput:
        """Segment images.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised, H and W of 32 px and more.
        modality : Tensor
            (B,) int64 index into :attr:`modalities`; may differ within the batch.
        prompt_grid : Tensor, optional
            Corrects the model's own grid: cells below 0 stay as they are, 0 is off, 1 is on.

        Returns
        -------
        ModelOutput
            Mask logits at S/4, prompt logits at S/32 (None without a generator), embedding at S/16.
        """
        refuse_prompt(prompt_grid, self.config.prompt)
        embedding = self.encode(images, modality)
        prompt_logits = self.prompt(embedding)
        grid = self.grid(prompt_logits)
        if prompt_grid is not None:
            grid = correct_prompt(prompt_grid, grid, self.config.correction_levels)
        mask_logits = self.decode(embedding, modality, grid)
        trained = prompt_logits if self.config.prompt == "self_patch" else None
        return ModelOutput(mask_logits, trained, embedding)

    def extract(
        self, images: Tensor, modality: Tensor, unnormalised: Tensor | None = None
    ) -> Features:
        """Do the expensive part once; ``unnormalised`` is not needed here."""
        del unnormalised
        embedding = self.encode(images, modality)
        return Features(embedding, self.prompt(embedding))

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        """Do the cheap part: mask logits (B, 1, 4h, 4w) under ``prompt`` or the model's own."""
        refuse_prompt(prompt, self.config.prompt)
        grid = self.grid(features.prompt) if prompt is None else prompt
        return self.decode(features.embedding, modality, grid)


def modality_index(modality: str, modalities: tuple[str, ...], batch: int = 1) -> Tensor:
    """Index tensor (batch,) int64 for one modality name."""
    return torch.full((batch,), modalities.index(modality), dtype=torch.int64)

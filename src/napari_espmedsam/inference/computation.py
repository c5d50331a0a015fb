"""The two halves of a model for tiles of one modality: plainly, or as CUDA graphs."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from napari_espmedsam.inference.cuda_graph import Capture, GraphCache
from napari_espmedsam.model.engine.one_modality import (
    AnySAM,
    decode_one,
    encode_one,
    features_of,
    own_prompt,
)
from napari_espmedsam.model.no_prompt import refuse_prompt
from napari_espmedsam.model.output import Features


class Computation(Protocol):
    """What the runner needs of a model on a device."""

    def extract(self, images: Tensor, unnormalised: Tensor, modality: int) -> Features:
        """Encode (B, 3, H, W) images, given normalised and in [0, 1]."""

    def decode(self, features: Features, modality: int, prompt: Tensor | None) -> Tensor:
        """Decode under (B, 1, gh, gw) prompts, or the model's own: (B, 1, 4h, 4w) logits."""

    def release(self) -> None:
        """Give up memory that only saves time."""


class PlainComputation:
    """Calls the model: any model, any device."""

    def __init__(self, model: nn.Module, device: str) -> None:
        self._model, self._device = cast(Any, model), device

    def extract(self, images: Tensor, unnormalised: Tensor, modality: int) -> Features:
        """Encode images."""
        index = self._index(modality, len(images))
        return cast(Features, self._model.extract(images, index, unnormalised))

    def decode(self, features: Features, modality: int, prompt: Tensor | None) -> Tensor:
        """Decode features."""
        index = self._index(modality, len(features.embedding))
        return cast(Tensor, self._model.decode_features(features, index, prompt))

    def release(self) -> None:
        """Nothing is kept."""

    def _index(self, modality: int, batch: int) -> Tensor:
        return torch.full((batch,), modality, device=self._device)


class GraphedComputation:
    """Replays ESP-MedSAM and Med-FastSAM on a CUDA device, once shapes come back.

    Parameters
    ----------
    model : ESPMedSAM or MedFastSAM
        In its inference form, on the device.
    capture : callable, optional
        See :class:`~napari_espmedsam.inference.cuda_graph.GraphCache`.
    """

    def __init__(self, model: AnySAM, capture: Capture | None = None) -> None:
        self._model = model
        self._graphs = GraphCache(capture)

    def extract(self, images: Tensor, unnormalised: Tensor, modality: int) -> Features:
        """Encode images."""
        encoded = self._graphs.run(
            ("encode", modality), lambda given: encode_one(self._model, given, modality), images
        )
        return features_of(self._model, encoded, unnormalised)

    def decode(self, features: Features, modality: int, prompt: Tensor | None) -> Tensor:
        """Decode features."""
        refuse_prompt(prompt, self._model.config.prompt)
        if prompt is None:
            prompt = own_prompt(self._model, features)
        (logits,) = self._graphs.run(
            ("decode", modality),
            lambda *given: decode_one(self._model, modality, *given),
            *(prompt, features.embedding, *features.skips),
        )
        return logits

    def release(self) -> None:
        """Forget the graphs."""
        self._graphs.clear()

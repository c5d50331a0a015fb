"""Decoding without a prompt, for models that are built without their prompt generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError


class NoPrompt(nn.Module):
    """SAM's no-mask embedding: one learned vector in every cell, in place of a dense prompt.

    Parameters
    ----------
    channels : int
        Channels of the embedding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(channels) * channels**-0.5)

    def forward(self, prompt: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, channels, h, w); of ``prompt`` only the batch counts."""
        return self.vector[:, None, None].expand(len(prompt), -1, *size)


def refuse_prompt(prompt: Tensor | None, kind: str) -> None:
    """Raise InputError where a prompt is given to a model that has none (``kind="none"``)."""
    if kind == "none" and prompt is not None:
        raise InputError(
            "A prompt is given, and this model was built without prompts (its prompt setting is "
            "'none'), so it has no effect. Leave it out, or use another model."
        )


def fill_untouched(prompt: Tensor, own: Tensor) -> Tensor:
    """Put the model's own prompt where ``prompt`` is below 0; both (B, 1, H, W).

    A prompt of another shape is handed back as it is, for the decoder to refuse.
    """
    if prompt.shape != own.shape:
        return prompt
    return torch.where(prompt < 0, own, prompt.to(own.dtype))

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


def correct_prompt(corrections: Tensor, own: Tensor, levels: tuple[float, float]) -> Tensor:
    """Put corrections over the model's own prompt.

    Parameters
    ----------
    corrections : Tensor
        (B, 1, H, W), or (1, 1, H, W) for all rows: 0 is off, 1 is on, -1 stays the model's own,
        and -2 is what the model itself would say where it sees nothing.
    own : Tensor
        (B, 1, H, W) in [0, 1]. Corrections of another shape are handed back as they are, for the
        decoder to refuse.
    levels : tuple of float
        What the decoder sees for off and for on.
    """
    if corrections.shape[1:] != own.shape[1:]:
        return corrections
    off, on = levels
    kept = own * (corrections > -1.5)
    return torch.where(corrections < 0, kept, off + corrections.to(own.dtype) * (on - off))

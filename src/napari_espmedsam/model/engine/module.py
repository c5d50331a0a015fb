"""What all parts of the inference form have in common."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError


class InferenceModule(nn.Module):
    """A module without training mode."""

    def train(self, mode: bool = True) -> Self:
        """Refuse training mode: norms are folded, and maps are overwritten.

        Raises
        ------
        InputError
            If ``mode`` is true.
        """
        if mode:
            raise InputError(
                "This is the inference form of a model (to_inference), which cannot be trained. "
                "Train the model that it was made from."
            )
        return super().train(False)


def gelu_(x: Tensor) -> Tensor:
    """Apply GELU in place, which spares a map as large as ``x``, and return ``x``."""
    return torch.ops.aten.gelu_(x)

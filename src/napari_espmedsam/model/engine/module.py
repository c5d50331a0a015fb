"""What all parts of the inference form have in common."""

from __future__ import annotations

from typing import Self

from torch import nn

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

"""Checks of what callers pass to a model."""

from __future__ import annotations

from torch import Tensor

from napari_espmedsam.errors import InputError, ModalityError

MIN_SIDE = 32  # one prompt cell


def check_images(images: Tensor) -> None:
    """Raise InputError unless ``images`` is (B, 3, H, W), float, and at least 32 px a side."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"The model got a tensor of shape {tuple(images.shape)}; it needs (B, 3, H, W). "
            "Repeat a grey image three times along the channel axis."
        )
    if not images.is_floating_point():
        raise InputError(f"The model got {images.dtype} pixels; normalise them to float first.")
    if min(images.shape[-2:]) < MIN_SIDE:
        raise InputError(
            f"The image is {images.shape[-2]} x {images.shape[-1]} px; the smallest side the model "
            f"takes is {MIN_SIDE} px. Enlarge or pad the image."
        )


def check_modality(modality: Tensor, batch: int, modalities: tuple[str, ...]) -> None:
    """Raise unless ``modality`` holds one valid index per image."""
    if tuple(modality.shape) != (batch,) or modality.is_floating_point():
        raise InputError(
            f"modality has shape {tuple(modality.shape)} and type {modality.dtype}; it needs one "
            f"integer for each of the {batch} images."
        )
    if batch and (int(modality.min()) < 0 or int(modality.max()) >= len(modalities)):
        raise ModalityError(
            f"Modality index {modality.tolist()} is outside 0..{len(modalities) - 1}; this model "
            f"knows: {', '.join(modalities)}."
        )

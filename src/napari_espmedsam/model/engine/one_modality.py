"""Both halves of a model for images of one modality, without a step that waits for the device.

Which bag and which query an image needs is read from a tensor elsewhere, and a GPU has to have
finished for that. Here it is a number, so that a GPU can be given all work at once, or a CUDA graph
of it.
"""

from __future__ import annotations

from torch import Tensor

from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import Features
from napari_espmedsam.model.tiny_vit import BagGroup
from napari_espmedsam.model.validate import check_images

AnySAM = ESPMedSAM | MedFastSAM


def encode_one(model: AnySAM, images: Tensor, modality: int) -> tuple[Tensor, ...]:
    """Embed images of one modality.

    Parameters
    ----------
    model : ESPMedSAM or MedFastSAM
        In any form.
    images : Tensor
        (B, 3, H, W) normalised float.
    modality : int
        Its index.

    Returns
    -------
    tuple of Tensor
        For ESP-MedSAM the embedding (B, C, h, w) and the logits of the prompt grid; for
        Med-FastSAM the embedding and the detail for the decoder, whose prompt is none of the
        encoder's business.
    """
    check_images(images)
    if isinstance(model, MedFastSAM):
        return (model.encoder(images), *model.detail(images))
    groups = []
    if model.encoder.bags:
        bag = model.encoder.bags[modality]
        groups = [BagGroup(len(images), list(bag.blocks))]  # type: ignore[arg-type]
    embedding = model.encoder.trunk(images, groups)
    return embedding, model.prompt(embedding)


def features_of(model: AnySAM, encoded: tuple[Tensor, ...], unnormalised: Tensor) -> Features:
    """Complete what :func:`encode_one` returned; the Otsu mask of Med-FastSAM waits for the device.

    Parameters
    ----------
    model : ESPMedSAM or MedFastSAM
        The same.
    encoded : tuple of Tensor
        As returned.
    unnormalised : Tensor
        (B, 3, H, W) the same images in [0, 1].
    """
    if isinstance(model, MedFastSAM):
        return Features(encoded[0], model.prompt(unnormalised), encoded[1:])
    embedding, prompt = encoded
    return Features(embedding, prompt)


def own_prompt(model: AnySAM, features: Features) -> Tensor:
    """Return the prompt that the decoder sees where nobody gives another."""
    return features.prompt if isinstance(model, MedFastSAM) else model.grid(features.prompt)


def decode_one(
    model: AnySAM, modality: int, prompt: Tensor, embedding: Tensor, *skips: Tensor
) -> tuple[Tensor]:
    """Decode images of one modality under a prompt, as ``decode_features`` does.

    Returns
    -------
    tuple of Tensor
        Mask logits (B, 1, 4h, 4w), alone.
    """
    if isinstance(model, MedFastSAM):
        return (model.decode(embedding, skips, prompt),)
    height, width = embedding.shape[-2:]
    dense = model.dense_prompt(prompt.to(embedding.dtype), (height, width))
    return (model.decoder.decode_one(embedding, dense, modality),)

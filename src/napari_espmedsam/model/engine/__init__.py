"""A form of the models that computes the same with less time and memory, and cannot be trained."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar, cast

import torch
from torch import nn

from napari_espmedsam.model.encoder import ModalityBlockBag
from napari_espmedsam.model.engine.block import InferenceBag, InferenceBlock
from napari_espmedsam.model.engine.conv import (
    InferenceMBConv,
    InferencePatchEmbed,
    InferencePatchMerging,
)
from napari_espmedsam.model.engine.fold import fold_norm
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.layers import ConvNorm, MBConv, PatchEmbed, PatchMerging
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.tiny_vit import TinyViTBlock

AnyModel = TypeVar("AnyModel", bound=nn.Module)

#: What takes the place of a part of exactly this type; all else stays.
_FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    ConvNorm: fold_norm,
    MBConv: InferenceMBConv,
    ModalityBlockBag: InferenceBag,
    PatchEmbed: InferencePatchEmbed,
    PatchMerging: InferencePatchMerging,
    TinyViTBlock: InferenceBlock,
}


def to_inference(model: AnyModel) -> AnyModel:
    """Copy a model into the form that images are segmented with.

    BatchNorm is folded into convolutions, the weights of a LayerNorm into what reads it, and the
    encoder's maps are channels last and worked on in pieces, in place. The results are those of
    the model to about 1e-5; ``extract``, ``decode_features``, ``forward`` and the rest of its
    interface stay, its parameters get other names and shapes.

    Parameters
    ----------
    model : nn.Module
        :class:`ESPMedSAM` or :class:`MedFastSAM`; it stays as it is, and shares nothing with the
        copy. (The attention blocks of Med-FastSAM stay in their plain form.) Any other module is
        returned as it is.

    Returns
    -------
    nn.Module
        Float32 in evaluation mode. It cannot be trained: no parameter takes a gradient, and
        ``train()`` raises InputError.
    """
    if not isinstance(model, ESPMedSAM | MedFastSAM):
        return model
    engine: nn.Module = deepcopy(model).float().eval()
    _replace_parts(engine)
    engine = engine.requires_grad_(False).to(memory_format=torch.channels_last)
    return cast(AnyModel, engine)


def _replace_parts(module: nn.Module) -> None:
    for name, child in module.named_children():
        form = _FORMS.get(type(child))
        if form is None:
            _replace_parts(child)
        else:
            setattr(module, name, form(child).eval())

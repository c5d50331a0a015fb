"""Size and cost of a model: parameters and multiply-accumulate operations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_espmedsam.model.config import MedFastSAMConfig, ModelConfig
from napari_espmedsam.model.registry import build


class Part(NamedTuple):
    """Share of one part of a model; see :class:`Complexity`."""

    parameters: int
    macs: int


class Complexity(NamedTuple):
    """What a model costs.

    Attributes
    ----------
    parameters : int
        Shared parameters counted once; buffers are not parameters.
    macs : int
        Multiply-accumulate operations of one forward pass, attention included. What papers call
        FLOPs is often this number; floating-point operations proper are twice as many.
    discarded_macs : int
        What the authors' code computes besides and then drops. We skip it, but their figures
        contain it: compare ``macs + discarded_macs`` with those. 0 for most models.
    parts : dict of str to Part
        The same by part of the model (encoder, prompt, decoder and so on), in order; the parts
        add up to the whole.
    """

    parameters: int
    macs: int
    discarded_macs: int
    parts: dict[str, Part]


def complexity(config: ModelConfig, size: int = 1024) -> Complexity:
    """Count parameters and operations of a model without computing anything.

    The model is built and traced on torch's meta device, so this takes neither the time nor the
    memory of a real pass.

    Parameters
    ----------
    config : ESPMedSAMConfig or MedFastSAMConfig
        See :func:`napari_espmedsam.model.registry.model_config`.
    size : int
        Side of the square input in pixels, 32 and more.
    """
    with torch.device("meta"):
        model = build(config).eval().requires_grad_(False)
        image = torch.empty(1, 3, size, size)
        modality = torch.zeros(1, dtype=torch.int64, device="cpu")
        counter = FlopCounterMode(display=False)
        with counter:
            if isinstance(config, MedFastSAMConfig) and config.prompt == "otsu":
                model(image, modality, coarse_mask=torch.empty(1, 1, size, size))
            else:
                model(image, modality)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    macs = counter.get_total_flops() // 2
    return Complexity(parameters, macs, _discarded(config, size, macs), _parts(model, counter))


def _parts(model: nn.Module, counter: FlopCounterMode) -> dict[str, Part]:
    """Share out parameters and operations among the model's direct children."""
    counts = counter.get_flop_counts()
    parts = {}
    for name, child in model.named_children():
        flops = sum(counts.get(f"{type(model).__name__}.{name}", {}).values())
        parameters = sum(parameter.numel() for parameter in child.parameters())
        parts[name] = Part(parameters, flops // 2)
    return parts


def _discarded(config: ModelConfig, size: int, macs: int) -> int:
    """Operations of Med-FastSAM's dropped attention branch and of its unused masks."""
    if not isinstance(config, MedFastSAMConfig) or config.medical_attention:
        return 0
    if not config.knowledge_aggregation:
        return 0
    branch = complexity(config.model_copy(update={"medical_attention": True}), size).macs - macs
    trunk = config.trunk
    # The authors project that branch once more; windows are padded to full size.
    projection = 0
    for stage, side in ((1, -(-size // 8)), (2, -(-size // 16)), (3, -(-size // 16))):
        padded = -(-side // trunk.windows[stage]) * trunk.windows[stage]
        projection += trunk.depths[stage] * padded**2 * trunk.widths[stage] ** 2
    dim = trunk.out_channels
    mask = (4 * -(-size // 16)) ** 2 * (dim // 8) + dim * dim * 2 + dim * (dim // 8)
    return branch + projection + (config.mask_tokens - 1) * mask

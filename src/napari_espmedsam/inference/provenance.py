"""The record of how labels were made, kept with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch

from napari_espmedsam import __version__
from napari_espmedsam.inference.intensity import IntensityRange
from napari_espmedsam.inference.plan import RunPlan
from napari_espmedsam.inference.prompts import UNTOUCHED

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter


def make_provenance(
    segmenter: Segmenter, plan: RunPlan, intensity: IntensityRange
) -> dict[str, Any]:
    """Describe one run as a dict of plain JSON values.

    Returns
    -------
    dict
        Software, model, settings and input; ``created`` is the UTC time in ISO 8601.
        ``device_note`` says why another device or precision than the one asked for was used, or
        is "". ``edited_cells`` counts the prompt cells that were set by hand, by plane number.
    """
    geometry, stack = plan.geometry, plan.stack
    record = {
        "software": "napari-espmedsam",
        "version": __version__,
        "torch": str(torch.__version__),
        "model": segmenter.name,
        "architecture": segmenter.header.architecture,
        "weights_sha256": segmenter.sha256,
        "weights_licence": segmenter.header.licence,
        "modality": plan.modality,
        "geometry": "whole" if geometry.tile is None else "tiled",
        "scale": geometry.scale,
        "model_shape": list(geometry.model_shape),
        "tile": None if geometry.tile is None else asdict(geometry.tile),
        "post": asdict(plan.post),
        "prompt_threshold": plan.prompt_threshold,
        "edited_cells": {
            str(i): int((plan.edits[i] != UNTOUCHED).sum()) for i in plan.planes if i in plan.edits
        },
        "device": segmenter.device.device,
        "device_note": segmenter.device.note,
        "precision": segmenter.precision,
        "backend": segmenter.computed_by(plan.modality, geometry.grid.tile),
        "intensity": [intensity.low, intensity.high],
        "axes": stack.axes,
        "channel": stack.channel,
        "rgb": stack.rgb,
        "shape": [int(n) for n in stack.array.shape],
        "dtype": str(stack.array.dtype),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Settings may be numpy's numbers, which JSON does not know.
    plain: dict[str, Any] = json.loads(json.dumps(record, default=lambda value: value.item()))
    return plain

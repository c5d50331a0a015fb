"""A model with random weights that runs in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

INPUTS: Mapping[str, Mapping[str, Any]] = {
    "microscopy": {"geometry": "tiled", "size": 64, "diameter": 20.0},
    "dermoscopy": {"geometry": "whole", "size": 64},
}


def save_tiny(path: Path, inputs: Mapping[str, Mapping[str, Any]] = INPUTS, seed: int = 0) -> Path:
    """Save the model.

    Parameters
    ----------
    path
        The file.
    inputs
        Of each modality, the fields of its ``InputSpec``.
    seed
        Of the weights.

    Returns
    -------
    Path
        The file.
    """
    import torch

    from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
    from napari_espmedsam.model.registry import create_model

    torch.manual_seed(seed)
    model = create_model("esp_medsam_test", modalities=tuple(inputs))
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs={name: InputSpec(**fields) for name, fields in inputs.items()},
        training={"command": "none, random weights"},
        licence="CC0-1.0",
    )
    return save_checkpoint(path, model, header)

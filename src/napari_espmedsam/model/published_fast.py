"""Import of checkpoints in the layout of the authors' Med-FastSAM code (541 entries)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.published import (
    esp_from_state,
    finish_import,
    read_pickled_state,
    rename,
    rename_trunk_key,
)
from napari_espmedsam.model.registry import model_config

# Applied in order to every key; each pattern is anchored at the start of the key.
_RULES: tuple[tuple[str, str], ...] = (
    (
        r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "decoder.position.frequencies",
    ),
    (r"prompt_encoder\.mask_downscaling\.", "coarse_prompt.layers."),
    (r"prompt_encoder\.", "unused."),
    (r"mask_decoder\.(iou_token|mask_tokens)\.weight", r"decoder.\1"),
    (r"mask_decoder\.output_upscaling_part1\.", "decoder.upscale1."),
    (r"mask_decoder\.output_upscaling_part2\.0\.", "decoder.upscale2."),
    (r"mask_decoder\.concat_conv([12])\.0\.", r"decoder.reduce\1."),
    (r"mask_decoder\.output_hypernetworks_mlps\.", "decoder.mask_mlps."),
    (r"mask_decoder\.iou_prediction_head\.", "unused.iou_head."),
    (r"mask_decoder\.", "decoder."),
    (r"conv1_med\.features1\.", "patch_detail.quarter."),
    (r"conv1_med\.features2\.", "patch_detail.eighth."),
)


def rename_fast_key(key: str) -> str:
    """Name in :class:`MedFastSAM` of an entry of the authors' file."""
    if not key.startswith("image_encoder."):
        return rename(key, _RULES)
    key = key.removeprefix("image_encoder.")
    if key.startswith(("norm_head.", "head.")):
        return f"unused.{key}"
    return f"encoder.{rename_trunk_key(key)}"


def published_fast_input() -> InputSpec:
    """Input of the authors' loader: 1024 x 1024, raw 0..255, no mean and no deviation."""
    return InputSpec(
        geometry="whole",
        size=1024,
        rescale="dtype",
        value_range=255.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def import_published_fast(path: str | Path, modality: str) -> tuple[nn.Module, CheckpointHeader]:
    """Read a Med-FastSAM file in the authors' layout.

    Parameters
    ----------
    path : str or Path
        ``.pth`` state dict with 541 entries; a ``module.`` prefix is accepted.
    modality : str
        What it was trained for; any name, it only labels the checkpoint.

    Returns
    -------
    tuple of nn.Module and CheckpointHeader
        The model in eval mode (published layout) and its header.

    Raises
    ------
    CheckpointError
        If entries are missing or left over (the first ten are listed), or the file is unreadable.
    """
    return fast_from_state(read_pickled_state(path), path, modality)


def fast_from_state(
    state: Mapping[str, Tensor], path: str | Path, modality: str
) -> tuple[nn.Module, CheckpointHeader]:
    """Do what :func:`import_published_fast` does with the entries of ``path`` already read."""
    architecture = "med_fastsam_published"
    return finish_import(
        {rename_fast_key(key): value for key, value in state.items()},
        Path(path),
        architecture,
        model_config(architecture, modalities=(modality,)),
        published_fast_input(),
        name=f"Med-FastSAM {modality} (authors' layout)",
        source="imported from the authors' layout",
        licence="unknown: the Med-FastSAM repository has no licence file",
    )


def import_authors_file(path: str | Path, modality: str) -> tuple[nn.Module, CheckpointHeader]:
    """Read a file of either paper's authors, telling them apart by their entries.

    Parameters and errors are those of :func:`napari_espmedsam.model.published.import_published` and
    :func:`import_published_fast`.
    """
    state = read_pickled_state(path)
    is_fast = any(key.startswith("image_encoder.") for key in state)
    return (fast_from_state if is_fast else esp_from_state)(state, path, modality)

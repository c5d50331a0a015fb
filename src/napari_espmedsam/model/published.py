"""Import of the authors' released ESP-MedSAM checkpoints.

Their files hold one modality each: 504 entries, sometimes under a ``module.`` prefix. The key map
below renames them to ours; nothing may be missing and nothing left over.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_espmedsam.errors import CheckpointError, ModalityError
from napari_espmedsam.model.checkpoint import load_strict
from napari_espmedsam.model.config import PUBLISHED_MODALITIES, ModelConfig
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import build, model_config

#: SAM's pixel mean; the released code divides by it as well, in place of the deviation.
_PIXEL_MEAN = (123.675, 116.28, 103.53)

_MAX_UNPACKED = 4  # bytes in memory for each byte of a file

_ATTENTION_BLOCKS = {"1": 0, "2": 2, "3": 8}  # first block number of each attention stage

# Applied in order to every key; each pattern is anchored at the start of the key.
TRUNK_RULES: tuple[tuple[str, str], ...] = (
    (r"(.*)\.c\.weight$", r"\1.conv.weight"),
    (r"patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"layers\.0\.downsample\.", "stages.1.downsample."),
    (r"layers\.1\.downsample\.", "stages.2.downsample."),
    (r"layers\.2\.downsample\.", "stages.3.downsample."),
    (r"layers\.", "stages."),
)
_PROMPT_RULES: tuple[tuple[str, str], ...] = (
    (
        r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "decoder.position.frequencies",
    ),
    (r"prompt_encoder\.", "unused."),
    (r"patch_decoder\.0\.", "patch_generator.blocks.0.0."),
    (r"patch_decoder\.1\.", "patch_generator.blocks.0.1."),
    (r"patch_decoder\.3\.", "patch_generator.head."),
    (r"dense_prompter\.0\.", "dense_prompt.conv."),
    (r"dense_prompter\.1\.", "dense_prompt.norm."),
    (r"mask_query\.weight", "decoder.queries"),
    (r"mask_decoder\.output_upscaling\.", "decoder.upscale."),
    (r"mask_decoder\.output_hypernetworks_mlps\.", "decoder.mask_mlps."),
    (r"mask_decoder\.", "decoder."),
)
_BAG_NAMES = {
    "attn.deep_QKV_embeddings_med": "key_tokens",
    "attn.med_attention_biases": "token_biases",
}


def rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    """Apply every rule that matches the start of ``key``, in order."""
    for pattern, replacement in rules:
        key = re.sub("^" + pattern, replacement, key)
    return key


def rename_trunk_key(key: str) -> str:
    """Name of a trunk entry in the authors' layout (also MobileSAM's and LiteMedSAM's) in ours."""
    return rename(key, TRUNK_RULES)


def _bag_key(key: str) -> str | None:
    """Name in the parameter bag of a modality-specific encoder entry, or None."""
    match = re.match(r"layers\.([123])\.blocks\.(\d+)\.(.+)$", key)
    if match is None:
        return None
    stage, block, rest = match.groups()
    number = _ATTENTION_BLOCKS[stage] + int(block)
    if rest in _BAG_NAMES:
        return f"encoder.bags.0.blocks.{number}.{_BAG_NAMES[rest]}"
    if rest.startswith("med_dah."):
        return f"encoder.bags.0.blocks.{number}.expert.{rest.removeprefix('med_dah.')}"
    return None


def rename_esp_key(key: str) -> str:
    """Name in :class:`ESPMedSAM` of an entry of the authors' file."""
    if not key.startswith("SemiTViT."):
        return rename(key, _PROMPT_RULES)
    key = key.removeprefix("SemiTViT.")
    if key.startswith(("norm_head.", "head.")):
        return f"unused.{key}"
    return _bag_key(key) or f"encoder.trunk.{rename_trunk_key(key)}"


def read_pickled_state(path: str | Path) -> dict[str, Tensor]:
    """Read a ``.pth`` state dict without running any code from it.

    Returns
    -------
    dict of str to Tensor
        With a ``module.`` prefix and a ``model`` / ``state_dict`` wrapper removed.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, no checkpoint, or a pickle that needs more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}. Check the path.")
    _check_unpacked(path)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} was refused: reading it would have to run code stored in the file, or it "
            "is no PyTorch checkpoint. Only plain tensors are read (weights_only=True). Ask its "
            "owner for the state_dict alone."
        ) from error
    except Exception as error:  # damage shows in many ways, in the archive and in the pickle
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size} bytes) cannot be read as a PyTorch checkpoint; it "
            "may be truncated. Fetch it again."
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            f"{path.name} holds no dictionary of tensors, so it is no state_dict."
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that would take far more memory than its file: torch packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(each.file_size for each in archive.infolist())
    except Exception:  # the old format, or damaged: torch says so
        return
    if unpacked > _MAX_UNPACKED * path.stat().st_size:
        raise CheckpointError(
            f"{path.name} has {path.stat().st_size:,} bytes and would unpack to {unpacked:,}; more "
            f"than {_MAX_UNPACKED} times as much is no PyTorch checkpoint. Ask its owner for "
            "another file."
        )


def published_input() -> InputSpec:
    """Input of the released evaluation code: 1024 x 1024, 0..255, (x - mean) / **mean**."""
    return InputSpec(
        geometry="whole",
        size=1024,
        rescale="dtype",
        value_range=255.0,
        mean=_PIXEL_MEAN,
        std=_PIXEL_MEAN,
    )


def import_published(path: str | Path, modality: str) -> tuple[nn.Module, CheckpointHeader]:
    """Read one of the authors' ESP-MedSAM files.

    Parameters
    ----------
    path : str or Path
        ``.pth`` state dict with 504 entries; a ``module.`` prefix is accepted.
    modality : str
        Which of the six modalities it was trained for: that decides the query it uses.

    Returns
    -------
    tuple of nn.Module and CheckpointHeader
        The model in eval mode (published layout, one bag) and its header.

    Raises
    ------
    ModalityError
        If the modality is not one of the authors' six.
    CheckpointError
        If entries are missing or left over (the first ten are listed), or the file is unreadable.
    """
    return esp_from_state(read_pickled_state(path), path, modality)


def esp_from_state(
    state: Mapping[str, Tensor], path: str | Path, modality: str
) -> tuple[nn.Module, CheckpointHeader]:
    """Do what :func:`import_published` does with the entries of ``path`` that are read already."""
    if modality not in PUBLISHED_MODALITIES:
        raise ModalityError(
            f"{modality!r} is not a modality of the authors' checkpoints; choose one of: "
            f"{', '.join(PUBLISHED_MODALITIES)}."
        )
    architecture = "esp_medsam_published"
    row = PUBLISHED_MODALITIES.index(modality)
    return finish_import(
        {rename_esp_key(key): value for key, value in state.items()},
        Path(path),
        architecture,
        model_config(architecture, modalities=(modality,), query_rows=(row,)),
        published_input(),
        name=f"ESP-MedSAM {modality} (authors' release)",
        source="imported from the authors' release",
        licence="Apache-2.0 (De-LightSAM repository); check the terms of the training data",
    )


def finish_import(
    state: Mapping[str, Tensor],
    path: Path,
    architecture: str,
    config: ModelConfig,
    spec: InputSpec,
    *,
    name: str,
    source: str,
    licence: str,
) -> tuple[nn.Module, CheckpointHeader]:
    """Build the model of renamed entries, in eval mode, and the header that says their origin.

    Raises
    ------
    CheckpointError
        If entries are missing or left over.
    """
    model = build(config)
    load_strict(model, state, path.name)
    header = CheckpointHeader(
        name=name,
        architecture=architecture,
        config=config.model_dump(mode="json"),
        modalities=config.modalities,
        inputs=dict.fromkeys(config.modalities, spec),
        training={
            "source": source,
            "file": path.name,
            "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        licence=licence,
    )
    return model.eval(), header

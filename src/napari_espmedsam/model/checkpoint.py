"""Checkpoints: safetensors with one JSON header that says everything needed to use them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors
import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from napari_espmedsam.errors import CheckpointError, InputError, OutputError
from napari_espmedsam.model.config import FrozenModel
from napari_espmedsam.model.registry import Model, build, model_config

FORMAT_VERSION: Literal[1] = 1
_HEADER_KEY = "napari-espmedsam"
_MAX_HEADER_BYTES = 4_000_000

Triple = tuple[float, float, float]


class InputSpec(FrozenModel):
    """How pixels of one modality become the model's input.

    ``input = (rescaled * value_range - mean) / std`` with ``rescaled`` in [0, 1].
    """

    #: "whole": the plane is resized to size x size. "tiled": tiles of size x size model pixels.
    geometry: Literal["whole", "tiled"]
    size: int = Field(ge=32, le=8192, multiple_of=32)
    #: tiled: model pixels per image pixel at which the weights were trained.
    scale: float = Field(default=1.0, gt=0)
    #: Median diameter of the objects during training, in model pixels.
    diameter: float | None = Field(default=None, gt=0)
    #: Micrometres per model pixel during training.
    pixel_size: float | None = Field(default=None, gt=0)
    #: "percentile": robust range of each image. "dtype": full range of the pixel type.
    rescale: Literal["percentile", "dtype"] = "percentile"
    percentiles: tuple[float, float] = (0.5, 99.8)
    value_range: float = Field(default=1.0, gt=0)
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _numbers_are_usable(self) -> InputSpec:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles must satisfy 0 <= low < high <= 100, got {low}, {high}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        return self


class CheckpointHeader(FrozenModel):
    """What a checkpoint says about itself."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    #: Name of the architecture in the model registry.
    architecture: str
    #: The full configuration that rebuilds the model.
    config: dict[str, Any]
    modalities: tuple[str, ...]
    inputs: dict[str, InputSpec]
    #: Command, commit, data, seed, steps, curve, measurements: whatever made the weights.
    training: dict[str, Any] = Field(default_factory=dict)
    licence: str
    #: Mask probability threshold chosen on validation data, and others by modality.
    threshold: float = Field(default=0.5, gt=0, lt=1)
    thresholds: dict[str, float] = Field(default_factory=dict)

    def threshold_for(self, modality: str) -> float:
        """Mask probability threshold of one modality."""
        return self.thresholds.get(modality, self.threshold)

    @model_validator(mode="after")
    def _modalities_agree(self) -> CheckpointHeader:
        if set(self.inputs) != set(self.modalities):
            raise ValueError(
                f"inputs {sorted(self.inputs)} do not match modalities {self.modalities}"
            )
        if tuple(self.config.get("modalities", ())) != self.modalities:
            raise ValueError(f"config and header disagree on the modalities {self.modalities}")
        wrong = {k: v for k, v in self.thresholds.items() if not 0 < v < 1}
        if wrong or not set(self.thresholds) <= set(self.modalities):
            raise ValueError(
                f"thresholds {self.thresholds} must lie between 0 and 1, by modality of "
                f"{self.modalities}"
            )
        return self


class LoadedCheckpoint(NamedTuple):
    """A model ready to run (eval mode, float32, on the CPU) and where it came from."""

    model: Model
    header: CheckpointHeader
    sha256: str


def first_ten(keys: list[str]) -> str:
    """Render at most ten keys for an error message."""
    shown = ", ".join(sorted(keys)[:10])
    return shown if len(keys) <= 10 else f"{shown}, ... ({len(keys)} in all)"


def load_strict(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` into ``model``; anything missing, left over or misshapen is an error.

    Raises
    ------
    CheckpointError
        Listing the first ten offending keys.
    """
    own = model.state_dict()
    # Shared tensors (key = value token) are stored once.
    aliases = {name for name in own if name.endswith("value_tokens") and name not in state}
    aliases = {
        a for a in aliases if own[a].data_ptr() == own[a.replace("value_", "key_")].data_ptr()
    }
    # BatchNorm's step counter plays no part in inference and some exporters drop it.
    missing = [k for k in own if k not in state and k not in aliases]
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    wrong = [k for k in state if k in own and own[k].shape != state[k].shape]
    problems = [
        f"{label}: {first_ten(keys)}"
        for label, keys in (("missing", missing), ("left over", extra), ("wrong shape", wrong))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit the model. {'; '.join(problems)}. It may belong to another "
            "architecture or be incomplete."
        )
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()}, strict=False)


def _plain_state(model: nn.Module, half: bool) -> dict[str, Tensor]:
    """Tensors to store: each shared tensor once, floats in half precision if asked."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if name.endswith("value_tokens") and tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        tensor = tensor.detach().cpu().contiguous()
        state[name] = tensor.half() if half and tensor.is_floating_point() else tensor
    return state


def save_checkpoint(
    path: str | Path, model: nn.Module, header: CheckpointHeader, *, half: bool = True
) -> Path:
    """Write a checkpoint; the file appears under its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        Target, normally ``*.safetensors``.
    model : nn.Module
        Weights to store.
    header : CheckpointHeader
        Its description.
    half : bool
        Store floating-point tensors as float16.

    Raises
    ------
    OutputError
        If the folder does not exist or cannot be written.
    """
    path = Path(path)
    data = save(_plain_state(model, half), {_HEADER_KEY: header.model_dump_json()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"The checkpoint cannot be written to {path}: {error.strerror}. Choose a folder that "
            "exists and that you may write to."
        ) from error
    return path


def read_header(path: str | Path) -> CheckpointHeader:
    """Read the header alone; no tensor is loaded.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}. Check the path.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size} bytes) is no readable safetensors file; it may be "
            "truncated or of another kind. Files of the authors (.pth) are read by "
            "'napari-espmedsam import'."
        ) from error
    return _parse_header(metadata.get(_HEADER_KEY), path)


def _parse_header(text: str | None, path: Path) -> CheckpointHeader:
    if text is None:
        raise CheckpointError(
            f"{path.name} is a safetensors file without a {_HEADER_KEY!r} header, so it was not "
            "written by this plugin. Use a checkpoint that 'napari-espmedsam models' lists."
        )
    if len(text) > _MAX_HEADER_BYTES:
        raise CheckpointError(
            f"The header of {path.name} has {len(text)} bytes; the limit is {_MAX_HEADER_BYTES}."
        )
    try:
        raw = json.loads(text)
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path.name} has checkpoint format {version!r}; this version reads "
                f"{FORMAT_VERSION}. Update napari-espmedsam."
            )
        return CheckpointHeader.model_validate(raw)
    except (json.JSONDecodeError, ValidationError) as error:
        raise CheckpointError(f"The header of {path.name} is damaged: {error}") from error


def load_checkpoint(path: str | Path) -> LoadedCheckpoint:
    """Load a checkpoint written by :func:`save_checkpoint`.

    Returns
    -------
    LoadedCheckpoint
        Model in eval mode with float32 weights on the CPU, its header, and the file's sha256.

    Raises
    ------
    CheckpointError
        If the file or its header is damaged, or its tensors do not fit its architecture.
    """
    path = Path(path)
    header = read_header(path)
    try:
        config = model_config(header.architecture, **header.config)
        model = build(config)
    except InputError as error:
        raise CheckpointError(
            f"{path.name} describes a model that cannot be built: {error}"
        ) from error
    load_strict(model, load_file(path), path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedCheckpoint(model.eval().to(torch.float32), header, digest)

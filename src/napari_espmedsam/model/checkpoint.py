"""Checkpoints: safetensors with one JSON header that says everything needed to use them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from napari_espmedsam.errors import CheckpointError, InputError, OutputError
from napari_espmedsam.model.budget import build_within
from napari_espmedsam.model.header import (
    HEADER_KEY,
    CheckpointHeader,
    InputSpec,
    Triple,
    count_values,
    read_header,
)
from napari_espmedsam.model.registry import Model, model_config

__all__ = [
    "CheckpointHeader",
    "InputSpec",
    "LoadedCheckpoint",
    "Triple",
    "first_ten",
    "load_checkpoint",
    "load_strict",
    "read_header",
    "save_checkpoint",
]


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
    _check_fit(model, {name: tensor.shape for name, tensor in state.items()}, source)
    model.load_state_dict(state, strict=False)  # converts one tensor at a time


def _load_file(model: nn.Module, path: Path) -> None:
    """Load a file as :func:`load_strict` does, from a memory map, one tensor after the other.

    By way of numpy: when it reads for torch, safetensors 0.8 loses two integers per tensor for
    good, which adds up in a napari that loads models all day.
    """
    with safetensors.safe_open(path, framework="np") as file:
        names = file.keys()  # no dictionary, it cannot be iterated itself
        shapes = {name: torch.Size(file.get_slice(name).get_shape()) for name in names}
        _check_fit(model, shapes, path.name)
        own = model.state_dict()
        for name in names:
            try:
                tensor = torch.from_numpy(file.get_tensor(name))
            except TypeError as error:
                kind = file.get_slice(name).get_dtype()
                raise CheckpointError(
                    f"{path.name} stores {name} as {kind}. Store floats as float16 or float32."
                ) from error
            own[name].copy_(tensor)


def _check_fit(model: nn.Module, shapes: Mapping[str, torch.Size], source: str) -> None:
    own = model.state_dict()
    # Shared tensors (key = value token) are stored once.
    aliases = {name for name in own if name.endswith("value_tokens") and name not in shapes}
    aliases = {
        a for a in aliases if own[a].data_ptr() == own[a.replace("value_", "key_")].data_ptr()
    }
    # BatchNorm's step counter plays no part in inference and some exporters drop it.
    missing = [k for k in own if k not in shapes and k not in aliases]
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    extra = [k for k in shapes if k not in own]
    wrong = [k for k in shapes if k in own and own[k].shape != shapes[k]]
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

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If the folder does not exist or cannot be written.
    """
    path = Path(path)
    data = save(_plain_state(model, half), {HEADER_KEY: header.model_dump_json()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"The checkpoint cannot be written to {path}: {error.strerror}. Choose a folder that "
            "exists, that you may write to and that has space left."
        ) from error
    return path


def load_checkpoint(path: str | Path) -> LoadedCheckpoint:
    """Load a checkpoint written by :func:`save_checkpoint`.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    LoadedCheckpoint
        Model in eval mode with float32 weights on the CPU, its header, and the file's sha256.

    Raises
    ------
    CheckpointError
        If the file or its header is damaged, if its tensors do not fit its architecture, or if it
        describes a model of more weights than it holds.
    """
    path = Path(path)
    header = read_header(path)
    try:
        config = model_config(header.architecture, **header.config)
        model = build_within(config, count_values(path), path.name)
    except InputError as error:
        raise CheckpointError(
            f"{path.name} describes a model that cannot be built: {error}"
        ) from error
    _load_file(model, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return LoadedCheckpoint(model.eval().to(torch.float32), header, digest)

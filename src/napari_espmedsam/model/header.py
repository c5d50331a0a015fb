"""What a checkpoint says of itself: the JSON header of its file, read without torch.

Forms need it as soon as a model is chosen, long before anything is computed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import safetensors
from pydantic import Field, model_validator
from safetensors import SafetensorError

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.model.config import FrozenModel

FORMAT_VERSION: Literal[1] = 1
HEADER_KEY = "napari-espmedsam"
_MAX_HEADER_BYTES = 4_000_000
_MAX_TABLE_BYTES = 4 * _MAX_HEADER_BYTES  # ours, escaped, and the names of all tensors

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
        if self.config.get("modalities") not in (self.modalities, list(self.modalities)):
            raise ValueError(f"config and header disagree on the modalities {self.modalities}")
        wrong = {k: v for k, v in self.thresholds.items() if not 0 < v < 1}
        if wrong or not set(self.thresholds) <= set(self.modalities):
            raise ValueError(
                f"thresholds {self.thresholds} must lie between 0 and 1, by modality of "
                f"{self.modalities}"
            )
        return self


def read_header(path: str | Path) -> CheckpointHeader:
    """Read the header alone; no tensor is loaded.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file of this package.

    Returns
    -------
    CheckpointHeader
        What the file says of itself.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}. Check the path.")
    check_table_size(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size} bytes) is no readable safetensors file; it may be "
            "truncated or of another kind. Files of the authors (.pth) are read by "
            "'napari-espmedsam import'."
        ) from error
    return _parse_header(metadata.get(HEADER_KEY), path)


def check_table_size(path: Path) -> None:
    """Refuse a safetensors file whose table of contents is too long, before it is read.

    Raises
    ------
    CheckpointError
        If the first eight bytes announce more than 16 MB.
    """
    try:
        with path.open("rb") as file:
            announced = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be opened ({error.strerror or error}); check its permissions."
        ) from error
    if _MAX_TABLE_BYTES < announced <= path.stat().st_size:  # else it is no safetensors file
        raise CheckpointError(
            f"{path.name} has a table of contents of {announced:,} bytes; the limit is "
            f"{_MAX_TABLE_BYTES:,}. It is no checkpoint of this plugin."
        )


def count_values(path: str | Path) -> int:
    """Count the values of all tensors of a safetensors file; none is loaded."""
    with safetensors.safe_open(path, framework="np") as file:
        names = file.keys()  # no dictionary, it cannot be iterated itself
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def _parse_header(text: str | None, path: Path) -> CheckpointHeader:
    if text is None:
        raise CheckpointError(
            f"{path.name} is a safetensors file without a {HEADER_KEY!r} header, so it was not "
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
    except (ValueError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
        raise CheckpointError(
            f"The header of {path.name} is damaged: {error!s:.500}. Get the file again."
        ) from error

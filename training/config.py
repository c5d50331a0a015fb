"""Training settings: one TOML file per recipe, validated before anything slow starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import InputSpec
from napari_espmedsam.model.config import FrozenModel


class DataConfig(FrozenModel):
    """Which images, and how training samples are cut from them."""

    #: Folders below the data root, each with images/, masks/ and splits.json.
    packs: tuple[str, ...]
    #: Side of the square training crop in model pixels.
    crop: int = Field(default=256, ge=64, multiple_of=32)
    #: Range of the random zoom around the scale in ``input.scale``.
    zoom: tuple[float, float] = (0.7, 1.4)
    #: 0: every image is drawn equally often. 1: every kind of image (grey or colour, dark or
    #: bright background) is. In between: a compromise.
    balance: float = Field(default=0.5, ge=0, le=1)


class OptimiserConfig(FrozenModel):
    """Optimiser and schedule."""

    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    #: Learning rate at the last step over the peak (cosine decay).
    final_lr_ratio: float = Field(default=0.01, ge=0, le=1)
    clip_norm: float = Field(default=1.0, gt=0)


class LossConfig(FrozenModel):
    """ESP-MedSAM eq. 1 and eq. 6; the weight is 0.7 on dice and 0.3 on focal."""

    dice_weight: float = Field(default=0.7, ge=0)
    focal_weight: float = Field(default=0.3, ge=0)
    prompt_weight: float = Field(default=1.0, ge=0)
    focal_alpha: float = -1.0
    focal_gamma: float = 2.0


class FinetuneConfig(FrozenModel):
    """A whole fine-tuning run."""

    name: str
    architecture: str = "esp_medsam"
    modality: str
    #: Overrides of the architecture's configuration.
    model: dict[str, Any] = Field(default_factory=dict)
    input: InputSpec
    data: DataConfig
    #: "litemedsam": aggregator and decoder start from LiteMedSAM. "none": random weights.
    warm_start: Literal["litemedsam", "none"] = "litemedsam"
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    batch_size: int = Field(default=8, ge=1)
    steps: int = Field(default=2000, ge=1)
    #: Weights are averaged with this decay; the average is validated and exported.
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    validate_every: int = Field(default=250, ge=1)
    save_every: int = Field(default=100, ge=1)
    threads: int = Field(default=2, ge=1)
    seed: int = 0
    licence: str
    data_licence: str


def load_config(path: str | Path, **overrides: Any) -> FinetuneConfig:
    """Read a recipe.

    Parameters
    ----------
    path : str or Path
        TOML file.
    **overrides
        Top-level fields that replace those of the file, for example ``steps=20``.

    Raises
    ------
    InputError
        If the file is missing, is no TOML, or holds a key or value that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no training config {path}. See training/configs/.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return FinetuneConfig.model_validate({**raw, **overrides})
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{path} does not fit a fine-tuning run: {problems}") from error

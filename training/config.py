"""Training settings: one TOML file per recipe, validated before anything slow starts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import InputSpec
from napari_espmedsam.model.config import FrozenModel


class OptimiserConfig(FrozenModel):
    """Optimiser and schedule."""

    name: Literal["adam", "adamw"] = "adamw"
    lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    #: "cosine": down to ``final_lr_ratio`` at the last step. "exponential": times ``epoch_decay``
    #: every epoch (the papers).
    schedule: Literal["cosine", "exponential"] = "cosine"
    #: Learning rate at the last step over the peak (cosine).
    final_lr_ratio: float = Field(default=0.01, ge=0, le=1)
    epoch_decay: float = Field(default=0.98, gt=0, le=1)
    clip_norm: float = Field(default=1.0, gt=0)


class RunConfig(FrozenModel):
    """What every kind of run has."""

    name: str
    #: Length of the run: optimiser steps, or passes over as many images as there are.
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    #: Images per optimiser step, over all processes.
    batch_size: int = Field(default=8, ge=1)
    #: Images per forward pass of one process; the rest of the batch is accumulated.
    micro_batch: int | None = Field(default=None, ge=1)
    optimiser: OptimiserConfig = OptimiserConfig()
    #: Weights are averaged with this decay; the average is validated and exported.
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    #: Batch normalisation: "train" uses each forward pass's statistics and updates the running
    #: ones; "frozen" uses the running ones, so the result does not depend on how a batch is
    #: divided among processes.
    batch_norm: Literal["train", "frozen"] = "train"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    validate_every: int = Field(default=250, ge=1)
    save_every: int = Field(default=100, ge=1)
    #: Threads of torch (on the CPU), and processes that prepare batches (0: none).
    threads: int = Field(default=2, ge=1)
    workers: int = Field(default=0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _one_length(self) -> RunConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give steps or epochs, got steps={self.steps}, epochs={self.epochs}")
        return self

    def steps_per_epoch(self, n_images: int) -> int:
        """Optimiser steps after which as many images were seen as there are."""
        return max(1, round(n_images / self.batch_size))

    def total_steps(self, n_images: int) -> int:
        """Length of the run in optimiser steps."""
        if self.steps is not None:
            return self.steps
        return max(1, round((self.epochs or 0) * self.steps_per_epoch(n_images)))


class AugmentConfig(FrozenModel):
    """Random changes of geometry, then probabilities of changes of intensity."""

    #: Range of the random zoom (log-uniform).
    zoom: tuple[float, float] = (0.7, 1.4)
    #: "any": both flips and quarter turns. "horizontal": left-right only.
    flips: Literal["any", "horizontal", "none"] = "any"
    #: Whole geometry: largest rotation in degrees, and shift as a fraction of the side.
    rotation: float = Field(default=0, ge=0, le=180)
    shift: float = Field(default=0, ge=0, le=0.5)
    gamma: float = Field(default=0.5, ge=0, le=1)
    jitter: float = Field(default=0.6, ge=0, le=1)
    tint: float = Field(default=0.1, ge=0, le=1)
    greyscale: float = Field(default=0.1, ge=0, le=1)
    invert: float = Field(default=0.1, ge=0, le=1)
    blur: float = Field(default=0.15, ge=0, le=1)
    noise: float = Field(default=0.2, ge=0, le=1)


class ModalityConfig(FrozenModel):
    """Where one modality's images are, how they enter the model, how they are varied."""

    #: Folders below the data root, each with images/, masks/ and splits.json.
    packs: tuple[str, ...] = ()
    #: CSV files of own data, see training/manifest.py.
    manifests: tuple[Path, ...] = ()
    #: Leave out damaged pairs, instead of refusing to start.
    skip_damaged: bool = False
    #: Read every pair of all splits before the run: damaged ones, and images or groups that lie in
    #: two splits. Worth switching off for a large set that has passed before.
    check: bool = True
    #: Use the first so many images of every split alone: for trials.
    limit: int | None = Field(default=None, ge=1)
    input: InputSpec
    #: Relative share of the batch.
    share: float = Field(default=1.0, gt=0)
    #: 0: every image is drawn equally often. 1: every kind of image (grey or colour, dark or
    #: bright background) is. In between: a compromise.
    balance: float = Field(default=0.0, ge=0, le=1)
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _has_data(self) -> ModalityConfig:
        if not self.packs and not self.manifests:
            raise ValueError("give packs or manifests")
        return self


class LossConfig(FrozenModel):
    """ESP-MedSAM eq. 1 and eq. 6 (0.7 on dice); Med-FastSAM eq. 14 puts 0.8 on focal."""

    dice_weight: float = Field(default=0.7, ge=0)
    focal_weight: float = Field(default=0.3, ge=0)
    prompt_weight: float = Field(default=1.0, ge=0)
    focal_alpha: float = -1.0
    focal_gamma: float = 2.0


class FinetuneConfig(RunConfig):
    """Training of a whole model on masks."""

    architecture: str = "esp_medsam"
    #: Overrides of the architecture's configuration.
    model: dict[str, Any] = Field(default_factory=dict)
    #: In the order of the model's bags. With ``warm_start = "checkpoint"``, modalities that the
    #: checkpoint has and this table lacks are kept as they are.
    modalities: dict[str, ModalityConfig]
    #: Images of one modality come in runs of this many: the encoder works modality by modality,
    #: and fewer modalities in a batch take less time.
    group_size: int = Field(default=2, ge=1)
    #: Side of the square training images in model pixels.
    crop: int = Field(default=256, ge=32, multiple_of=32)
    #: "litemedsam": aggregator and decoder start from LiteMedSAM. "checkpoint": all from a file.
    #: "none": random weights.
    warm_start: Literal["litemedsam", "checkpoint", "none"] = "litemedsam"
    #: Bundled name or path of the checkpoint to start from.
    checkpoint: str | None = None
    #: Run folder of a distillation, whose encoder replaces the warm start's.
    distilled: Path | None = None
    #: Share of the rows whose prompt is corrected as a user would; see `training.corrections`.
    prompt_corrections: float = Field(default=0.0, ge=0, le=1)
    #: "all", or "private": the bag, query and mask MLP of the listed modalities alone.
    train: Literal["all", "private"] = "all"
    #: Patterns of parameter names (fnmatch) that stay as they are.
    freeze: tuple[str, ...] = ()
    loss: LossConfig = LossConfig()
    licence: str
    data_licence: str

    @model_validator(mode="after")
    def _parts_fit(self) -> FinetuneConfig:
        if not self.modalities:
            raise ValueError("modalities is empty; give at least one [modalities.NAME] table")
        for name, modality in self.modalities.items():
            spec = modality.input
            if spec.geometry == "whole" and spec.size != self.crop:
                raise ValueError(
                    f"{name} is seen as a whole at {spec.size} px, so crop must be "
                    f"{spec.size}, not {self.crop}"
                )
        if self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of group_size {self.group_size}"
            )
        if (self.checkpoint is not None) != (self.warm_start == "checkpoint"):
            raise ValueError('checkpoint and warm_start = "checkpoint" belong together')
        return self


Config = TypeVar("Config", bound=FrozenModel)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of ``base`` with the leaves of ``change`` put in, table by table."""
    out = dict(base)
    for key, value in change.items():
        known = out.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        out[key] = merge(known, value) if both else value  # type: ignore[arg-type]
    return out


def read_recipe(path: Path) -> dict[str, Any]:
    """Settings of a TOML file, on top of those of the file that its key ``base`` names.

    Tables are merged key by key, at any depth; a key of the file replaces the base's.

    Raises
    ------
    InputError
        If a file is missing or is no TOML, or files are based on each other in a circle.
    """
    seen: list[Path] = []
    settings: dict[str, Any] = {}
    current: Path | None = path
    while current is not None:
        raw = _read_toml(current)
        if current.resolve() in seen:
            raise InputError(f"{path} is based on itself by way of {current}. Mend its `base`.")
        seen.append(current.resolve())
        base = raw.pop("base", "")
        if not isinstance(base, str):
            raise InputError(
                f'{current} has base = {base!r}. Name a recipe in quotes: base = "other.toml".'
            )
        settings = merge(raw, settings)
        current = current.parent / base if base else None
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"There is no training config {path}. See training/configs/.") from error
    except RecursionError as error:
        raise InputError(f"{path} is no valid TOML: it is nested too deeply") from error
    except (OSError, ValueError) as error:  # a name that no file can have, no UTF-8, no TOML
        raise InputError(f"{path} is no valid TOML: {error}") from error


def load_config(path: str | Path, kind: type[Config], **overrides: Any) -> Config:
    """Read a recipe.

    Parameters
    ----------
    path : str or Path
        TOML file, see :func:`read_recipe`.
    kind : type
        Which configuration it holds, for example :class:`FinetuneConfig`.
    **overrides
        Top-level fields that replace those of the file, for example ``steps=20``.

    Raises
    ------
    InputError
        If the file is missing, is no TOML, or holds a key or value that does not fit.
    """
    return parse_config({**read_recipe(Path(path)), **overrides}, kind, str(path))


def parse_config(settings: Mapping[str, Any], kind: type[Config], source: str) -> Config:
    """Validate settings that come from ``source``.

    Raises
    ------
    InputError
        Naming every key or value that does not fit.
    """
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{source} does not fit a {kind.__name__}: {problems}") from error

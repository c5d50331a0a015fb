"""Models by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.config import (
    DecoderConfig,
    ESPMedSAMConfig,
    MedFastSAMConfig,
    ModelConfig,
    TinyViTConfig,
)
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM

Model = ESPMedSAM | MedFastSAM
_SHOWN = 10  # problems of a configuration that a message names

_TINY_TRUNK = TinyViTConfig(
    widths=(8, 8, 8, 16),
    depths=(1, 1, 1, 1),
    heads=(1, 1, 1, 2),
    windows=(7, 7, 7, 7),
    out_channels=16,
)
_TINY_DECODER = DecoderConfig(depth=1, heads=2, mlp_dim=16)

_CONFIGS: dict[str, Callable[[], ModelConfig]] = {
    # The paper: private bags, queries and MLPs.
    "esp_medsam": ESPMedSAMConfig,
    # The authors' code: one token as key and value, 7 joint queries of which 6 are used, one MLP.
    "esp_medsam_published": lambda: ESPMedSAMConfig(
        kv_tokens="shared",
        queries="joint",
        query_count=7,
        mask_mlp="shared",
        unused_heads=True,
    ),
    # The paper's equations.
    "med_fastsam": MedFastSAMConfig,
    # The authors' code: the medical attention branch is computed but never returned.
    "med_fastsam_published": lambda: MedFastSAMConfig(
        medical_attention=False,
        experts="sequential",
        otsu_levels="unit",
        mask_tokens=4,
        iou_token=True,
        unused_heads=True,
    ),
    # Small enough to build and run within a test.
    "esp_medsam_test": lambda: ESPMedSAMConfig(
        modalities=("microscopy", "dermoscopy"),
        trunk=_TINY_TRUNK,
        decoder=_TINY_DECODER,
        prompt_hidden=8,
    ),
    "med_fastsam_test": lambda: MedFastSAMConfig(
        trunk=_TINY_TRUNK, decoder=_TINY_DECODER, detail_channels=(2, 4)
    ),
}


def list_models() -> list[str]:
    """Names that :func:`create_model` knows.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted(_CONFIGS)


def model_config(
    name: str, /, *, modalities: Sequence[str] | None = None, **overrides: Any
) -> ModelConfig:
    """Configuration of a named model.

    Parameters
    ----------
    name : str
        One of :func:`list_models`.
    modalities : sequence of str, optional
        Names of the modalities, in index order.
    **overrides
        Other fields of :class:`ESPMedSAMConfig` or :class:`MedFastSAMConfig`.

    Raises
    ------
    InputError
        If the name or a field is unknown, or a value does not fit.
    """
    if name not in _CONFIGS:
        raise InputError(f"No model is called {name!r}; known are: {', '.join(list_models())}.")
    base = _CONFIGS[name]()
    if modalities is not None:
        overrides["modalities"] = modalities
    try:
        return type(base).model_validate({**base.model_dump(), **overrides})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}{_given(e['input'])}"
            for e in error.errors()[:_SHOWN]
        )
        raise InputError(f"Model {name!r} cannot be configured like this: {problems}.") from error


def _given(value: object) -> str:
    """Say which value was wrong, unless it is a table or a list."""
    return f", got {value!r:.40}" if isinstance(value, bool | int | float | str) else ""


def build(config: ModelConfig) -> Model:
    """Build the model that a configuration describes, with fresh weights."""
    if isinstance(config, ESPMedSAMConfig):
        return ESPMedSAM(config)
    return MedFastSAM(config)


def create_model(name: str, *, modalities: Sequence[str] | None = None, **overrides: Any) -> Model:
    """Build a model by name, with fresh weights; see :func:`model_config` for the arguments.

    Parameters
    ----------
    name : str
        One of :func:`list_models`.
    modalities : sequence of str, optional
        Names of the modalities, in index order; the configuration's own when None.
    **overrides
        Other fields of the model's configuration.

    Returns
    -------
    nn.Module
        In training mode, on the CPU.
    """
    return build(model_config(name, modalities=modalities, **overrides))

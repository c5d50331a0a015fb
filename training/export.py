"""Turn the best weights of a run into a checkpoint for the plugin."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import CheckpointHeader, read_header, save_checkpoint
from napari_espmedsam.weights import resolve_checkpoint
from training.config import FinetuneConfig
from training.finetune import starting_layout
from training.run import BEST, CURVE, RECORD, load_state, read_run


def read_curve(folder: Path) -> list[dict[str, float]]:
    """Validation curve of a run.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = folder / CURVE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{k: round(float(v), 5) for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, csv.Error) as error:  # TypeError: a row of other length
        raise InputError(
            f"{path} is no table of numbers ({error!s:.100}). Restore it, or train until the next "
            "validation, which writes it anew."
        ) from error


def training_record(folder: Path, config: FinetuneConfig, best: dict[str, Any]) -> dict[str, Any]:
    """What made the weights, for the header of the checkpoint."""
    run = read_run(folder)
    return {
        "command": run.command.replace(str(Path.home()), "~"),
        "commit": run.commit,
        "started": run.started,
        "resumed": run.resumed,
        "versions": run.versions,
        "recipe": config.model_dump(mode="json"),
        "data": {
            name: {"packs": list(m.packs), "manifests": [p.name for p in m.manifests]}
            for name, m in config.modalities.items()
        },
        "splits": "train; val for selection",
        "data_licence": config.data_licence,
        "best_step": best["step"],
        "val_dice": {name: round(best[name], 5) for name in config.modalities if name in best},
        "curve": read_curve(folder),
    }


def _config_of(folder: Path) -> FinetuneConfig:
    try:
        return FinetuneConfig.model_validate(read_run(folder).config)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{folder / RECORD} is no record of a fine-tuning ({first['loc']}: {first['msg']}); "
            "name the folder of one."
        ) from error


def parse_thresholds(pairs: Sequence[str]) -> dict[str, float]:
    """Thresholds from ``MODALITY=VALUE`` pairs.

    Raises
    ------
    InputError
        If a pair has another form or the value does not lie between 0 and 1.
    """
    thresholds: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not name or not 0 < number < 1:
            raise InputError(
                f"threshold is {pair!r}. Give MODALITY=VALUE with a value between 0 and 1, such as "
                "microscopy=0.45."
            )
        thresholds[name] = number
    return thresholds


def base_header(config: FinetuneConfig) -> CheckpointHeader | None:
    """Header of the checkpoint that the run started from, if any."""
    if config.checkpoint is None:
        return None
    return read_header(resolve_checkpoint(config.checkpoint))


def export(
    folder: Path,
    target: Path,
    *,
    name: str | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Path:
    """Write ``target`` (float16 safetensors) from the best weights in a run folder.

    Parameters
    ----------
    folder : Path
        Run folder of :func:`training.finetune.finetune`.
    target : Path
        ``*.safetensors``.
    name : str, optional
        Of the checkpoint, instead of the recipe's.
    thresholds : mapping of str to float, optional
        Mask probability threshold by modality, chosen on validation data; 0.5 where it is silent.

    Raises
    ------
    InputError
        If the folder holds no validated weights yet, or a threshold names no modality of them.
    """
    best = load_state(folder, BEST)
    if best is None:
        raise InputError(f"{folder} holds no {BEST} yet. Train until the first validation.")
    config = _config_of(folder)
    base = base_header(config)
    model = starting_layout(config)
    model.load_state_dict(best["model"])
    unknown = set(thresholds or {}) - set(model.modalities)
    if unknown:
        raise InputError(
            f"There is no modality {sorted(unknown)[0]!r} in this run; it has: "
            f"{', '.join(model.modalities)}."
        )
    inputs = dict(base.inputs) if base else {}
    inputs |= {name: m.input for name, m in config.modalities.items()}
    header = CheckpointHeader(
        name=name or config.name,
        architecture=config.architecture,
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs=inputs,
        training=training_record(folder, config, best)
        | ({"started_from": base.name, "before": base.training} if base else {}),
        licence=config.licence,
        thresholds=dict(base.thresholds if base else {}) | dict(thresholds or {}),
        # What counts where nobody names the modality.
        threshold=(thresholds or {}).get(model.modalities[0], 0.5),
    )
    return save_checkpoint(target, model, header, half=True)

"""Turn the best weights of a run into a checkpoint for the plugin."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import CheckpointHeader, save_checkpoint
from napari_espmedsam.model.registry import build, model_config
from training.config import FinetuneConfig
from training.run import BEST, CURVE, RECORD, load_state


def read_curve(folder: Path) -> list[dict[str, float]]:
    """Validation curve of a run."""
    with (folder / CURVE).open(newline="", encoding="utf-8") as file:
        return [{k: round(float(v), 5) for k, v in row.items()} for row in csv.DictReader(file)]


def training_record(folder: Path, config: FinetuneConfig, best: dict[str, Any]) -> dict[str, Any]:
    """What made the weights, for the header of the checkpoint."""
    run = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return {
        "command": run["command"].replace(str(Path.home()), "~"),
        "commit": run["commit"],
        "started": run["started"],
        "resumed": run.get("resumed", []),
        "versions": run["versions"],
        "recipe": config.model_dump(mode="json"),
        "data": {"packs": list(config.data.packs), "splits": "train; val for selection"},
        "data_licence": config.data_licence,
        "seed": config.seed,
        "steps": config.steps,
        "best_step": best["step"],
        "val_dice": round(best["val_dice"], 5),
        "curve": read_curve(folder),
    }


def export(folder: Path, target: Path, *, threshold: float = 0.5) -> Path:
    """Write ``target`` (float16 safetensors) from the best weights in a run folder.

    Parameters
    ----------
    folder : Path
        Run folder of :func:`training.loop.finetune`.
    target : Path
        ``*.safetensors``.
    threshold : float
        Mask probability threshold, chosen on validation data.

    Raises
    ------
    InputError
        If the folder holds no validated weights yet.
    """
    best = load_state(folder, BEST)
    if best is None:
        raise InputError(f"{folder} holds no {BEST} yet. Train until the first validation.")
    run = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    config = FinetuneConfig.model_validate(run["config"])
    shape = model_config(config.architecture, modalities=(config.modality,), **config.model)
    model = build(shape)
    model.load_state_dict(best["model"])
    header = CheckpointHeader(
        name=config.name,
        architecture=config.architecture,
        config=shape.model_dump(mode="json"),
        modalities=(config.modality,),
        inputs={config.modality: config.input},
        training=training_record(folder, config, best),
        licence=config.licence,
        threshold=threshold,
    )
    return save_checkpoint(target, model, header, half=True)

"""Start a model from what a distillation has trained."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import load_strict
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.registry import Model
from training.run import BEST, RECORD, load_state, read_run

#: Kind of run that :func:`training.run.open_run` writes into the record of a distillation.
KIND = "DistillConfig"


def is_medical(name: str) -> bool:
    """Tell whether a parameter belongs to Med-FastSAM's medical branch or expert."""
    return any(part in name for part in (".med_qkv.", ".attention_biases_med", ".mlp_med."))


def load_distilled(model: Model, source: Path) -> str:
    """Start a model's encoder from a distillation, in place.

    The aggregator and Med-FastSAM's distilled branch are of one shape, so either model can start
    from either. Medical branches, and bags that the run has not trained, stay as they are.

    Parameters
    ----------
    model : ESPMedSAM or MedFastSAM
        With the trunk of the distilled student.
    source : Path
        Run folder, or its ``best.pt``.

    Returns
    -------
    str
        What was read, in words.

    Raises
    ------
    InputError
        If the folder holds no distillation that got as far as its first validation.
    CheckpointError
        If the shapes differ.
    """
    folder = source.parent if source.name == BEST else source
    best = load_state(folder, BEST)
    known = read_run(folder) if (folder / RECORD).is_file() else None
    if best is None or known is None or known.kind != KIND:
        raise InputError(
            f"{folder} holds no distillation with a {BEST}. Run 'python -m training distill' until "
            "its first validation, or name another folder."
        )
    weights: dict[str, Tensor] = best["model"]
    name = f"{folder.name}/{BEST}"
    trunk = {k.removeprefix("trunk."): v for k, v in weights.items() if not k.startswith("bags.")}
    natural = {k: v for k, v in trunk.items() if not is_medical(k)}
    own = model.encoder.trunk if isinstance(model, ESPMedSAM) else model.encoder
    fresh = {k: v for k, v in own.state_dict().items() if is_medical(k)}
    load_strict(own, {**natural, **fresh}, name)
    if known.config["term"] == "common" or not isinstance(model, ESPMedSAM):
        return "aggregator"
    trained = list(known.config["modalities"])
    bags = [m for m in model.modalities if m in trained and model.encoder.bags]
    for modality in bags:
        prefix = f"bags.{trained.index(modality)}."
        bag = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        load_strict(model.encoder.bags[model.modalities.index(modality)], bag, name)
    return f"aggregator, bags {', '.join(bags) or 'none'}"

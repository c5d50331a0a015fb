"""Train a teacher's medical parts: fine-tuning in which only the new parts move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import model_validator

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import InputSpec
from training.config import FinetuneConfig
from training.finetune import FinetuneTask
from training.loop import fit
from training.run import BEST, is_first_process, load_state, needs_check, open_run
from training.teacher import TeacherSpec, create_med_teacher

ADAPTED = "adapted.safetensors"


def same_normalisation(spec: InputSpec, teacher: TeacherSpec) -> bool:
    """Tell whether a recipe's input is normalised as the frozen encoder was trained."""
    mean, std = (torch.tensor(values) for values in teacher.normalisation)
    gain, offset = spec.value_range / torch.tensor(spec.std), torch.tensor(spec.mean)
    same_gain = torch.allclose(gain * std, torch.ones(3), rtol=1e-3)
    return same_gain and torch.allclose(offset / spec.value_range, mean, atol=1e-3)


class TeacherConfig(FinetuneConfig):
    """Training of F_ViT-Med on masks.

    Of the settings of a fine-tuning, those that choose and start the model play no part.
    """

    teacher: TeacherSpec = TeacherSpec()

    @model_validator(mode="after")
    def _inputs_fit_the_teacher(self) -> TeacherConfig:
        if self.teacher.adapted is not None:
            raise ValueError("teacher.adapted is what this run makes; leave it out")
        for name, modality in self.modalities.items():
            if not same_normalisation(modality.input, self.teacher):
                mean, std = self.teacher.normalisation
                raise ValueError(
                    f"{name}: {self.teacher.kind} wants value_range = 1, mean = {list(mean)} and "
                    f"std = {list(std)} in the input"
                )
        return self


def train_teacher(
    config: TeacherConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Train F_ViT-Med with SPPG and QDMD by eq. 1 and eq. 6.

    Parameters
    ----------
    config : TeacherConfig
        The recipe.
    folder : Path
        Run folder.
    resume : bool
        Go on with the run that the folder holds.
    report : callable
        Receives one line of text now and then.

    Returns
    -------
    Path
        ``folder / "adapted.safetensors"``: the trained parts alone, for ``TeacherSpec.adapted``.

    Raises
    ------
    InputError
        If the run ended before its first validation.
    """
    open_run(folder, config, resume=resume)
    torch.manual_seed(config.seed)
    model = create_med_teacher(config.teacher, tuple(config.modalities))
    model.to(memory_format=torch.channels_last)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    report(f"{model.name}: {trained / 1e6:.2f} M parameters to train")
    task = FinetuneTask(config, model, check=needs_check(resume), report=report)
    fit(task, config, folder, resume=resume, report=report)
    best = load_state(folder, BEST)
    if best is None:
        raise InputError(f"{folder} holds no {BEST}. Train until the first validation.")
    model.load_state_dict(best["model"])
    if is_first_process():
        model.cpu().save_adapted(folder / ADAPTED)
    return folder / ADAPTED

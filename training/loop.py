"""The training loop: one function from recipe to validated weights.

Every random choice is drawn from a generator seeded by (seed, step), so a run that was killed and
resumed makes the same choices as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.esp_medsam import ESPMedSAM, modality_index
from napari_espmedsam.model.output import upsample_logits
from napari_espmedsam.model.registry import create_model
from training.augment import TrainingTransform
from training.config import FinetuneConfig
from training.data import PackDataset, data_root, list_samples
from training.losses import espmedsam_loss
from training.metrics import overlap
from training.run import BEST, load_state, save_state, start_run, write_curve
from training.warm_start import warm_start_litemedsam

#: Large validation images are cut to this many model pixels a side, to keep validation short.
VALIDATION_SIDE = 768


def load_split(config: FinetuneConfig, split: str) -> PackDataset:
    """All packs' samples of one split."""
    samples = [s for pack in config.data.packs for s in list_samples(data_root() / pack, split)]
    return PackDataset(samples, config.input)


def build_model(config: FinetuneConfig) -> ESPMedSAM:
    """Model with its starting weights."""
    torch.manual_seed(config.seed)
    model = create_model(config.architecture, modalities=(config.modality,), **config.model)
    if not isinstance(model, ESPMedSAM):
        raise InputError(
            f"architecture is {config.architecture!r}; this loop trains the esp_medsam family."
        )
    if config.warm_start == "litemedsam":
        warm_start_litemedsam(model)
    return model.to(memory_format=torch.channels_last)


def learning_rate(config: FinetuneConfig, step: int) -> float:
    """Factor on the peak rate: linear warm-up, then cosine decay."""
    o = config.optimiser
    if step < o.warmup_steps:
        return (step + 1) / o.warmup_steps
    progress = (step - o.warmup_steps) / max(1, config.steps - o.warmup_steps)
    return o.final_lr_ratio + (1 - o.final_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases, norms, tokens and queries do not."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    keep = ("tokens", "queries", "biases")
    decayed = [p for n, p in named if p.ndim > 1 and not any(word in n for word in keep)]
    chosen = {id(p) for p in decayed}
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [p for _, p in named if id(p) not in chosen], "weight_decay": 0.0},
    ]


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average whose window grows with the run, up to ``decay``.

    A constant decay would keep a share of the starting weights for thousands of steps.
    """

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():  # BatchNorm's step counters
            return current
        n = int(count)
        return averaged.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def draw_batch(
    data: PackDataset,
    weights: Tensor,
    transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    config: FinetuneConfig,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Batch number ``step``: images (B, 3, H, W) in [0, 1] and masks (B, 1, H, W)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed * 1_000_003 + step + 1)
        chosen = torch.multinomial(weights, config.batch_size, replacement=True)
        pairs = [transform(*data[int(i)]) for i in chosen]
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(masks)


def normalise(images: Tensor, config: FinetuneConfig) -> Tensor:
    """Model input of images in [0, 1], channels-last in memory."""
    spec = config.input
    mean = torch.tensor(spec.mean).view(3, 1, 1)
    std = torch.tensor(spec.std).view(3, 1, 1)
    x = (images * spec.value_range - mean) / std
    return x.contiguous(memory_format=torch.channels_last)


def autocast(config: FinetuneConfig) -> torch.autocast:
    """Mixed-precision context of the run."""
    return torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16")


@torch.inference_mode()
def validate(model: nn.Module, data: PackDataset, config: FinetuneConfig) -> float:
    """Mean Dice at threshold 0.5 over a split, on the image grid.

    Each image is resized by ``input.scale`` and read in one piece; large ones are cut to their
    top-left :data:`VALIDATION_SIDE` model pixels.
    """
    model.eval()
    scores = []
    side = int(VALIDATION_SIDE / config.input.scale)
    for image, mask in (data[i] for i in range(len(data))):
        image, mask = image[:, :side, :side], mask[0, :side, :side]
        size = [max(32, round(n * config.input.scale / 32) * 32) for n in mask.shape]
        x = nn.functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)
        with autocast(config):
            output = model(normalise(x, config), torch.zeros(1, dtype=torch.int64))
        logits = upsample_logits(output.mask_logits.float(), (size[0], size[1]))
        logits = nn.functional.interpolate(logits, size=list(mask.shape), mode="bilinear")
        scores.append(overlap((logits[0, 0] > 0).numpy(), (mask > 0.5).numpy()).dice)
    return float(np.mean(scores))


@dataclass
class Progress:
    """Everything that changes during a run, and that a resumed one needs."""

    model: ESPMedSAM
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, config: FinetuneConfig) -> Progress:
        """Progress before the first step."""
        model = build_model(config)
        average = AveragedModel(model, avg_fn=moving_average(config.ema_decay), use_buffers=True)
        groups = parameter_groups(model, config.optimiser.weight_decay)
        optimiser = torch.optim.AdamW(groups, lr=config.optimiser.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate(config, step)
        )
        return cls(model, average, optimiser, schedule)

    def save(self, folder: Path) -> None:
        """Write the state into the run folder."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        save_state(folder, {**parts, "step": self.step, "curve": self.curve})

    def load(self, folder: Path) -> bool:
        """Take up the state of the run folder; False if it holds none."""
        state = load_state(folder)
        if state is None:
            return False
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.step, self.curve = state["step"], state["curve"]
        return True

    def record(self, folder: Path, loss: float, score: float) -> None:
        """Add a validation to the curve, and keep the averaged weights if they are the best."""
        self.curve.append({"step": self.step, "loss": loss, "val_dice": score})
        write_curve(folder, self.curve)
        if score >= max(row["val_dice"] for row in self.curve):
            best = {"model": self.average.module.state_dict(), "step": self.step, "val_dice": score}
            save_state(folder, best, BEST)


_PARTS = ("model", "average", "optimiser", "schedule")


def train_step(run: Progress, images: Tensor, masks: Tensor, config: FinetuneConfig) -> float:
    """One optimiser step on one batch; returns the loss."""
    modality = modality_index(config.modality, run.model.modalities, len(images))
    run.model.train()
    with autocast(config):
        output = run.model(normalise(images, config), modality)
    loss = espmedsam_loss(output, masks, config.loss)["total"]
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), config.optimiser.clip_norm)
    run.optimiser.step()
    run.schedule.step()
    run.average.update_parameters(run.model)
    return float(loss.detach())


def finetune(
    config: FinetuneConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Train as the recipe says; the best averaged weights end up in ``folder/best.pt``.

    Parameters
    ----------
    config : FinetuneConfig
        The recipe.
    folder : Path
        Run folder: record, curve, state and best weights.
    resume : bool
        Go on with the run that the folder holds.
    report : callable
        Receives one line of text now and then.

    Returns
    -------
    Path
        ``folder / "best.pt"``.
    """
    start_run(folder, config, resume)
    torch.set_num_threads(config.threads)
    train, val = load_split(config, "train"), load_split(config, "val")
    report(f"{len(train)} training and {len(val)} validation images")
    run = Progress.start(config)
    if resume and run.load(folder):
        report(f"resumed at step {run.step}")

    transform = TrainingTransform(config.data, config.input.scale)
    weights = train.weights(config.data.balance)
    started, first, loss = time.monotonic(), run.step, 0.0
    while run.step < config.steps:
        images, masks = draw_batch(train, weights, transform, config, run.step)
        current = train_step(run, images, masks, config)
        run.step += 1
        loss += (current - loss) / min(50, run.step - first)  # running mean
        last = run.step == config.steps

        if run.step % 50 == 0:
            seconds = (time.monotonic() - started) / (run.step - first)
            left = seconds * (config.steps - run.step) / 60
            text = f"step {run.step}/{config.steps} loss {loss:.4f}"
            report(f"{text}, {seconds:.2f} s a step, {left:.0f} min left")
        if run.step % config.validate_every == 0 or last:
            score = validate(run.average.module, val, config)
            run.record(folder, loss, score)
            report(f"step {run.step} validation Dice {score:.4f} (n = {len(val)})")
        if run.step % config.save_every == 0 or last:
            run.save(folder)
    return folder / BEST

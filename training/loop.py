"""The training loop: one function for every kind of run, on one device or many.

A :class:`Task` says what is trained and on what; the loop steps, averages, validates and saves.
Every random choice follows from (seed, step, row), so a run that was killed and resumed makes the
same choices as one that was not, and so do two processes that share a batch.

Several processes are started by ``torchrun``; Lightning Fabric does the rest.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from napari_espmedsam.errors import InputError
from training.config import OptimiserConfig, RunConfig
from training.run import BEST, LOGS, load_state, save_state, write_curve

Batch = tuple[Tensor, ...]

#: Running mean of the loss over about this many steps, for progress bar and curve.
_SMOOTHING = 50


class Task(Protocol):
    """What a run trains."""

    #: ``requires_grad`` says which of its parameters are trained.
    model: nn.Module
    #: Number of training images, which makes an epoch.
    n_images: int

    def batch(self, step: int, rows: range) -> Batch:
        """Return the given rows of global batch number ``step``."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return scalars, means over the batch; ``"total"`` is minimised."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure a model; ``"score"`` is maximised."""
        ...


def set_train_mode(model: nn.Module, batch_norm: str) -> None:
    """Training mode, but for batch normalisations that are frozen or that ``batch_norm`` freezes.

    In training mode a batch normalisation changes its running statistics even if it has no
    gradient, and a part that stays as it is must not.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            trained = module.weight is not None and module.weight.requires_grad
            module.train(trained and batch_norm == "train")


def learning_rate(
    config: OptimiserConfig, step: int, total_steps: int, steps_per_epoch: int
) -> float:
    """Factor on the peak rate: linear warm-up, then cosine or exponential decay."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "exponential":
        return float(config.epoch_decay ** ((step - config.warmup_steps) / steps_per_epoch))
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    low = config.final_lr_ratio
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


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


def make_fabric(config: RunConfig) -> Fabric:
    """Engine for this process: one device, or its share of what ``torchrun`` has started."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # A batch seldom holds every modality, so some bags have no gradient in it.
    strategy = DDPStrategy(find_unused_parameters=True) if world > 1 else "auto"
    fabric = Fabric(
        accelerator=config.device,
        devices=local,
        num_nodes=max(1, world // local),
        strategy=strategy,
        precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
    )
    fabric.launch()
    return fabric


@dataclass
class Progress:
    """Everything that changes during a run, and that a resumed one needs."""

    model: nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    loss: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, model: nn.Module, config: RunConfig, n_images: int) -> Progress:
        """Progress before the first step."""
        average = AveragedModel(model, avg_fn=moving_average(config.ema_decay), use_buffers=True)
        o = config.optimiser
        groups = parameter_groups(model, o.weight_decay)
        if not any(group["params"] for group in groups):
            raise InputError("Nothing is left to train: every parameter is frozen.")
        kind = torch.optim.AdamW if o.name == "adamw" else torch.optim.Adam
        optimiser = kind(groups, lr=o.lr, fused=True)
        total, epoch = config.total_steps(n_images), config.steps_per_epoch(n_images)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate(o, step, total, epoch)
        )
        return cls(model, average, optimiser, schedule)

    def save(self, folder: Path) -> None:
        """Write the state into the run folder."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        plain = {"step": self.step, "loss": self.loss, "curve": self.curve}
        save_state(folder, {**parts, **plain})

    def load(self, folder: Path) -> bool:
        """Take up the state of the run folder; False if it holds none."""
        state = load_state(folder)
        if state is None:
            return False
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.step, self.loss, self.curve = state["step"], state["loss"], state["curve"]
        return True

    def record(self, folder: Path, scores: dict[str, float]) -> None:
        """Add a validation to the curve, and keep the averaged weights if they are the best."""
        self.curve.append({"step": self.step, "loss": self.loss, **scores})
        write_curve(folder, self.curve)
        if scores["score"] >= max(row["score"] for row in self.curve):
            weights = self.average.module.state_dict()
            save_state(folder, {"model": weights, "step": self.step, **scores}, BEST)


_PARTS = ("model", "average", "optimiser", "schedule")


class StepBatches(Dataset[list[Batch]]):
    """The micro-batches of one process, by step."""

    def __init__(self, task: Task, config: RunConfig, rank: int, world: int) -> None:
        if config.batch_size % world:
            raise InputError(
                f"batch_size is {config.batch_size}, which {world} processes cannot share evenly."
            )
        self.task = task
        rows = range(config.batch_size)[rank::world]
        size = config.micro_batch or len(rows)
        self.parts = [rows[i : i + size] for i in range(0, len(rows), size)]

    def __getitem__(self, step: int) -> list[Batch]:
        """Micro-batches of optimiser step ``step``."""
        return [self.task.batch(step, rows) for rows in self.parts]


def iterate_steps(
    batches: StepBatches, first: int, last: int, workers: int
) -> Iterator[tuple[int, list[Batch]]]:
    """Yield (step, micro-batches), prepared by ``workers`` processes ahead of time."""
    loader = DataLoader(
        batches,
        sampler=range(first, last),
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    yield from zip(range(first, last), loader, strict=True)


def train_step(
    fabric: Fabric,
    task: Task,
    model: _FabricModule,
    optimiser: torch.optim.Optimizer,
    batches: list[Batch],
    config: RunConfig,
) -> dict[str, float]:
    """One optimiser step on this process's micro-batches; returns the mean losses.

    Raises
    ------
    InputError
        If the gradient is not finite; the weights are then still the last good ones.
    """
    set_train_mode(task.model, config.batch_norm)
    optimiser.zero_grad(set_to_none=True)
    rows = sum(len(batch[0]) for batch in batches)
    means: dict[str, float] = {}
    for i, batch in enumerate(batches):
        share = len(batch[0]) / rows
        # Processes exchange gradients once a step, with the last micro-batch.
        with fabric.no_backward_sync(model, enabled=i + 1 < len(batches)):
            losses = task.loss(model, fabric.to_device(batch))
            fabric.backward(losses["total"] * share)
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + share * float(value.detach())
    norm = fabric.clip_gradients(
        model, optimiser, max_norm=config.optimiser.clip_norm, error_if_nonfinite=False
    )
    if norm is None or not math.isfinite(norm):
        raise InputError(
            f"The gradient is {norm} at a loss of {means['total']}: the run has diverged. Lower "
            f'optimiser.lr ({config.optimiser.lr:g}), or set precision = "float32". The last saved '
            "state and the best weights are in the run folder."
        )
    optimiser.step()
    return means


def validate_average(task: Task, run: Progress, folder: Path, log: SummaryWriter) -> str:
    """Measure the averaged weights, record the scores, and put them into words."""
    scores = task.validate(run.average.module)
    run.record(folder, scores)
    for name, value in scores.items():
        log.add_scalar(f"val/{name}", value, run.step)
    text = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    return f"loss {run.loss:.4f} validation {text}"


def fit(
    task: Task,
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Train ``task``; the best averaged weights end up in ``folder/best.pt``.

    Parameters
    ----------
    task : Task
        What is trained.
    config : RunConfig
        Length, batch, optimiser, precision.
    folder : Path
        Run folder, opened by :func:`training.run.open_run`: curve, logs, state and best weights.
    resume : bool
        Go on from the state that the folder holds, if any.
    report : callable
        Receives one line of text now and then.

    Returns
    -------
    Path
        ``folder / "best.pt"``.
    """
    torch.set_num_threads(config.threads)
    fabric = make_fabric(config)
    run = Progress.start(task.model, config, task.n_images)
    if resume and run.load(folder):
        report(f"resumed at step {run.step}")
    total = config.total_steps(task.n_images)
    model, optimiser = fabric.setup(task.model, run.optimiser)
    run.average.to(fabric.device)
    batches = StepBatches(task, config, fabric.global_rank, fabric.world_size)
    main = fabric.is_global_zero  # the process that reports, measures and saves
    log = SummaryWriter(str(folder / LOGS), purge_step=run.step) if main else None
    bar = tqdm(
        total=total,
        initial=run.step,
        disable=not main,
        mininterval=1 if sys.stderr.isatty() else 120,
        unit="step",
    )

    for step, micro in iterate_steps(batches, run.step, total, config.workers):
        torch.manual_seed(config.seed * 1_000_003 + step)  # for layers that draw, if any
        losses = train_step(fabric, task, model, optimiser, micro, config)
        run.schedule.step()
        run.average.update_parameters(task.model)
        run.step = step + 1
        run.loss += (losses["total"] - run.loss) / min(_SMOOTHING, run.step)
        last = run.step == total
        due = last or run.step % config.validate_every == 0
        bar.update()
        bar.set_postfix(loss=f"{run.loss:.4f}", refresh=False)
        if log is not None:
            for name, value in losses.items():
                log.add_scalar(f"loss/{name}", value, run.step)
            if due:
                report(f"step {run.step}/{total} {validate_average(task, run, folder, log)}")
            if last or run.step % config.save_every == 0:
                run.save(folder)
        if due:
            fabric.barrier()
    bar.close()
    if log is not None:
        log.close()
    return folder / BEST

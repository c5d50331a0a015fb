"""Distillation of encoders: MMDKD's two terms (ESP-MedSAM eq. 2) and FLKD (Med-FastSAM eq. 1).

The common term teaches the aggregator alone on natural images; FLKD is the same for the distilled
branch of Med-FastSAM. The specific term teaches the parameter bags on medical images, each by
images of its own modality, while the aggregator stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.device import choose_device
from napari_espmedsam.model.checkpoint import InputSpec
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.registry import create_model
from training.config import ModalityConfig, RunConfig
from training.data import normalise
from training.distilled import is_medical, load_distilled
from training.embeddings import EmbeddingCache, View
from training.finetune import load_samples
from training.loop import Batch, fit
from training.run import needs_check, open_run
from training.teacher import TeacherSpec, create_teacher
from training.unlabelled import ImageSet, NaturalConfig, natural_images
from training.warm_start import warm_start_litemedsam


class DistillConfig(RunConfig):
    """Distillation of one term into one student."""

    architecture: str = "esp_medsam"
    #: Overrides of the architecture's configuration.
    model: dict[str, Any] = Field(default_factory=dict)
    #: "common": natural images, aggregator. "specific": medical images, bags.
    term: Literal["common", "specific"]
    teacher: TeacherSpec
    natural: NaturalConfig | None = None
    #: In the order of the bags. Of each ``input`` the rescale rule and normalisation are used:
    #: images are always squeezed as a whole, so that both models see the same.
    modalities: dict[str, ModalityConfig] = Field(default_factory=dict)
    #: Side of the student's square input in pixels.
    size: int = Field(default=256, ge=32, multiple_of=32)
    #: Each is embedded once by the teacher.
    views: tuple[View, ...] = ("identity", "flip")
    warm_start: Literal["litemedsam", "none"] = "litemedsam"
    #: Run folder of a common term, whose aggregator replaces the warm start's.
    distilled: Path | None = None
    #: Folder of the teacher's embeddings; shared by all runs.
    cache: Path = Path("runs/embeddings")
    #: Images per call of the teacher.
    teacher_batch: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _the_term_has_its_data(self) -> DistillConfig:
        if self.term == "common" and (self.natural is None or self.teacher.adapted is not None):
            raise ValueError('term "common" needs [natural] images and a teacher without `adapted`')
        if self.term == "specific" and not self.modalities:
            raise ValueError('term "specific" needs at least one [modalities.NAME] table')
        if not self.views:
            raise ValueError('views is empty; "identity" alone is the least')
        return self


def build_student(config: DistillConfig) -> nn.Module:
    """Encoder that is trained: called as ``student(images)`` in the common term and as
    ``student(images, modality)`` in the specific one; ``requires_grad`` on what may move.

    Raises
    ------
    InputError
        If the architecture has no bags and the term is "specific".
    """
    torch.manual_seed(config.seed)
    names = tuple(config.modalities) or ("natural",)
    model = create_model(config.architecture, modalities=names, **config.model)
    if config.warm_start == "litemedsam":
        warm_start_litemedsam(model)
    if config.distilled is not None:
        load_distilled(model, config.distilled)
    student: nn.Module
    if config.term == "common":
        student = model.encoder.trunk if isinstance(model, ESPMedSAM) else model.encoder
        for name, parameter in student.named_parameters():
            # A fresh medical branch adds nothing, so this is the distilled branch alone.
            parameter.requires_grad_(not is_medical(name))
    else:
        if not isinstance(model, ESPMedSAM) or not model.encoder.bags:
            raise InputError(f'{config.architecture} has no bags; term must be "common".')
        model.encoder.trunk.requires_grad_(False)
        student = model.encoder
    return student.to(memory_format=torch.channels_last)


class DistillTask:
    """Mean squared error between a student's embedding and the teacher's stored one.

    The papers' squared norm is this mean times a constant (the number of entries). Where the grids
    differ, the teacher's embedding is brought to the student's by ``embeddings.to_grid``.

    Parameters
    ----------
    config : DistillConfig
        The recipe.
    check : bool
        Read every labelled pair first, as a fine-tuning does.
    report : callable
        Receives one line of text now and then.
    """

    def __init__(
        self,
        config: DistillConfig,
        *,
        check: bool = True,
        report: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.model = build_student(config)
        self.specs: list[InputSpec] = []
        self.names: list[str] = []
        self.train: list[ImageSet] = []
        self.val: list[ImageSet] = []
        for name, spec, train, val in self._sources(check, report):
            if not train:
                raise InputError(f"There is no training image of {name!r} in its packs, manifests.")
            self.names.append(name)
            self.specs.append(spec)
            self.train.append(ImageSet(train, spec, config.size))
            self.val.append(ImageSet(val, spec, config.size))
        if not any(len(images) for images in self.val):
            raise InputError("There is no validation image: the splits name none as val.")
        self.n_images = sum(len(images) for images in self.train)
        shares = [m.share for m in config.modalities.values()]
        weights = torch.tensor(shares if config.term == "specific" else [1.0], dtype=torch.float64)
        self.cumulative = (weights / weights.sum()).cumsum(0)
        self._ask_the_teacher(report)

    def _sources(
        self, check: bool, report: Callable[[str], None]
    ) -> list[tuple[str, InputSpec, list[Path], list[Path]]]:
        """Name, rule, training and validation images of every source."""
        natural = self.config.natural
        if self.config.term == "common" and natural is not None:
            return [("natural", natural.input, *natural_images(natural, report))]
        sources = []
        for name, part in self.config.modalities.items():
            samples = load_samples(name, part, check=check, report=report)
            train, val = ([s.image for s in samples if s.split == k] for k in ("train", "val"))
            sources.append((name, part.input, train, val))
        return sources

    def _ask_the_teacher(self, report: Callable[[str], None]) -> None:
        config = self.config
        teacher = create_teacher(config.teacher)
        trunk: Any = getattr(self.model, "trunk", self.model)
        channels = trunk.neck[0].out_channels
        if channels != teacher.encoder.channels:
            raise InputError(
                f"The student's embedding has {channels} channels, that of the teacher "
                f"{teacher.name} {teacher.encoder.channels}. Set model.trunk.out_channels to it."
            )
        device = choose_device(config.device).device
        if device.startswith("cuda"):
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        teacher.to(device)
        self.cache = EmbeddingCache(config.cache, teacher, config.size // 16)
        torch.set_num_threads(config.threads)
        for images, views in [(s, config.views) for s in self._drawn()] + [
            (s, ("identity",)) for s in self.val
        ]:
            self.cache.fill(images, views, batch_size=config.teacher_batch, report=report)
        teacher.to("cpu")  # from now on it is asked only where a file has been damaged

    def _drawn(self) -> list[ImageSet]:
        """Training images that the run will draw, of each source: no others need the teacher."""
        steps = self.config.total_steps(self.n_images)
        rows = {(k, i) for step in range(steps) for k, i, _ in self._draw(step)}
        return [
            ImageSet(
                [path for i, path in enumerate(images.paths) if (k, i) in rows],
                images.spec,
                images.size,
            )
            for k, images in enumerate(self.train)
        ]

    def _draw(self, step: int) -> list[tuple[int, int, View]]:
        """Source, image and view of every row; sources come in runs, by their shares."""
        n, views = self.config.batch_size, self.config.views
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed * 1_000_003 + step + 1)
            points = (torch.arange(n, dtype=torch.float64) + torch.rand(())) / n
            kinds = torch.searchsorted(self.cumulative, points).clamp_max(len(self.names) - 1)
            rows = []
            for k in kinds.tolist():
                i, v = (
                    int(torch.randint(len(self.train[k]), ())),
                    int(torch.randint(len(views), ())),
                )
                rows.append((k, i, views[v]))
        return rows

    def batch(self, step: int, rows: range) -> Batch:
        """Images (B, 3, S, S) in [0, 1], embeddings (B, C, S/16, S/16), source (B,)."""
        drawn = self._draw(step)
        pairs = [self.train[k].pair(i, view, self.cache) for k, i, view in (drawn[r] for r in rows)]
        images, targets = zip(*pairs, strict=True)
        kinds = torch.tensor([drawn[r][0] for r in rows])
        return torch.stack(images), torch.stack(targets), kinds

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over all entries of the embeddings."""
        images, targets, kinds = batch
        x = normalise(images, kinds, self.specs)
        # Rows of the table are bags: build_student makes one per source, in the same order.
        embedding = model(x, kinds) if self.config.term == "specific" else model(x)
        return {"total": F.mse_loss(embedding.float(), targets)}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Error on every source's validation images; the score is minus their mean."""
        model.eval()
        device = next(model.parameters()).device
        half = self.config.precision == "bfloat16"
        errors = {}
        for k, images in enumerate(self.val):
            total = 0.0
            for i in range(len(images)):
                x, target = images.pair(i, "identity", self.cache)
                batch = tuple(t.to(device) for t in (x[None], target[None], torch.tensor([k])))
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    total += float(self.loss(model, batch)["total"])
            if len(images):
                errors[f"mse_{self.names[k]}"] = total / len(images)
        return {"score": -float(np.mean(list(errors.values()))), **errors}


def distill(
    config: DistillConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Distil one term; see :func:`training.loop.fit`, and :func:`load_distilled` for its use.

    Parameters
    ----------
    config : DistillConfig
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
        ``folder / "best.pt"``: the student's weights.
    """
    open_run(folder, config, resume=resume)
    task = DistillTask(config, check=needs_check(resume), report=report)
    trained = sum(p.numel() for p in task.model.parameters() if p.requires_grad)
    report(f"{config.term} term: {trained / 1e6:.2f} M parameters, {task.n_images} images")
    return fit(task, config, folder, resume=resume, report=report)


def flkd(
    config: DistillConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Distil SAM's encoder into the distilled branch of a Med-FastSAM (eq. 1).

    Raises
    ------
    InputError
        If the recipe is for another architecture or term.
    """
    if not config.architecture.startswith("med_fastsam") or config.term != "common":
        raise InputError(
            f'flkd needs architecture = "med_fastsam" and term = "common"; the recipe has '
            f"{config.architecture!r} and {config.term!r}. Use distill for an esp_medsam."
        )
    return distill(config, folder, resume=resume, report=report)

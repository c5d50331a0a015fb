"""Fine-tuning: train a whole model, or one modality's private parts, on labelled images."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import InputSpec, load_checkpoint
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import ModelOutput, upsample_logits
from napari_espmedsam.model.registry import Model, create_model
from napari_espmedsam.weights import resolve_checkpoint
from training.augment import TrainingTransform
from training.check import check_samples
from training.config import FinetuneConfig, ModalityConfig
from training.corrections import CORRECTION_LEVELS, draw_corrections, no_corrections
from training.data import (
    Sample,
    SampleSet,
    data_root,
    list_samples,
    normalise,
    read_pair,
    rescale,
    splits_of,
    squeeze,
)
from training.distilled import load_distilled
from training.grow import with_modalities
from training.loop import Batch, fit
from training.losses import segmentation_loss
from training.manifest import read_manifest
from training.metrics import overlap
from training.run import needs_check, open_run
from training.unet import ARCHITECTURE as UNET
from training.unet import YardstickUNet, build_unet
from training.warm_start import warm_start_litemedsam

#: Large validation images are cut to this many model pixels a side, to keep validation short.
VALIDATION_SIDE = 512


def load_samples(
    name: str,
    config: ModalityConfig,
    *,
    check: bool = True,
    report: Callable[[str], None] = print,
) -> list[Sample]:
    """Training and validation samples of one modality, from all its packs and manifests.

    Raises
    ------
    InputError
        If a pair is damaged and ``skip_damaged`` is not set, or an image or group lies in two
        splits (the test split counts).
    """
    samples = [s for path in config.manifests for s in read_manifest(path) if s.modality == name]
    for pack in config.packs:
        folder = data_root() / pack
        for split in splits_of(folder):
            samples += list_samples(folder, split, name)
    if config.limit is not None:
        by_split = [[s for s in samples if s.split == split] for split in ("train", "val", "test")]
        samples = [s for part in by_split for s in part[: config.limit]]
    # What is left out must be the same in every process, and after a resume.
    if config.skip_damaged or (check and config.check):
        samples = check_samples(samples, skip_damaged=config.skip_damaged, report=report)
    return [s for s in samples if s.split != "test"]


def starting_layout(config: FinetuneConfig) -> Model | YardstickUNet:
    """Model of the recipe's layout; with the checkpoint's weights where it starts from one."""
    torch.manual_seed(config.seed)
    names = tuple(config.modalities)
    if config.architecture == UNET:
        return build_unet(names, **config.model)
    if config.checkpoint is None:
        model = create_model(config.architecture, modalities=names, **config.model)
    else:
        loaded = load_checkpoint(resolve_checkpoint(config.checkpoint))
        model = with_modalities(loaded.model, names)
    if config.prompt_corrections:
        # No parameter depends on them.
        model.config = model.config.model_copy(update={"correction_levels": CORRECTION_LEVELS})
    return model


def build_model(config: FinetuneConfig) -> Model | YardstickUNet:
    """Model with its starting weights."""
    model = starting_layout(config)
    if config.warm_start == "litemedsam":
        if isinstance(model, YardstickUNet):
            raise InputError('A U-Net has no warm start. Set warm_start = "none".')
        warm_start_litemedsam(model)
    if config.distilled is not None:
        if isinstance(model, YardstickUNet):
            raise InputError("A U-Net has no encoder to distil. Leave `distilled` out.")
        load_distilled(model, config.distilled)
    return model.to(memory_format=torch.channels_last)


def private_parameters(model: nn.Module, modalities: tuple[str, ...]) -> set[str]:
    """Names of the parameters that belong to ``modalities`` alone.

    The query table counts as private: a modality's steps leave the other rows without gradient.

    Raises
    ------
    InputError
        If the architecture has no private parts.
    """
    if not isinstance(model, ESPMedSAM) or len(model.decoder.mask_mlps) == 1 < len(
        model.modalities
    ):
        raise InputError('train = "private" needs an esp_medsam with a mask MLP per modality.')
    indices = [model.modalities.index(name) for name in modalities]
    prefixes = ["decoder.queries"]
    for k in indices:
        prefixes += [f"encoder.bags.{k}.", f"decoder.mask_mlps.{k}."]
    return {n for n, _ in model.named_parameters() if n.startswith(tuple(prefixes))}


def choose_trained(model: nn.Module, config: FinetuneConfig) -> None:
    """Set ``requires_grad`` as the recipe says."""
    wanted = None
    if config.train == "private":
        wanted = private_parameters(model, tuple(config.modalities))
    for name, parameter in model.named_parameters():
        frozen = any(fnmatch(name, pattern) for pattern in config.freeze)
        allowed = wanted is None or name in wanted
        parameter.requires_grad_(parameter.requires_grad and allowed and not frozen)


def prompt_cell(model: nn.Module) -> int:
    """Side of a prompt cell in model px.

    Raises
    ------
    InputError
        If the model takes no prompt.
    """
    if isinstance(model, ESPMedSAM) and model.config.prompt == "self_patch":
        return 16 * 2**model.config.prompt_levels
    if isinstance(model, MedFastSAM) and model.config.prompt != "none":
        return 1
    raise InputError("This model takes no prompt. Leave prompt_corrections out of the recipe.")


class FinetuneTask:
    """Masks as targets: eq. 1 plus eq. 6, or eq. 14, on batches that mix modalities.

    Parameters
    ----------
    config : FinetuneConfig
        The recipe.
    model : nn.Module, optional
        Called as ``model(images, modality, unnormalised=...)`` where it is a Med-FastSAM, else as
        ``model(images, modality)``. Built from the recipe when left out.
    check : bool
        Read every pair first; see :func:`load_samples`.
    report : callable
        Receives what the check finds.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        model: nn.Module | None = None,
        *,
        check: bool = True,
        report: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.model = build_model(config) if model is None else model
        choose_trained(self.model, config)
        self.cell = prompt_cell(self.model) if config.prompt_corrections else 0
        self.names = list(config.modalities)
        self.specs = [m.input for m in config.modalities.values()]
        known: tuple[str, ...] = self.model.modalities  # type: ignore[assignment]
        self.indices = [known.index(name) for name in self.names]
        parts = list(config.modalities.items())
        samples = {n: load_samples(n, m, check=check, report=report) for n, m in parts}
        self.train = [
            SampleSet([s for s in samples[n] if s.split == "train"], m.input) for n, m in parts
        ]
        self.val = {n: [s for s in samples[n] if s.split == "val"] for n, _ in parts}
        for name, train in zip(self.names, self.train, strict=True):
            if not len(train):
                raise InputError(f"There is no training image of {name!r} in its packs, manifests.")
        self.n_images = sum(len(s) for s in self.train)
        self.weights = [s.weights(m.balance) for s, (_, m) in zip(self.train, parts, strict=True)]
        self.transforms = [
            TrainingTransform(
                m.augment, config.crop, m.input.scale if m.input.geometry == "tiled" else None
            )
            for _, m in parts
        ]
        shares = torch.tensor([m.share for _, m in parts], dtype=torch.float64)
        self.cumulative = (shares / shares.sum()).cumsum(0)

    def _draw(self, step: int) -> list[tuple[int, int]]:
        """Modality and image of every row: over time each modality has its share of the rows."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed * 1_000_003 + step + 1)
            size = self.config.group_size
            n = self.config.batch_size // size
            # Evenly spaced points under one random offset: no modality is drawn far too often.
            points = (torch.arange(n, dtype=torch.float64) + torch.rand(())) / n
            kinds = torch.searchsorted(self.cumulative, points).clamp_max(len(self.names) - 1)
            return [
                (int(k), int(torch.multinomial(self.weights[k], 1)))
                for k in kinds.repeat_interleave(size)
            ]

    def batch(self, step: int, rows: range) -> Batch:
        """Images (B, 3, S, S) in [0, 1], masks (B, 1, S, S), recipe index of the modality (B,).

        With ``prompt_corrections``, also what :func:`draw_corrections` returns for each row.
        """
        drawn = self._draw(step)
        items = []
        with torch.random.fork_rng(devices=[]):
            for row in rows:
                k, i = drawn[row]
                torch.manual_seed((self.config.seed * 1_000_003 + step) * 4096 + row)
                image, mask = self.transforms[k](*self.train[k][i])
                items.append((image, mask, torch.tensor(k), *self._correct(mask)))
        return tuple(torch.stack(column) for column in zip(*items, strict=True))

    def _correct(self, mask: Tensor) -> tuple[Tensor, ...]:
        """Corrections of one row's prompt and the mask they ask for; nothing if none are wanted."""
        share = self.config.prompt_corrections
        if share == 0:
            return ()
        draw = draw_corrections if float(torch.rand(())) < share else no_corrections
        return draw(mask, self.cell)

    def forward(
        self, model: nn.Module, images: Tensor, kinds: Tensor, corrections: Tensor | None = None
    ) -> ModelOutput:
        """Run the model on images in [0, 1]."""
        modality = torch.tensor(self.indices, device=kinds.device)[kinds]
        x = normalise(images, kinds, self.specs)
        if isinstance(self.model, MedFastSAM):
            return model(x, modality, corrections, images)
        return model(x, modality) if corrections is None else model(x, modality, corrections)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mask loss and, where the model proposes a prompt grid, the prompt loss."""
        images, masks, kinds, *corrected = batch
        corrections, wanted = corrected or (None, None)
        output = self.forward(model, images, kinds, corrections)
        return segmentation_loss(output, masks, self.config.loss, wanted=wanted)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean Dice of every modality at threshold 0.5 on the images' own grid, and their mean."""
        model.eval()
        dice = {
            name: float(np.mean([self._dice(model, k, sample) for sample in self.val[name]]))
            for k, name in enumerate(self.names)
            if self.val[name]
        }
        if not dice:
            raise InputError("There is no validation image: the splits name none as val.")
        return {"score": float(np.mean(list(dice.values()))), **dice}

    def _dice(self, model: nn.Module, k: int, sample: Sample) -> float:
        spec = self.specs[k]
        pixels, truth = read_pair(sample)
        x, truth = model_view(rescale(pixels, spec), truth, spec)
        device = next(model.parameters()).device
        precision = torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32
        with torch.autocast(device.type, precision, enabled=precision == torch.bfloat16):
            output = self.forward(model, x[None].to(device), torch.tensor([k], device=device))
        height, width = x.shape[-2:]
        logits = upsample_logits(output.mask_logits.float(), (height, width))
        logits = nn.functional.interpolate(logits, size=list(truth.shape), mode="bilinear")
        return overlap((logits[0, 0] > 0).cpu().numpy(), truth).dice


def model_view(image: np.ndarray, truth: np.ndarray, spec: InputSpec) -> tuple[Tensor, np.ndarray]:
    """One validation image as the model sees it, and the truth that its answer is held against.

    Parameters
    ----------
    image : ndarray
        (3, H, W) float32 in [0, 1].
    truth : ndarray
        (H, W) bool.
    spec : InputSpec
        Whole: squeezed to size x size. Tiled: resized by the scale, in one piece, cut to the
        top-left :data:`VALIDATION_SIDE` model pixels.
    """
    if spec.geometry == "whole":
        return torch.from_numpy(squeeze(image, truth, spec.size)[0]), truth
    side = int(VALIDATION_SIDE / spec.scale)
    image, truth = image[:, :side, :side], truth[:side, :side]
    size = [max(32, round(n * spec.scale / 32) * 32) for n in truth.shape]
    x = nn.functional.interpolate(
        torch.from_numpy(image)[None], size=size, mode="bilinear", antialias=True
    )
    return x[0], truth


def finetune(
    config: FinetuneConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Train as the recipe says; see :func:`training.loop.fit`."""
    open_run(folder, config, resume=resume)
    task = FinetuneTask(config, check=needs_check(resume), report=report)
    counts = ", ".join(
        f"{name} {len(train)} + {len(task.val[name])}"
        for name, train in zip(task.names, task.train, strict=True)
    )
    report(f"training + validation images: {counts}")
    return fit(task, config, folder, resume=resume, report=report)

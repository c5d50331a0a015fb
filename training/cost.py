"""What models cost: parameters, multiply-adds and speed, beside the papers' figures."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.device import choose_device
from napari_espmedsam.model.complexity import complexity
from napari_espmedsam.model.config import MedFastSAMConfig, ModelConfig
from napari_espmedsam.model.registry import build, list_models, model_config
from training.papers import PAPERS
from training.tables import markdown

PAPER_SIZE = 1024
YARDSTICK = "unet"
WARM_UP = 2  # passes before the clock: memory, kernels, caches

_COLUMNS = (
    "model",
    "input, px",
    "parameters, M",
    "GMACs",
    "ms per image",
    "FPS",
    "measured on",
)


@dataclass
class Subject:
    """A model under the clock.

    Attributes
    ----------
    name : str
        For the table.
    parameters, macs, discarded_macs : int
        See :class:`napari_espmedsam.model.complexity.Complexity`.
    run : callable
        One forward pass of one image.
    seconds : list of float
        Time of every pass so far.
    """

    name: str
    parameters: int
    macs: int
    discarded_macs: int
    run: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)


def cost(
    names: Sequence[str],
    *,
    size: int = PAPER_SIZE,
    repeats: int = 5,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Measure models at batch 1 in float32.

    The models take turns, so that other work on the machine slows all of them alike. The clock
    sees the forward pass alone, not the reading and resizing of images.

    Parameters
    ----------
    names : sequence of str
        Architectures (:func:`napari_espmedsam.model.registry.list_models`), names of bundled
        checkpoints, checkpoint files, or "unet" for the yardstick.
    size : int
        Side of the square input in px, a multiple of 32.
    repeats : int
        Timed passes of each model, after two untimed ones.
    device : str
        See :func:`napari_espmedsam.inference.device.choose_device`.
    report : callable
        Receives a line now and then.

    Returns
    -------
    str
        A Markdown table with the papers' rows below ours, and a line that names the machine,
        without which a number of images a second means nothing.

    Raises
    ------
    InputError
        If the size or the number of repeats cannot be used.
    CheckpointError
        If a name is neither an architecture nor a usable checkpoint.
    DeviceError
        If the device is not available.
    """
    if size < 32 or size % 32:
        raise InputError(f"size is {size}. Give a multiple of 32, 32 or more.")
    if repeats < 1:
        raise InputError(f"repeats is {repeats}. Give 1 or more.")
    place = choose_device(device).device
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(place)
    subjects = []
    for name in names:
        report(f"counting {name}")
        subjects.append(_subject(name, images))
    _time(subjects, repeats, place, report)
    rows = [_row(subject, size) for subject in subjects]
    return "\n".join([*markdown(_COLUMNS, rows + _paper_rows()), "", *_notes(place, repeats)])


def _subject(name: str, images: Tensor) -> Subject:
    """Count a model and make it ready; an architecture gets random weights, which cost the same."""
    model, config = _open(name)
    model = model.to(device=images.device).to(memory_format=torch.channels_last).eval()
    modality = torch.zeros(1, dtype=torch.int64, device=images.device)
    extra = {"unnormalised": images} if isinstance(config, MedFastSAMConfig) else {}
    planes = images.contiguous(memory_format=torch.channels_last)
    run = partial(model, planes, modality, **extra)
    if config is not None:
        count = complexity(config, images.shape[-1])
        return Subject(name, count.parameters, count.macs, count.discarded_macs, run)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Subject(name, parameters, counter.get_total_flops() // 2, 0, run)


def _open(name: str) -> tuple[nn.Module, ModelConfig | None]:
    """Model, and its configuration if it is one of the package's own and no yardstick."""
    if name in list_models():
        config = model_config(name)
        return build(config), config
    # MONAI, behind both imports, takes seconds to load.
    if name == YARDSTICK:
        from training.unet import build_unet

        return build_unet((YARDSTICK,)), None
    from training.checkpoints import open_model

    loaded = open_model(name)
    if loaded.header.architecture == YARDSTICK:
        return loaded.model, None
    return loaded.model, model_config(loaded.header.architecture, **loaded.header.config)


@torch.inference_mode()
def _time(
    subjects: Sequence[Subject], repeats: int, device: str, report: Callable[[str], None]
) -> None:
    for number in range(WARM_UP + repeats):
        for subject in subjects:
            _wait(device)
            started = time.perf_counter()
            subject.run()
            _wait(device)
            if number >= WARM_UP:
                subject.seconds.append(time.perf_counter() - started)
        report(f"round {number + 1} of {WARM_UP + repeats}")


def _wait(device: str) -> None:
    """Let a GPU finish: its calls return before the work is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _row(subject: Subject, size: int) -> list[str]:
    gmacs = f"{subject.macs / 1e9:.2f}"
    if subject.discarded_macs:
        gmacs += f" (+ {subject.discarded_macs / 1e9:.2f} dropped)"
    middle = median(subject.seconds)
    low, high = min(subject.seconds), max(subject.seconds)
    return [
        subject.name,
        str(size),
        f"{subject.parameters / 1e6:.2f}",
        gmacs,
        f"{1e3 * middle:.1f} ({1e3 * low:.1f} to {1e3 * high:.1f})",
        f"{1 / middle:.2f}",
        "this machine",
    ]


def _paper_rows() -> list[list[str]]:
    return [
        [
            f"{model} ({paper.name} paper)",
            str(PAPER_SIZE),
            f"{printed.parameters:.2f}",
            "-" if printed.gmacs is None else f"{printed.gmacs:.2f}",
            "-",
            "-" if printed.fps is None else f"{printed.fps:.2f}",
            "-" if printed.fps is None else paper.machine,
        ]
        for paper in PAPERS
        for model, printed in paper.costs.items()
    ]


def _notes(device: str, repeats: int) -> list[str]:
    return [
        f"This machine: {machine(device)}, PyTorch {torch.__version__}, float32, batch 1; median "
        f"and range of {repeats} passes after {WARM_UP} untimed ones, models in turn. Images a "
        "second hold for this machine alone: compare them down the column, not with the papers'.",
        "",
        "MACs are multiply-adds, which the papers print as FLOPs. Dropped: what the authors' code "
        "computes besides and throws away; ours skips it.",
        "",
        *(f"- {paper.citation}." for paper in PAPERS),
    ]


def machine(device: str) -> str:
    """Name the hardware behind a device: "AMD EPYC, 2 threads"."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpu = _cpu_name()
    if device == "mps":
        return f"GPU of {cpu} (MPS)"
    return f"{cpu}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")  # Linux; elsewhere platform knows better
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

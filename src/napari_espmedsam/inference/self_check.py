"""Compare an accelerator with the CPU on a fixed tile before it is trusted.

Some return wrong numbers without an error: MPS has done so for years in one operation or another
(https://github.com/pytorch/pytorch/issues?q=label%3A%22module%3A+mps%22).
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_espmedsam.errors import DeviceError
from napari_espmedsam.inference.device import DeviceChoice, choose_device
from napari_espmedsam.inference.mixed_precision import HALVES
from napari_espmedsam.inference.runner import Floats, ModelRunner

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

SIDE = 96  # px of the fixed tile: three prompt cells, and windows that need padding
LIMIT = 0.05  # TF32 and other orders of sums differ by 0.001; a wrong result by more than 0.5

HALF_LIMIT = 0.2  # bfloat16 differs by a few hundredths; float16 that overflows by infinity

_lock = threading.Lock()
_verdicts: dict[tuple[str, str], str] = {}  # device, kind of model -> what is wrong; "" is nothing


def checked_runner(
    model: nn.Module,
    choice: DeviceChoice,
    precision: str,
    spec: InputSpec,
    *,
    backend: str = "torch",
    graph_sizes: Collection[int] = (),
) -> tuple[DeviceChoice, ModelRunner]:
    """Put a model on a device, or on the CPU if the device computes something else there.

    Each device is compared once per process and kind of model, in float32: milliseconds.

    Parameters
    ----------
    model : nn.Module
        A model of ``napari_espmedsam.model``, on the CPU.
    choice : DeviceChoice
        Where it is to run.
    precision : str
        See :class:`~napari_espmedsam.inference.runner.ModelRunner`.
    spec : InputSpec
        Normalisation of its first modality.
    backend, graph_sizes
        As `precision`.

    Returns
    -------
    DeviceChoice
        As given, or the CPU with what is wrong with the device as the reason.
    ModelRunner
        The model there.

    Raises
    ------
    DeviceError
        If the device has no memory for the check.
    """
    if choice.device == "cpu":
        return choice, ModelRunner(model, "cpu", precision, backend, graph_sizes)
    key = (choice.device, type(model).__name__)
    with _lock:
        if key not in _verdicts:
            _verdicts[key] = _judge(model, choice.device, spec)
        wrong = _verdicts[key]
    if not wrong:
        runner = ModelRunner(model, choice.device, precision, backend, graph_sizes)
        return _in_float32_if_better(choice, runner, model, spec)
    cpu = choose_device("cpu").device
    reason = (
        f"The CPU, as {choice.device} cannot be trusted with this model: {wrong}. A newer PyTorch "
        "or driver may mend it."
    )
    if precision == "float16":  # is for GPUs
        precision = "float32"
    return DeviceChoice(cpu, reason, distrusted=True), ModelRunner(model, cpu, precision)


def _in_float32_if_better(
    choice: DeviceChoice, runner: ModelRunner, model: nn.Module, spec: InputSpec
) -> tuple[DeviceChoice, ModelRunner]:
    """Leave a half precision that is more than rounding away from float32 on the same device.

    Whether numbers are too large for float16 depends on the weights, so no verdict is kept.
    """
    if runner.precision not in HALVES:
        return choice, runner
    exact = ModelRunner(model, choice.device)
    wrong = _compare(_answer(exact, spec), _answer(runner, spec), HALF_LIMIT, "that of float32")
    if not wrong:
        return choice, runner
    reason = (
        f"{choice.device} in float32, as {runner.precision} cannot be trusted with these weights: "
        f"{wrong}."
    )
    return DeviceChoice(choice.device, reason, distrusted=True), exact


def fixed_tile() -> Floats:
    """Return the tile that is compared: (96, 96) float32 waves in [0, 1]."""
    y, x = np.indices((SIDE, SIDE), dtype=np.float32)
    return np.asarray(0.5 + 0.5 * np.sin(x / 4) * np.cos(y / 6 + x / 30), np.float32)


def _judge(model: nn.Module, device: str, spec: InputSpec) -> str:
    """Say what is wrong with a device, or nothing."""
    expected = _answer(ModelRunner(model, "cpu"), spec)
    try:
        found = _answer(ModelRunner(model, device), spec)
    except (DeviceError, torch.cuda.OutOfMemoryError) as error:
        raise DeviceError(
            f"{device} has too little free memory for the model. Free some, or use device='cpu'."
        ) from error
    except (RuntimeError, NotImplementedError, TypeError) as error:
        return f"it failed on a fixed tile ({str(error).strip() or type(error).__name__:.100})"
    return _compare(expected, found, LIMIT, "the CPU's")


def _compare(
    expected: tuple[Floats, Floats], found: tuple[Floats, Floats], limit: float, whose: str
) -> str:
    """Say how far a result is from another one that is `whose`, if it is too far."""
    worst = max(_difference(a, b) for a, b in zip(expected, found, strict=True))
    if worst <= limit:
        return ""
    return (
        f"on a fixed tile its result differs from {whose} by {worst:.2g} of the spread; the "
        f"limit is {limit:g}"
    )


def _answer(runner: ModelRunner, spec: InputSpec) -> tuple[Floats, Floats]:
    """Features of the fixed tile, and logits with all of its prompt on, which no rounding flips."""
    tile = fixed_tile()
    features = runner.extract(tile, 0, spec)
    own, _ = runner.propose(features, tile)
    logits = runner.decode(features, 0, np.ones_like(own))
    return features.embedding.float().cpu().numpy(), logits


def _difference(expected: Floats, found: Floats) -> float:
    """Root mean square of the difference, as a share of the spread of what is expected."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    spread = float(expected.std()) or 1.0
    return float(np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2))) / spread

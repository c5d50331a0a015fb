"""Which library computes the encoder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.backends.session import has_bfloat16

VARIABLE = "NAPARI_ESPMEDSAM_BACKEND"  # the one that "auto" may choose

BACKENDS = ("torch", "auto", "onnx", "openvino")

# The first one is what computes; the others make the graph. Faster ones first.
_NEEDS = {
    "openvino": ("openvino", "onnx", "onnxscript"),
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
}
_PRECISIONS = {"openvino": ("float32", "bfloat16"), "onnx": ("float32",)}


@dataclass(frozen=True)
class Backend:
    """What computes the encoder.

    Attributes
    ----------
    name : {"torch", "onnx", "openvino"}
        As in the settings.
    label : str
        Library and version for the provenance, ``"onnxruntime 1.23.0"``; ``"torch"`` for torch,
        whose version is recorded in any case.
    """

    name: str = "torch"
    label: str = "torch"


def choose_backend(wish: str, device: str, precision: str) -> Backend:
    """Choose what computes the encoder.

    Parameters
    ----------
    wish : {"torch", "auto", "onnx", "openvino"}
        "auto" takes OpenVINO where it is installed, then ONNX Runtime, then torch; and torch
        wherever the others cannot compute. The environment variable ``NAPARI_ESPMEDSAM_BACKEND``
        leaves it one of them.
    device : str
        Device as torch calls it; the others compute on "cpu" alone.
    precision : {"float32", "bfloat16"}
        ONNX Runtime computes in float32 alone, OpenVINO in bfloat16 where the processor does.

    Raises
    ------
    InputError
        If the wish is unknown, not installed, or does not go with device, precision or processor.
    """
    if wish not in BACKENDS:
        raise InputError(f"backend is {wish!r}. Choose one of: {', '.join(BACKENDS)}.")
    possible = [name for name in _NEEDS if device == "cpu" and precision in _PRECISIONS[name]]
    if wish == "auto":
        allowed = [name for name in possible if name in _automatic()]
        wish = next((name for name in allowed if can_compute(name, precision)), "torch")
    if wish == "torch":
        return Backend()
    if wish not in possible:
        offered = " or ".join(_PRECISIONS[wish])
        raise InputError(
            f"The backend {wish!r} computes on the CPU in {offered}, and the model is to run on "
            f"{device} in {precision}. Choose device cpu and precision {offered}, or backend torch."
        )
    if missing := lacking(wish):
        raise InputError(
            f"The backend {wish!r} needs packages that are not installed: {', '.join(missing)}. "
            f'Run pip install "napari-espmedsam[{wish}]", or choose backend torch.'
        )
    if not can_compute(wish, precision):
        raise InputError(
            f"The backend {wish!r} cannot compute in {precision}: this processor has no bfloat16. "
            "Choose precision float32."
        )
    library = _NEEDS[wish][0]
    return Backend(wish, f"{library} {_version(library)}")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # of another distribution, as onnxruntime-gpu is
        return str(getattr(import_module(library), "__version__", "of unknown version"))


def _automatic() -> tuple[str, ...]:
    """Names that "auto" may choose."""
    wish = os.environ.get(VARIABLE) or "auto"
    if wish not in BACKENDS:
        raise InputError(f"{VARIABLE} is {wish!r}. Set it to one of: {', '.join(BACKENDS)}.")
    return BACKENDS if wish == "auto" else (wish,)


def can_compute(name: str, precision: str) -> bool:
    """Whether "onnx" or "openvino" is installed and this processor has the precision."""
    return not lacking(name) and (precision != "bfloat16" or has_bfloat16())


def lacking(name: str) -> tuple[str, ...]:
    """Packages that the backend "onnx" or "openvino" needs and that are not installed."""
    return tuple(package for package in _NEEDS[name] if find_spec(package) is None)

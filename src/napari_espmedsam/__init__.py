"""napari-espmedsam: prompt-free segmentation of biomedical images with ESP-MedSAM.

The names below are resolved on first use (PEP 562), so that ``import napari_espmedsam`` is
instant and loads neither torch nor Qt: napari imports this module at discovery.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from napari_espmedsam.batch.api import segment_file, segment_folder
    from napari_espmedsam.batch.job import BatchJob
    from napari_espmedsam.batch.run import JobRun
    from napari_espmedsam.errors import (
        CheckpointError,
        ClusterError,
        DeviceError,
        EspMedSamError,
        InputError,
        ModalityError,
        OutputError,
    )
    from napari_espmedsam.inference.device import choose_device
    from napari_espmedsam.inference.postprocess import PostProcess
    from napari_espmedsam.inference.request import SegmentRequest
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.inference.tiling import TileSpec
    from napari_espmedsam.model.checkpoint import load_checkpoint, save_checkpoint
    from napari_espmedsam.model.header import read_header
    from napari_espmedsam.model.registry import create_model, list_models
    from napari_espmedsam.weights import list_checkpoints, resolve_checkpoint

_HOMES = {
    "batch.api": ("segment_file", "segment_folder"),
    "batch.job": ("BatchJob",),
    "batch.run": ("JobRun",),
    "errors": (
        "CheckpointError",
        "ClusterError",
        "DeviceError",
        "EspMedSamError",
        "InputError",
        "ModalityError",
        "OutputError",
    ),
    "inference.device": ("choose_device",),
    "inference.postprocess": ("PostProcess",),
    "inference.request": ("SegmentRequest",),
    "inference.segmenter": ("Segmenter",),
    "inference.tiling": ("TileSpec",),
    "model.checkpoint": ("load_checkpoint", "save_checkpoint"),
    "model.header": ("read_header",),
    "model.registry": ("create_model", "list_models"),
    "weights": ("list_checkpoints", "resolve_checkpoint"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BatchJob",
    "CheckpointError",
    "ClusterError",
    "DeviceError",
    "EspMedSamError",
    "InputError",
    "JobRun",
    "ModalityError",
    "OutputError",
    "PostProcess",
    "SegmentRequest",
    "Segmenter",
    "TileSpec",
    "__version__",
    "choose_device",
    "create_model",
    "list_checkpoints",
    "list_models",
    "load_checkpoint",
    "read_header",
    "resolve_checkpoint",
    "save_checkpoint",
    "segment_file",
    "segment_folder",
]


def __getattr__(name: str) -> object:
    """Import an exported name from its home on first use and keep it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the exports beside what is already loaded."""
    return sorted({*globals(), *__all__})

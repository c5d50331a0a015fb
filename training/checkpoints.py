"""Open any checkpoint for measuring: one of the package's models, or the yardstick."""

from __future__ import annotations

from pathlib import Path

from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import LoadedCheckpoint, load_checkpoint, read_header
from napari_espmedsam.weights import DEFAULT_CHECKPOINT, resolve_checkpoint
from training.unet import ARCHITECTURE, LoadedUNet, load_unet


def open_model(name_or_path: str | Path) -> LoadedCheckpoint | LoadedUNet:
    """Load any checkpoint: one of the models', by name or file, or a U-Net's.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or foreign.
    """
    path = resolve_checkpoint(name_or_path)
    if read_header(path).architecture == ARCHITECTURE:
        return load_unet(path)
    return load_checkpoint(path)


def open_segmenter(
    name_or_path: str | Path = DEFAULT_CHECKPOINT, *, device: str = "auto"
) -> Segmenter:
    """Open any checkpoint for evaluation; see :func:`open_model`.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a bundled model, or a file.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    """
    loaded = open_model(name_or_path)
    return Segmenter(loaded.model, loaded.header, loaded.sha256, device=device, backend="torch")

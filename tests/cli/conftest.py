"""A tiny model with random weights, small images, and a way to run the command in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import Result
from typer.testing import CliRunner

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``napari-espmedsam ARGUMENTS`` and return exit code, stdout and stderr."""
    from napari_espmedsam.cli import app

    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoke


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a model that runs in milliseconds and knows two modalities."""
    spec = {"geometry": "tiled", "size": 64, "scale": 1.0, "diameter": 20.0}
    return _save(tmp_path_factory.mktemp("weights"), ("microscopy", "dermoscopy"), spec)


@pytest.fixture(scope="session")
def whole_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a model that sees images as a whole and knows one modality."""
    spec = {"geometry": "whole", "size": 64}
    return _save(tmp_path_factory.mktemp("weights"), ("dermoscopy",), spec)


def _save(folder: Path, modalities: tuple[str, ...], spec: dict[str, Any]) -> Path:
    """Write the tiny model with random weights."""
    import torch

    from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
    from napari_espmedsam.model.registry import create_model

    torch.manual_seed(0)
    model = create_model("esp_medsam_test", modalities=modalities)
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs=dict.fromkeys(model.modalities, InputSpec(**spec)),
        training={"command": "none, random weights"},
        licence="CC0-1.0",
    )
    return save_checkpoint(folder / "tiny.safetensors", model, header)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a TIFF file of 40 x 48 px, 16 bit."""
    path = tmp_path / "cells.tif"
    pixels = np.random.default_rng(0).integers(0, 4000, (40, 48)).astype(np.uint16)
    tifffile.imwrite(path, pixels)
    return path

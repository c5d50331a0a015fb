"""A tiny model with random weights, folders of small images, and jobs on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_espmedsam.batch import models
from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.run import JobRun
from napari_espmedsam.inference.request import SegmentRequest

MakeJob = Callable[..., BatchJob]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a model that runs in milliseconds and knows one modality."""
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors", seed=0)


def save_tiny(path: Path, seed: int) -> Path:
    """Write the tiny model with random weights."""
    import torch

    from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
    from napari_espmedsam.model.registry import create_model

    torch.manual_seed(seed)
    model = create_model("esp_medsam_test", modalities=("microscopy",))
    spec = InputSpec(geometry="tiled", size=64, scale=1.0, diameter=20.0)
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs={"microscopy": spec},
        training={"command": "none, random weights"},
        licence="CC0-1.0",
    )
    return save_checkpoint(path, model, header)


@pytest.fixture(autouse=True)
def _no_model_of_another_test() -> None:
    models._loaded.clear()


@pytest.fixture
def make_job(checkpoint: Path, tmp_path: Path) -> MakeJob:
    """Make a job from ``tmp_path/in`` into ``tmp_path/out`` with the tiny model."""

    def make(*inputs: object, **changes: Any) -> BatchJob:
        settings = {"threshold": 0.5, "min_size": 4} | changes.pop("settings", {})
        request = SegmentRequest(checkpoint=str(checkpoint), **settings)
        given = tuple(map(str, inputs)) or (str(tmp_path / "in"),)
        return BatchJob(given, changes.pop("folder", tmp_path / "out"), request, **changes)

    return make


def run_job(job: BatchJob) -> JobResult:
    """Run a job to its end."""
    *_, last = JobRun(job).events()
    assert isinstance(last, JobResult)
    return last


def write_image(path: Path, seed: int = 0, shape: tuple[int, ...] = (40, 48)) -> Path:
    """Write a TIFF of blocks with random grey values, 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = tuple(n if i < len(shape) - 2 else -(-n // 8) for i, n in enumerate(shape))
    values = np.random.default_rng(seed).integers(0, 4000, small).astype(np.uint16)
    pixels = values.repeat(8, -1).repeat(8, -2)[..., : shape[-2], : shape[-1]]
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a folder but records and reports, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.endswith((".esprun.json", "-report.html"))
        and not path.name.startswith("espmedsam-")
    }

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

SETTINGS = {"threshold": 0.5, "min_size": 4}
INPUTS = {"microscopy": {"geometry": "tiled", "size": 64, "scale": 1.0, "diameter": 20.0}}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, save_tiny: Callable[..., Path]) -> Path:
    """Return the file of a model that runs in milliseconds and knows one modality."""
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors", INPUTS)


@pytest.fixture
def other_checkpoint(tmp_path: Path, save_tiny: Callable[..., Path]) -> Path:
    """Return the same model with other weights."""
    return save_tiny(tmp_path / "other.safetensors", INPUTS, seed=1)


@pytest.fixture(autouse=True)
def _no_model_of_another_test() -> None:
    models._loaded.clear()


@pytest.fixture
def make_job(checkpoint: Path, tmp_path: Path) -> Callable[..., BatchJob]:
    """Make a job from ``tmp_path/in`` into ``tmp_path/out`` with the tiny model."""

    def make(*inputs: object, **changes: Any) -> BatchJob:
        settings = {"checkpoint": str(checkpoint)} | SETTINGS | changes.pop("settings", {})
        given = tuple(map(str, inputs)) or (str(tmp_path / "in"),)
        folder = changes.pop("folder", tmp_path / "out")
        return BatchJob(given, folder, SegmentRequest(**settings), **changes)

    return make


@pytest.fixture
def run_job() -> Callable[[BatchJob], JobResult]:
    """Run a job to its end."""

    def run(job: BatchJob) -> JobResult:
        *_, last = JobRun(job).events()
        assert isinstance(last, JobResult)
        return last

    return run


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    """Write blocks of random grey values, 16 bit, as TIFF into ``tmp_path/in``."""

    def write(name: str, seed: int = 0, shape: tuple[int, ...] = (40, 48)) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = (*shape[:-2], -(-shape[-2] // 8), -(-shape[-1] // 8))
        values = np.random.default_rng(seed).integers(0, 4000, blocks).astype(np.uint16)
        pixels = values.repeat(8, -1).repeat(8, -2)[..., : shape[-2], : shape[-1]]
        tifffile.imwrite(path, pixels, photometric="minisblack")
        return path

    return write


@pytest.fixture
def results_in() -> Callable[[Path], dict[str, bytes]]:
    """Read all files of a folder but records and reports, by relative path."""

    def read(folder: Path) -> dict[str, bytes]:
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        return {
            name: path.read_bytes()
            for name, path in sorted(files.items())
            if not name.endswith(".esprun.json") and not path.name.startswith("espmedsam-")
        }

    return read

"""Small slides with discs at known places, and a model that finds them exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.batch import slide_plan
from napari_espmedsam.batch.slide_plan import SlidePlan, plan_slide
from napari_espmedsam.batch.slide_run import run_slide
from napari_espmedsam.batch.slide_source import Slide, open_slide
from napari_espmedsam.inference.intensity import IntensityRange
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.output import Features

Array = np.ndarray[Any, np.dtype[Any]]
FULL = IntensityRange(0.0, 255.0)


class LocalModel(nn.Module):
    """Foreground is what is darker than a half, block of 4 x 4 px by block."""

    prompt_kind = "grid"
    modalities = ("microscopy",)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))
        self.n_tiles = 0

    def extract(
        self, images: Tensor, modality: Tensor, unnormalised: Tensor | None = None
    ) -> Features:
        self.n_tiles += 1
        logits = self.gain * (0.5 - F.avg_pool2d(images.mean(1, keepdim=True), 4))
        return Features(logits, F.max_pool2d(logits, 8))

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        return features.embedding


class GlobalModel(LocalModel):
    """As LocalModel, and each pixel also depends on all of its tile and on its place in it."""

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        logits = features.embedding
        height, width = logits.shape[-2:]
        ramp = torch.linspace(-1.0, 1.0, height)[:, None] * torch.linspace(-1.0, 1.0, width)
        return logits + 3.0 * ramp + 0.3 * logits.mean()


def make_segmenter(model: nn.Module | None = None, **spec: Any) -> Segmenter:
    """Put a model behind the interface of a checkpoint: tiles of 256 px, RGB as it is."""
    plain: dict[str, Any] = {
        "geometry": "tiled",
        "size": 256,
        "scale": 1.0,
        "rescale": "dtype",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    header = CheckpointHeader(
        name="fake",
        architecture="esp_medsam_test",
        config={"modalities": ("microscopy",)},
        modalities=("microscopy",),
        inputs={"microscopy": InputSpec(**(plain | spec))},
        licence="Apache-2.0",
    )
    return Segmenter(LocalModel() if model is None else model, header, "0" * 64, device="cpu")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give slides of a thousand pixels several chunks."""
    monkeypatch.setattr(slide_plan, "CHUNK", 512)
    monkeypatch.setattr(slide_plan, "MIN_MARGIN", 128)


@dataclass
class Job:
    """A slide with its plan; running it gives the labels of level 0."""

    slide: Slide
    segmenter: Segmenter
    plan: SlidePlan

    def run(self, output: Path, **options: Any) -> Array:
        import zarr

        for _ in run_slide(self.slide, self.segmenter, self.plan, output, **options):
            pass
        return np.asarray(zarr.open_group(str(output), mode="r")["0"])


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """Write an array as a pyramidal TIFF and plan its segmentation."""
    written = 0

    def make(
        pixels: Array | Path,
        *,
        segmenter: Segmenter | None = None,
        tissue: bool = False,
        intensity: IntensityRange | None = FULL,
        levels: int = 2,
        **request: Any,
    ) -> Job:
        nonlocal written
        written += 1
        path = pixels
        if not isinstance(path, Path):
            path = tmp_path / f"slide{written}.tif"
            write_slide(path, pixels, levels)
        asked = SegmentRequest(**request).validate()
        slide = open_slide(path, asked)
        segmenter = make_segmenter() if segmenter is None else segmenter
        plan = plan_slide(slide, segmenter.header, asked, tissue=tissue, intensity=intensity)
        return Job(slide, segmenter, plan)

    return make


def write_slide(path: Path, pixels: Array, levels: int = 2) -> None:
    """Write a pyramid, each level an eighth of the one before."""
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    options: dict[str, Any] = {
        "photometric": photometric,
        "tile": (128, 128),
        "compression": "zlib",
    }
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, subifds=levels, **options)
        for k in range(1, levels + 1):
            size = pixels.shape[1] // 2**k, pixels.shape[0] // 2**k
            small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            tif.write(small, subfiletype=1, **options)


def draw(shape: tuple[int, int], centres: Array, radius: int = 14) -> Array:
    """Dark discs on a white RGB plane."""
    plane = np.full((*shape, 3), 240, np.uint8)
    for y, x in centres.tolist():
        cv2.circle(plane, (x, y), radius, (90, 40, 110), -1)
    return plane


@pytest.fixture
def discs() -> Callable[..., Array]:
    """Return ``draw``."""
    return draw


@pytest.fixture
def planted() -> Array:
    """1500 x 1300 px with discs on every border of chunks and tiles, touching ones among them."""
    rng = np.random.default_rng(0)
    borders = [(y, x) for y in range(60, 1500, 113) for x in (512, 1024)]
    borders += [(y, x) for x in range(60, 1300, 97) for y in (512, 1024)]
    borders += [(512 + d, 512 + e) for d in (-9, 9) for e in (-9, 9)]
    loose = rng.integers(20, 1280, (120, 2))
    return draw((1500, 1300), np.concatenate([np.array(borders), loose]))


@pytest.fixture
def helpers() -> Any:
    """Return this module's functions and classes, which test files cannot import."""
    import types

    return types.SimpleNamespace(
        make_segmenter=make_segmenter,
        LocalModel=LocalModel,
        GlobalModel=GlobalModel,
        write_slide=write_slide,
        FULL=FULL,
    )

"""Corrections object by object: which cells are set, what counts as followed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.output import Features
from training.correction_study import (
    Correction,
    cells_of_object,
    correct_image,
    correction_table,
    objects_to_correct,
)
from training.data import Sample

#: Any contrast will do; the model looks at none.
PIXELS = np.tile(np.arange(128, dtype=np.uint8), (128, 1))


class Model(nn.Module):
    """Segments the left half; ``obeys`` says whether its prompt has any effect."""

    prompt_kind = "grid"

    def __init__(self, obeys: bool) -> None:
        super().__init__()
        self.obeys = obeys

    def extract(self, images: Tensor, modality: Tensor, unnormalised: Tensor) -> Features:
        height, width = images.shape[-2] // 16, images.shape[-1] // 16
        grid = torch.full((1, 1, height // 2, width // 2), -5.0)
        grid[..., : width // 4] = 5.0
        return Features(torch.zeros(1, 1, height, width), grid)

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        own = (features.prompt > 0).float()
        grid = prompt if self.obeys and prompt is not None else own
        return 40 * F.interpolate(grid, scale_factor=8.0) - 20


def segmenter(obeys: bool) -> Segmenter:
    header = CheckpointHeader(
        name="half",
        architecture="esp_medsam",
        config={"modalities": ["microscopy"], "prompt_levels": 1},
        modalities=("microscopy",),
        inputs={"microscopy": InputSpec(geometry="tiled", size=128, mean=(0, 0, 0))},
        licence="CC0-1.0",
    )
    return Segmenter(Model(obeys), header, device="cpu")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A dot in the right half, which the model misses."""
    mask = np.zeros((128, 128), np.uint8)
    mask[70:80, 100:110] = 255
    paths = [tmp_path / name for name in ("image.png", "mask.png")]
    cv2.imwrite(str(paths[0]), PIXELS)
    cv2.imwrite(str(paths[1]), mask)
    return Sample("one", *paths, "microscopy")


def test_a_model_that_obeys(sample: Sample) -> None:
    done = correct_image(segmenter(obeys=True), sample, "microscopy")
    assert [(c.kind, c.covered, c.followed) for c in done] == [
        ("off", 0.0, True),
        ("on", 1.0, True),
    ]
    assert all(c.changed == 0 for c in done)


def test_a_model_that_does_not(sample: Sample) -> None:
    done = correct_image(segmenter(obeys=False), sample, "microscopy")
    assert [(c.kind, c.covered, c.followed) for c in done] == [
        ("off", 1.0, False),
        ("on", 0.0, False),
    ]


def test_the_cells_of_an_object_are_those_it_touches() -> None:
    encoding = segmenter(obeys=True).encode(PIXELS)
    part = np.zeros((128, 128), bool)
    part[31:33, 5] = True
    cells = cells_of_object(part, encoding.canvas)
    assert np.argwhere(cells).tolist() == [[0, 0], [1, 0]]


def test_specks_and_what_is_there_already_are_left_alone() -> None:
    mask = np.zeros((40, 40), bool)
    mask[0:3, 0:3] = True  # 9 px: a speck
    mask[10:20, 10:20] = True
    mask[30:40, 30:40] = True
    known = np.zeros_like(mask)
    known[10:20, 10:12] = True  # a fifth of the second
    (part,) = objects_to_correct(mask, known)
    assert part[35, 35]
    assert part.sum() == 100


def test_the_table_counts_by_set() -> None:
    done = [
        Correction("a", "1", "microscopy", "off", 0.05, 0.02),
        Correction("a", "1", "microscopy", "off", 0.5, 0.0),
        Correction("b", "2", "xray", "on", 0.5, 0.0),
    ]
    table = correction_table(done)
    assert "| microscopy | a | 50 % (n = 2) | none | 1.00 % |" in table
    assert "| xray | b | none | 100 % (n = 1) | 0.00 % |" in table

"""A miniature pack and a recipe that trains on it within a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training.config import FinetuneConfig


def write_pack(folder: Path, n: int = 6, side: int = 72) -> None:
    """Bright discs on a dark ground: half the images grey, half in colour, instance masks."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    yy, xx = np.mgrid[:side, :side]
    for i in range(n):
        labels = np.zeros((side, side), np.uint16)
        for k, (y, x) in enumerate(rng.integers(10, side - 10, (3, 2)), start=1):
            labels[(yy - y) ** 2 + (xx - x) ** 2 <= 49] = k
        image = np.where(labels > 0, 180, 30) + rng.normal(0, 5, labels.shape)
        pixels = image.clip(0, 255).astype(np.uint8)
        if i % 2:
            pixels = np.stack([pixels // 2, pixels // 3, pixels], axis=-1)
        cv2.imwrite(str(folder / "images" / f"im{i}.png"), pixels)
        cv2.imwrite(str(folder / "masks" / f"im{i}.png"), labels)
    names = [f"im{i}" for i in range(n)]
    splits = {"train": names[: n - 2], "val": names[n - 2 : n - 1], "test": names[n - 1 :]}
    (folder / "splits.json").write_text(json.dumps(splits))


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature pack, with the data root pointing at it."""
    folder = tmp_path / "shared" / "data" / "discs"
    write_pack(folder)
    monkeypatch.setenv("ESPMEDSAM_DATA", str(tmp_path / "shared"))
    return folder


@pytest.fixture
def recipe() -> FinetuneConfig:
    """A tiny run: test architecture, two images a step, six steps, no warm start."""
    return tiny_recipe()


def tiny_recipe(**changes: Any) -> FinetuneConfig:
    """The recipe of the fixture with other top-level fields."""
    spec = {"geometry": "tiled", "size": 64, "mean": [0, 0, 0], "std": [1, 1, 1]}
    return FinetuneConfig.model_validate(
        {
            "name": "tiny",
            "architecture": "esp_medsam_test",
            "modalities": {"microscopy": {"packs": ["discs"], "input": spec}},
            "crop": 64,
            "warm_start": "none",
            "batch_size": 2,
            "steps": 6,
            "precision": "float32",
            "device": "cpu",
            "validate_every": 3,
            "save_every": 2,
            "threads": 1,
            "licence": "Apache-2.0",
            "data_licence": "made by the test",
            **changes,
        }
    )

"""Prompts from the ground truth: which cells are on, and what a decoder makes of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.output import Features
from training.data import Sample
from training.evaluate import LabelledSet
from training.prompt_study import (
    PROMPTS,
    Objects,
    draw_prompts,
    evenly_spaced,
    prompt_grid,
    prompt_study,
)


class Echo(nn.Module):
    """Stands in for a model: it segments exactly the cells of its prompt; its own grid is full."""

    prompt_kind = "grid"

    def extract(self, images: Tensor, modality: Tensor, unnormalised: Tensor) -> Features:
        height, width = images.shape[-2] // 16, images.shape[-1] // 16
        grid = torch.full((1, 1, height // 2, width // 2), 5.0)
        return Features(torch.zeros(1, 1, height, width), grid)

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        grid = (features.prompt > 0).float() if prompt is None else prompt
        return 40 * F.interpolate(grid, scale_factor=8.0) - 20


def segmenter(config: dict[str, object] | None = None) -> Segmenter:
    header = CheckpointHeader(
        name="echo",
        architecture="esp_medsam",
        config={"modalities": ["microscopy"], "prompt_levels": 1, **(config or {})},
        modalities=("microscopy",),
        inputs={"microscopy": InputSpec(geometry="tiled", size=128, mean=(0, 0, 0))},
        licence="CC0-1.0",
    )
    return Segmenter(Echo(), header, device="cpu")


def ell(side: int = 128) -> np.ndarray:
    """An L of 8 px strokes in the upper left, its centroid off the strokes' corner; and a dot."""
    mask = np.zeros((side, side), bool)
    mask[4:92, 4:12] = True  # cells (0,0), (1,0), (2,0)
    mask[84:92, 4:92] = True  # cells (2,0), (2,1), (2,2)
    mask[100:104, 120:124] = True  # cell (3,3)
    return mask


CELLS = {
    "patch": ["#...", "#...", "###.", "...#"],
    "box": ["###.", "###.", "###.", "...#"],
    "none": ["....", "....", "....", "...."],
}


def as_text(grid: np.ndarray) -> list[str]:
    return ["".join("#" if on else "." for on in row) for row in grid]


def test_objects_are_connected_components() -> None:
    objects = Objects.of(ell())
    assert objects.boxes.tolist() == [[4, 4, 92, 92], [100, 120, 104, 124]]
    np.testing.assert_allclose(objects.centroids[1], [101.5, 121.5])
    rows, columns = np.nonzero(ell()[:95])
    np.testing.assert_allclose(objects.centroids[0], [rows.mean(), columns.mean()])
    assert len(Objects.of(np.zeros((8, 8), bool)).boxes) == 0


@pytest.mark.parametrize("kind", ["patch", "box", "none"])
def test_cells_of_a_type(kind: str) -> None:
    mask = ell()
    grid = prompt_grid(kind, mask, Objects.of(mask), (0, 0), 32)
    assert as_text(grid) == CELLS[kind]


def test_a_point_is_the_cell_of_the_centroid() -> None:
    mask = ell()
    objects = Objects.of(mask)
    grid = prompt_grid("point", mask, objects, (0, 0), 32)
    y, x = (int(v // 32) for v in objects.centroids[0])
    assert np.argwhere(grid).tolist() == [[y, x], [3, 3]]
    assert not mask[32 * y : 32 * y + 32, 32 * x : 32 * x + 32].all()


def test_a_mask_prompt_needs_half_of_a_cell() -> None:
    mask = np.zeros((64, 96), bool)
    mask[:32, :16] = True  # half of the first cell
    mask[:32, 32:47] = True  # less than half of the second
    mask[32:, 64:] = True  # all of the last
    objects = Objects.of(mask)
    grid = prompt_grid("mask", mask, objects, (0, 0), 32)
    assert as_text(grid) == ["#..", "..#"]
    wide = prompt_grid("mask", mask, objects, (0, 0), 64)  # the second cell is cut off at 96 px
    assert as_text(wide) == [".#"]


@pytest.mark.parametrize("kind", [k for k in PROMPTS if k != "own"])
def test_tiles_hold_their_part_of_the_planes_prompt(kind: str) -> None:
    mask = ell(160)
    image = (np.random.default_rng(0).random(mask.shape) * 255).astype(np.uint8)
    model = segmenter()
    whole = draw_prompts(kind, mask, model.encode(image, tile=TileSpec(160, 0)), 32)
    assert whole.shape == (1, 5, 5)
    encoding = model.encode(image, tile=TileSpec(96, 16))
    tiles = draw_prompts(kind, mask, encoding, 32)
    grid = encoding.geometry.grid
    assert len(tiles) == len(grid) > 1
    for i, tile in enumerate(tiles):
        assert np.array_equal(tile, whole[0][grid.slices(i, cell=32)])


def write_set(folder: Path) -> LabelledSet:
    folder.mkdir()
    mask = ell()
    cv2.imwrite(str(folder / "mask.png"), mask.astype(np.uint8) * 255)
    image = np.where(mask, 200, 20) + np.random.default_rng(0).integers(0, 9, mask.shape)
    cv2.imwrite(str(folder / "image.png"), image.astype(np.uint8))
    sample = Sample("im", folder / "image.png", folder / "mask.png", "microscopy", "val")
    return LabelledSet("ells", "val", (sample,))


def test_study_decodes_every_type(tmp_path: Path) -> None:
    lines: list[str] = []
    scores = prompt_study(
        segmenter(),
        [write_set(tmp_path / "ells")],
        table=tmp_path / "out" / "prompts.md",
        csv=tmp_path / "out" / "prompts.csv",
        report=lines.append,
    )
    by_prompt = {s.prompt: s for s in scores}
    assert list(by_prompt) == list(PROMPTS)
    area = int(ell().sum())
    assert by_prompt["own"].dice == pytest.approx(2 * area / (128**2 + area), abs=1e-3)
    assert by_prompt["none"].dice == 0
    assert by_prompt["patch"].dice == pytest.approx(2 * area / (6 * 32**2 + area), rel=0.02)
    assert by_prompt["box"].dice < by_prompt["patch"].dice  # the box of an L is mostly empty
    assert by_prompt["patch"].cells_on == 6 / 16
    assert by_prompt["own"].cells_on == 1
    table = (tmp_path / "out" / "prompts.md").read_text()
    assert "| microscopy: ells, n = 1 |" in table
    row = next(line for line in table.splitlines() if line.startswith("| patch"))
    assert f"{100 * by_prompt['patch'].dice:.2f}" in row
    assert len((tmp_path / "out" / "prompts.csv").read_text().splitlines()) == 1 + len(PROMPTS)
    assert len(lines) == 1


def test_models_without_a_grid_are_refused(tmp_path: Path) -> None:
    sets = [write_set(tmp_path / "ells")]
    with pytest.raises(InputError, match="no prompt grid"):
        prompt_study(segmenter({"prompt": "none"}), sets)


def test_limit_spreads_over_the_set() -> None:
    samples = [Sample(str(i), Path(), Path()) for i in range(10)]
    assert [s.name for s in evenly_spaced(samples, 3)] == ["0", "3", "6"]
    assert evenly_spaced(samples, None) == samples
    assert evenly_spaced(samples, 20) == samples

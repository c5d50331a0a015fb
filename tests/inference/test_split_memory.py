"""Splitting again after a small change gives what splitting everything anew gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_espmedsam.inference import split
from napari_espmedsam.inference.postprocess import PostProcess, to_labels
from napari_espmedsam.inference.split import SplitMemory

SPLIT = PostProcess(output="split", min_size=4, max_hole=8)
Floats = npt.NDArray[np.float32]


def _blobs(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Floats:
    """Crowded objects of all sizes, many a few pixels apart, some at the border."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return (0.5 + noise / (6 * noise.std())).astype(np.float32)


def _change(plane: Floats, rng: np.random.Generator) -> Floats:
    """Raise or lower the probability around a few pixels, as a stroke does."""
    changed = plane.copy()
    for _ in range(int(rng.integers(1, 4))):
        y, x = (int(rng.integers(0, n)) for n in plane.shape)
        side = int(rng.integers(1, 9))
        changed[y : y + side, x : x + side] += rng.choice([-0.3, 0.3])
    return changed


@pytest.mark.parametrize("sigma", [1.5, 4.0])
@pytest.mark.parametrize("seed", range(2))
def test_labels_are_those_of_splitting_anew(
    seed: int, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "_WORTH_IT", np.inf)  # never all of it: that would test nothing
    rng = np.random.default_rng(seed)
    plane, memory = _blobs(rng, (150, 131), sigma), SplitMemory()
    to_labels(plane, SPLIT, memory)
    several = 0
    for _ in range(12):
        plane = _change(plane, rng)
        anew = to_labels(plane, SPLIT)
        np.testing.assert_array_equal(to_labels(plane, SPLIT, memory), anew)
        several += anew.max() > to_labels(plane, replace(SPLIT, output="objects")).max()
    assert several  # objects were cut


def test_only_objects_near_a_change_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    smoothed = split._depths

    def count(inside: npt.NDArray[np.bool_]) -> split.Distances:
        looked_at.append(inside.size)
        return smoothed(inside)

    monkeypatch.setattr(split, "_depths", count)
    plane = np.zeros((400, 400), np.float32)
    plane[50:70, 50:70] = plane[300:320, 300:330] = 1
    memory = SplitMemory()
    to_labels(plane, SPLIT, memory)
    plane[50:70, 70:75] = 1
    assert to_labels(plane, SPLIT, memory).max() == 2
    assert looked_at[0] == plane.size
    assert len(looked_at) == 2
    assert looked_at[1] < 50 * 50
    to_labels(plane, SPLIT, memory)
    assert len(looked_at) == 2  # nothing has changed


def test_other_settings_and_shapes_are_split_anew() -> None:
    rng = np.random.default_rng(0)
    plane, memory = _blobs(rng, (90, 90), 3.0), SplitMemory()
    for post in (SPLIT, replace(SPLIT, split_neck=0.5), replace(SPLIT, min_size=40)):
        np.testing.assert_array_equal(to_labels(plane, post, memory), to_labels(plane, post))
    part = plane[:60]
    np.testing.assert_array_equal(to_labels(part, SPLIT, memory), to_labels(part, SPLIT))


def test_a_plane_without_background_and_one_without_objects() -> None:
    memory = SplitMemory()
    for value in (1, 0, 1):
        plane = np.full((40, 50), value, np.float32)
        np.testing.assert_array_equal(to_labels(plane, SPLIT, memory), plane)
    plane[10, 10] = 0
    np.testing.assert_array_equal(
        to_labels(plane, replace(SPLIT, max_hole=0), memory),
        to_labels(plane, replace(SPLIT, max_hole=0)),
    )

"""Metrics against MONAI, against numbers worked out by hand, and their undefined cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from training.metrics import agreement, bootstrap_interval, hausdorff, on_grid, overlap

NOTHING = np.zeros((20, 30), bool)


def _block(rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = NOTHING.copy()
    mask[rows, columns] = True
    return mask


def _blobs(seed: int) -> NDArray[np.bool_]:
    """Ragged regions with holes, some cut by the border."""
    noise = np.random.default_rng(seed).normal(size=(64, 80))
    return np.asarray(gaussian_filter(noise, 3) > 0.03)


def test_overlap_counts_pixels() -> None:
    a = np.array([[1, 1, 0, 0]], bool)
    b = np.array([[0, 1, 1, 1]], bool)
    assert overlap(a, b).dice == pytest.approx(2 / 5)
    assert overlap(a, b).iou == pytest.approx(1 / 4)


def test_two_empty_masks_agree_and_one_does_not() -> None:
    assert overlap(NOTHING, NOTHING).dice == overlap(NOTHING, NOTHING).iou == 1
    block = _block(slice(2, 5), slice(2, 5))
    assert overlap(block, NOTHING).dice == overlap(NOTHING, block).iou == 0


def test_hausdorff_of_shifted_blocks_is_the_shift() -> None:
    a = _block(slice(2, 8), slice(2, 8))
    assert hausdorff(a, a) == 0
    assert hausdorff(a, _block(slice(5, 11), slice(6, 12))) == pytest.approx(5)  # 3, 4, 5
    far = a | _block(slice(2, 3), slice(27, 28))
    assert hausdorff(a, far) == hausdorff(far, a) == pytest.approx(20)


def test_hausdorff_is_undefined_where_a_mask_is_empty() -> None:
    block = _block(slice(2, 5), slice(2, 5))
    for one, other in ((block, NOTHING), (NOTHING, block), (NOTHING, NOTHING)):
        assert hausdorff(one, other) is None


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI's own call
@pytest.mark.parametrize("seed", range(6))
def test_hausdorff_is_that_of_monai(seed: int) -> None:
    metrics = pytest.importorskip("monai.metrics", reason="extra train")
    prediction, truth = _blobs(seed), _blobs(seed + 100)
    as_batch = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    expected = metrics.compute_hausdorff_distance(*as_batch, include_background=True)
    assert hausdorff(prediction, truth) == pytest.approx(float(expected))


def test_grid_takes_the_nearest_pixel_whatever_the_shape() -> None:
    mask = np.array([[1, 0], [0, 0]], bool)
    large = on_grid(mask, 8)
    assert large[:4, :4].all()
    assert large.sum() == 16
    wide = on_grid(np.tile(mask, (1, 2)), 4)
    assert wide.tolist() == [[True, False, True, False]] * 2 + [[False] * 4] * 2


def test_agreement_measures_at_both_resolutions() -> None:
    found, truth = _block(slice(0, 10), slice(0, 15)), _block(slice(0, 10), slice(0, 30))
    result = agreement(found, truth)
    assert result.dice == pytest.approx(2 / 3)
    assert result.iou == pytest.approx(1 / 2)
    assert result.dice_1024 == pytest.approx(2 / 3, abs=1e-3)
    assert result.iou_1024 == pytest.approx(1 / 2, abs=1e-3)
    assert result.hd_1024 == pytest.approx(512, abs=1)  # half of the grid's width
    assert not result.empty_prediction
    assert not result.empty_truth


def test_agreement_says_which_mask_is_empty() -> None:
    block = _block(slice(2, 5), slice(2, 5))
    missed, invented, quiet = (
        agreement(*pair) for pair in ((NOTHING, block), (block, NOTHING), (NOTHING, NOTHING))
    )
    assert (missed.empty_prediction, missed.empty_truth, missed.dice) == (True, False, 0)
    assert (invented.empty_prediction, invented.empty_truth, invented.dice) == (False, True, 0)
    assert (quiet.empty_prediction, quiet.empty_truth, quiet.dice_1024) == (True, True, 1)
    assert missed.hd_1024 is invented.hd_1024 is quiet.hd_1024 is None


def test_interval_has_the_width_that_theory_gives() -> None:
    values = np.random.default_rng(1).normal(0.9, 0.1, 400).tolist()
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)  # seeded
    assert (low + high) / 2 == pytest.approx(np.mean(values), abs=1e-3)
    assert high - low == pytest.approx(2 * 1.96 * np.std(values) / np.sqrt(400), rel=0.1)
    assert bootstrap_interval([0.7]) == (0.7, 0.7)


def test_images_of_one_group_count_as_one_piece_of_evidence() -> None:
    values = np.random.default_rng(1).normal(0.9, 0.1, 50)
    plain = bootstrap_interval(values.tolist())
    repeated = np.repeat(values, 4).tolist()
    grouped = bootstrap_interval(repeated, np.repeat(np.arange(50), 4).tolist())
    assert grouped == pytest.approx(plain)
    low, high = bootstrap_interval(repeated)
    assert high - low < 0.6 * (plain[1] - plain[0])

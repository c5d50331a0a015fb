"""The contact sheet: which images, which pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training import sheets
from training.scores import ImageScore

ONE = ImageScore(
    name="image",
    modality="",
    colour=False,
    dice=0.5,
    iou=0.5,
    dice_1024=0.5,
    iou_1024=0.5,
    hd_1024=None,
    empty_prediction=False,
    empty_truth=False,
    group="",
    model="ours",
    dataset="set",
    split="val",
    threshold=0.5,
)


def _scores(n: int) -> list[ImageScore]:
    """Dice 0, 0.1, 0.2 and so on, out of order."""
    order = np.random.default_rng(0).permutation(n)
    return [replace(ONE, name=f"im{i}", dice=round(0.1 * i, 1)) for i in order]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, {"best": [0.0]}),
        (2, {"best": [0.1], "worst": [0.0]}),
        (3, {"best": [0.2], "median": [0.1], "worst": [0.0]}),
        (8, {"best": [0.7, 0.6], "median": [0.4, 0.3], "worst": [0.1, 0.0]}),
        (11, {"best": [1.0, 0.9], "median": [0.6, 0.5], "worst": [0.1, 0.0]}),
    ],
)
def test_each_image_is_chosen_once(n: int, expected: dict[str, list[float]]) -> None:
    chosen = sheets.select(_scores(n), columns=2)
    assert {kind: [s.dice for s in group] for kind, group in chosen.items()} == expected


def _square(rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros((100, 50), bool)
    mask[rows, columns] = True
    return mask


def _ramp(*shape: int) -> NDArray[np.uint8]:
    """An image of any shape without flat regions."""
    return np.linspace(20, 90, int(np.prod(shape))).reshape(shape).astype(np.uint8)


def _has(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((picture == colour).all(axis=-1))


@pytest.mark.parametrize("shape", [(100, 50), (100, 50, 3)])
def test_outlines_lie_where_the_masks_end(shape: tuple[int, ...]) -> None:
    image = _ramp(*shape)
    truth = _square(slice(10, 40), slice(10, 40))
    found = _square(slice(50, 80), slice(10, 40))
    picture = sheets.draw_outlines(image, truth, found)
    assert picture.shape == (400, 200, 3)  # four times as large
    truth_rows, truth_columns = np.nonzero(_has(picture, sheets.TRUTH))
    assert (truth_rows.min(), truth_rows.max()) == (40, 159)
    assert (truth_columns.min(), truth_columns.max()) == (40, 159)
    assert len(truth_rows) == 4 * 119  # one pixel wide
    found_rows, _ = np.nonzero(_has(picture, sheets.PREDICTION))
    assert (found_rows.min(), found_rows.max()) == (200, 319)
    both = sheets.draw_outlines(image, truth, truth)
    assert _has(both, sheets.BOTH)[:200].sum() == 4 * 119
    assert not _has(both, sheets.TRUTH).any()


def test_dim_grey_images_are_stretched_and_8_bit_colours_are_not() -> None:
    nothing = np.zeros((64, 64), bool)
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) // 40  # 0 to 102 of 65535
    shown = sheets.draw_outlines(ramp, nothing, nothing)
    assert shown.min() < 5
    assert shown.max() > 250
    colours = np.dstack([ramp.astype(np.uint8)] * 3)
    assert sheets.draw_outlines(colours, nothing, nothing).max() == pytest.approx(102, abs=2)


def test_large_images_shrink_to_the_tile() -> None:
    mask = np.zeros((900, 1600), bool)
    picture = sheets.draw_outlines(np.zeros((900, 1600, 3), np.uint8), mask, mask)
    assert picture.shape == (225, 400, 3)


def test_sheet_holds_three_rows_of_tiles_below_a_head(tmp_path: Path) -> None:
    asked: list[str] = []

    def load(score: ImageScore) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        asked.append(score.name)
        truth = _square(slice(10, 40), slice(10, 40))
        return _ramp(100, 50), truth, np.roll(truth, 5, 0)

    path = tmp_path / "new" / "sheet.png"
    sheets.write_sheet(path, _scores(7), load)
    assert asked == ["im6", "im5", "im4", "im3", "im1", "im0"]
    bgr = cv2.imread(str(path))
    assert bgr is not None
    picture = bgr[..., ::-1].astype(np.uint8)
    head = 2 * 22 + 12
    assert picture.shape == (head + 3 * (400 + 12 + 44), 2 * 412, 3)
    for row in range(3):
        for column in range(2):
            top, left = head + row * 456, column * 412
            tile = picture[top : top + 456, left : left + 412]
            assert _has(tile[:400], sheets.TRUTH).any()
            assert _has(tile[:400], sheets.PREDICTION).any()
            assert (tile[404:432] > 150).any()  # Dice
            assert (tile[434:] > 150).any()  # name


def test_long_and_foreign_names_stay_inside_their_tile() -> None:
    score = replace(ONE, name="Übersicht_" * 20)
    blank = np.zeros((100, 50), bool)
    tile = sheets.draw_sheet([score], lambda _: (_ramp(100, 50), blank, blank))
    assert (tile[-22:] > 150).any()
    assert not (tile[:, -6:] > 150).any()

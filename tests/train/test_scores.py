"""The file of scores and the summary of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from napari_espmedsam.errors import InputError, OutputError
from training.scores import ImageScore, Summary, read_scores, write_scores

SCORE = ImageScore(
    name="a, b",
    modality="xray",
    colour=True,
    dice=0.5,
    iou=1 / 3,
    dice_1024=0.25,
    iou_1024=0.125,
    hd_1024=12.5,
    empty_prediction=False,
    empty_truth=False,
    group="patient 1",
    model="m",
    dataset="set",
    split="val",
    threshold=0.45,
)
MISSED = replace(SCORE, name="c", dice=0.0, hd_1024=None, empty_prediction=True, colour=False)


def test_scores_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.csv"
    write_scores(path, [SCORE, MISSED])
    header, _, missed = path.read_text().splitlines()
    assert header.startswith(
        "name,modality,colour,dice,iou,dice_1024,iou_1024,hd_1024,empty_prediction,empty_truth"
    )
    assert missed.split(",")[7] == ""
    assert read_scores(path) == [replace(SCORE, iou=0.333333), replace(MISSED, iou=0.333333)]


def test_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with pytest.raises(InputError, match="no file of scores"):
        read_scores(path)
    path.write_text("name,dice\na,0.5\n")
    with pytest.raises(InputError, match=r"scores\.csv is no table .* empty_truth"):
        read_scores(path)
    with pytest.raises(OutputError, match=r"scores\.csv"):
        write_scores(path / "scores.csv", [SCORE])  # below a file


def test_a_summary_counts_what_is_undefined() -> None:
    summary = Summary.of([SCORE, replace(SCORE, name="d", dice=0.9, hd_1024=7.5), MISSED])
    assert summary.n == 3
    assert summary.mean == pytest.approx(1.4 / 3)
    assert (summary.median, summary.worst) == (0.5, 0.0)
    assert summary.sd == pytest.approx(0.4509, abs=1e-4)
    assert summary.hd_1024 == 10  # of the two where it is defined
    assert (summary.undefined_hd, summary.empty_predictions, summary.empty_truths) == (1, 1, 0)
    assert summary.interval is None  # all of one patient: a single piece of evidence
    two = Summary.of([SCORE, replace(MISSED, group="patient 2")])
    assert two.interval == (0, 0.5)


def test_single_and_wholly_missed_images_have_a_summary() -> None:
    summary = Summary.of([MISSED])
    assert summary.sd is None
    assert summary.hd_1024 is None
    assert summary.interval is None

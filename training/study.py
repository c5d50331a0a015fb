"""Studies: what an ablation varies, as data.

A study is a TOML file in ``training/configs/ablate``: a fine-tuning recipe, the parts that can be
switched on and off, and the rows of a table with the paper's figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.config import FrozenModel
from napari_espmedsam.model.registry import list_models, model_config
from training.config import FinetuneConfig, merge, parse_config

Change = dict[str, Any]

#: Measures of the tables, and their headings.
MEASURES = {"dice": "Dice (%)", "iou": "IoU (%)", "hd": "HD (px)", "params": "params (M)"}


class PartConfig(FrozenModel):
    """What switches one part of the method on and off, as changes of the recipe.

    TOML has no null: ``distilled = "none"`` takes a recipe's distilled encoder away.
    """

    on: Change = Field(default_factory=dict)
    off: Change = Field(default_factory=dict)


class RowConfig(FrozenModel):
    """One variant."""

    name: str
    #: Parts that are on; the study's other parts are off.
    on: tuple[str, ...] = ()
    #: Further changes of the recipe.
    change: Change = Field(default_factory=dict)
    #: What the paper prints for it, by the names in :data:`MEASURES`.
    paper: dict[str, float] = Field(default_factory=dict)


class StudyConfig(FrozenModel):
    """A study: rows of one table."""

    title: str
    #: Fine-tuning recipe, relative to the study's file.
    recipe: Path
    #: Changes of the recipe for all rows.
    change: Change = Field(default_factory=dict)
    parts: dict[str, PartConfig] = Field(default_factory=dict)
    rows: tuple[RowConfig, ...]
    #: Printed below the table.
    notes: str = ""

    @model_validator(mode="after")
    def _rows_fit(self) -> StudyConfig:
        names = [row.name for row in self.rows]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"rows must have distinct names and be at least one, got {names}")
        for row in self.rows:
            if unknown := set(row.on) - set(self.parts):
                raise ValueError(f"row {row.name} switches on unknown parts {sorted(unknown)}")
            if unknown := set(row.paper) - set(MEASURES):
                raise ValueError(f"row {row.name} has unknown measures {sorted(unknown)}")
        return self


def row_recipe(
    study: StudyConfig,
    row: RowConfig,
    recipe: FinetuneConfig,
    *,
    steps: int | None = None,
    distilled: Path | None = None,
) -> FinetuneConfig:
    """Recipe of one row.

    Parameters
    ----------
    study, row
        What is varied.
    recipe : FinetuneConfig
        What all rows start from.
    steps : int, optional
        Instead of the recipe's length; the warm-up becomes a tenth of it at most.
    distilled : Path, optional
        Run folder of a distillation, instead of the one that the study names.

    Raises
    ------
    InputError
        If a change does not fit the recipe or the model, or the distilled folder is missing.
    """
    changes = [study.change]
    changes += [p.on if name in row.on else p.off for name, p in study.parts.items()]
    raw = recipe.model_dump(mode="json", exclude_unset=True)
    for change in [*changes, row.change]:
        raw = merge(raw, change)
    raw["name"] = f"{recipe.name}-{row.name}"
    if raw.get("distilled") == "none":
        del raw["distilled"]
    elif distilled is not None and raw.get("distilled") is not None:
        raw["distilled"] = str(distilled)
    if steps is not None:
        raw |= {"steps": steps, "epochs": None}
        asked = raw.get("optimiser", {}).get("warmup_steps", recipe.optimiser.warmup_steps)
        raw = merge(raw, {"optimiser": {"warmup_steps": min(asked, steps // 10)}})
    config = parse_config(raw, FinetuneConfig, f"Row {row.name} of {study.title!r}")
    _check_start(row, config)
    return config


def _check_start(row: RowConfig, config: FinetuneConfig) -> None:
    """Find now what would otherwise stop the study after hours."""
    if config.architecture in list_models():
        model_config(config.architecture, modalities=tuple(config.modalities), **config.model)
    if config.distilled is not None and not config.distilled.exists():
        raise InputError(
            f"Row {row.name} starts from a distilled encoder, and there is no run folder "
            f"{config.distilled}. Run 'python -m training distill' first, and name its folder."
        )

"""Ablations: one recipe, a row for every variant of it, one table with the paper's figures beside.

What is varied stands in a study, see :mod:`training.study`. Rows are trained by the ordinary
fine-tuning run, exported and measured like any model, so an interrupted study goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from napari_espmedsam.inference.segmenter import Segmenter
from training.checkpoints import open_model
from training.config import FinetuneConfig, load_config
from training.evaluate import LabelledSet, score_samples
from training.export import export
from training.finetune import finetune, load_samples
from training.prompt_study import evenly_spaced
from training.run import RECORD, STATE, write_json
from training.scores import ImageScore, Summary, result_file, write_scores
from training.study import MEASURES, StudyConfig, row_recipe
from training.tables import markdown

Report = Callable[[str], None]

RESULT = "result.json"
TABLE = "table.md"
CHECKPOINT = "model.safetensors"


@dataclass(frozen=True)
class RowResult:
    """What one variant reached.

    Attributes
    ----------
    dice, hd : dict of str to float or None
        By modality: mean Dice in [0, 1] and Hausdorff distance in px, at 1024 x 1024. HD is None
        where it is undefined for every image.
    iou : dict of str to float
        By modality.
    n, undefined_hd : dict of str to int
        Images, and those without a Hausdorff distance.
    params : int
        Parameters of the model.
    """

    dice: dict[str, float]
    iou: dict[str, float]
    hd: dict[str, float | None]
    n: dict[str, int]
    undefined_hd: dict[str, int]
    params: int

    @classmethod
    def of(cls, scores: Sequence[ImageScore], params: int) -> RowResult:
        """Summarise the scores of a model, modality by modality."""
        names = dict.fromkeys(s.modality for s in scores)
        parts = {m: Summary.of([s for s in scores if s.modality == m]) for m in names}
        return cls(
            dice={m: s.dice_1024 for m, s in parts.items()},
            iou={m: s.iou_1024 for m, s in parts.items()},
            hd={m: s.hd_1024 for m, s in parts.items()},
            n={m: s.n for m, s in parts.items()},
            undefined_hd={m: s.undefined_hd for m, s in parts.items()},
            params=params,
        )

    def average(self, measure: str) -> float | None:
        """Mean over modalities in the table's unit: %, px, or millions of parameters."""
        if measure == "params":
            return self.params / 1e6
        by_modality: dict[str, float | None] = getattr(self, measure)
        values = [value for value in by_modality.values() if value is not None]
        if not values:
            return None
        return mean(values) * (1 if measure == "hd" else 100)


def ablate(
    study: Path,
    out: Path,
    *,
    steps: int | None = None,
    distilled: Path | None = None,
    sets: Sequence[LabelledSet] = (),
    limit: int | None = None,
    report: Report = print,
) -> dict[str, RowResult]:
    """Train and measure every row of a study that is not done yet, and write ``out/table.md``.

    Parameters
    ----------
    study : Path
        TOML file, see ``training/configs/ablate``.
    out : Path
        Folder; each row gets a run folder in it. The same call again goes on where it stopped.
    steps : int, optional
        Instead of the recipe's length.
    distilled : Path, optional
        Run folder of a distillation, instead of the one that the study names.
    sets : sequence of LabelledSet
        What to measure on; the recipe's validation images when empty. Their samples name the
        modality.
    limit : int, optional
        At most this many images of each set, evenly spaced.
    report : callable
        Receives one line of text now and then.

    Returns
    -------
    dict of str to RowResult
        By name of the row.

    Raises
    ------
    InputError
        Before anything slow: if the study, the recipe or a row does not fit. Later: if a row's
        folder holds another recipe, or its data are damaged.
    """
    config = load_config(study, StudyConfig)
    recipe = load_config(study.parent / config.recipe, FinetuneConfig)
    recipes = {
        row.name: row_recipe(config, row, recipe, steps=steps, distilled=distilled)
        for row in config.rows
    }
    results: dict[str, RowResult] = {}
    for number, (name, variant) in enumerate(recipes.items(), start=1):
        report(f"row {number}/{len(recipes)}: {name}")
        chosen = thin_out(sets or validation_sets(variant), limit)
        results[name] = run_row(variant, out / name, chosen, report=report)
        where = ", ".join(f"{labelled.name} {labelled.split}" for labelled in chosen)
        with result_file(out / TABLE) as temporary:
            temporary.write_text(ablation_table(config, recipes, results, where), encoding="utf-8")
    return results


def validation_sets(config: FinetuneConfig) -> list[LabelledSet]:
    """Validation images of a recipe, a set per modality."""
    sets = []
    for name, modality in config.modalities.items():
        samples = [s for s in load_samples(name, modality, check=False) if s.split == "val"]
        sets.append(LabelledSet(name, "val", tuple(samples)))
    return sets


def thin_out(sets: Sequence[LabelledSet], limit: int | None) -> list[LabelledSet]:
    """At most ``limit`` images of each set."""
    return [LabelledSet(s.name, s.split, tuple(evenly_spaced(s.samples, limit))) for s in sets]


def run_row(
    config: FinetuneConfig, folder: Path, sets: Sequence[LabelledSet], *, report: Report
) -> RowResult:
    """Train, export and measure one row; whatever of it is done already is not done again."""
    asked = {
        "recipe": config.model_dump(mode="json"),
        "images": {f"{s.name} {s.split}": [sample.name for sample in s.samples] for s in sets},
    }
    done = folder / RESULT
    known = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else {}
    if known.get("asked") == asked:
        report(f"{config.name} is done already")
        return RowResult(**known["result"])
    if known.get("asked", {}).get("recipe") != asked["recipe"]:
        # A first run checks the data; one that goes on need not.
        finetune(config, folder, resume=(folder / RECORD).is_file(), report=report)
        export(folder, folder / CHECKPOINT)
    loaded = open_model(folder / CHECKPOINT)
    how = {"device": config.device, "backend": "torch"}
    segmenter = Segmenter(loaded.model, loaded.header, loaded.sha256, **how)
    scores: list[ImageScore] = []
    for labelled in sets:
        n = len(labelled.samples)
        report(f"measuring {config.name} on {labelled.name} {labelled.split}: {n} images")
        scores += score_samples(segmenter, labelled, model=config.name)
    write_scores(folder / "scores.csv", scores)
    result = RowResult.of(scores, sum(p.numel() for p in loaded.model.parameters()))
    write_json(done, {"asked": asked, "result": vars(result)})
    (folder / STATE).unlink(missing_ok=True)  # hundreds of MB that a finished row needs no more
    return result


def ablation_table(
    study: StudyConfig,
    recipes: Mapping[str, FinetuneConfig],
    results: Mapping[str, RowResult],
    where: str,
) -> str:
    """Markdown: a row per variant that is done, ours and the paper's figures side by side."""
    printed = [m for m in MEASURES if any(m in row.paper for row in study.rows)]
    modalities = list(next(iter(results.values())).dice)
    several = modalities if len(modalities) > 1 else []
    header = ["row", *study.parts, *MEASURES.values()]
    header += [f"paper: {MEASURES[m]}" for m in printed]
    header += [f"Dice, {m}" for m in several]
    lines = [f"{study.title}.", "", *markdown(header, _rows(study, results, printed, several)), ""]
    first = recipes[study.rows[0].name]
    length = f"{first.steps} steps" if first.steps else f"{first.epochs} epochs"
    counts = ", ".join(f"n = {n}" for n in next(iter(results.values())).n.values())
    undefined = sum(sum(r.undefined_hd.values()) for r in results.values())
    lines += [
        f"Ours: {length} of {first.batch_size} images each, crops of {first.crop} px, seed "
        f"{first.seed}; measured on {where} ({counts}), masks at 1024 x 1024, mean over "
        "modalities. One run a row: differences of a few points may be chance.",
    ]
    if undefined:
        lines.append(
            f"HD is undefined where a mask is empty: {undefined} times in the rows above; it is "
            "the mean of the others."
        )
    missing = [row.name for row in study.rows if row.name not in results]
    if missing:
        lines.append(f"Not done yet: {', '.join(missing)}.")
    return "\n".join([*lines, "", study.notes.strip(), ""])


def _rows(
    study: StudyConfig,
    results: Mapping[str, RowResult],
    printed: Sequence[str],
    modalities: Sequence[str],
) -> list[list[str]]:
    rows = []
    for row in study.rows:
        if row.name not in results:
            continue
        result = results[row.name]
        cells = [row.name, *("x" if part in row.on else "" for part in study.parts)]
        cells += [_number(result.average(measure)) for measure in MEASURES]
        cells += [_number(row.paper.get(measure)) for measure in printed]
        cells += [_number(100 * result.dice[m]) for m in modalities]
        rows.append(cells)
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

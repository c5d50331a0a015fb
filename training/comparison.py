"""Several models on several sets: figures, one file of scores, papers' tables, picture sheets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from training.data import read_pair
from training.evaluate import (
    LabelledSet,
    Predictor,
    Report,
    by_threshold,
    predict,
    score_samples,
)
from training.scores import ImageScore, result_file, write_scores
from training.selection import SPLIT_NOTES, check_selection, choose_thresholds
from training.sheets import write_sheet
from training.tables import paper_tables, summarise


def evaluate_models(
    models: Mapping[str, Predictor],
    sets: Sequence[LabelledSet],
    *,
    modality: str | None = None,
    thresholds: Sequence[float] = (),
    csv: Path | None = None,
    sheet: Path | None = None,
    table: Path | None = None,
    report: Report = lambda line: None,
    show: Report = print,
) -> list[ImageScore]:
    """Measure models on sets and write what is asked for.

    Parameters
    ----------
    models : mapping of str to Predictor
        By the name that tables and files show.
    sets : sequence of LabelledSet
        Images and masks.
    modality : str, optional
        Instead of the samples' own.
    thresholds : sequence of float
        Instead of the models' own; several are compared, which test images refuse.
    csv : Path, optional
        File with one row per model, image and threshold. It is written after every set, so that
        an interruption costs one set at most.
    sheet : Path, optional
        PNG with the best, median and worst images at the first threshold. Of several models or
        sets each gets its own, with both names added to the file's.
    table : Path, optional
        Markdown file with the papers' tables and these scores in them, at the first threshold.
    report, show : callable
        Receive progress, one line per image, and results, line by line.

    Returns
    -------
    list of ImageScore
        Of all models, sets and thresholds.

    Raises
    ------
    InputError
        Before anything is computed: if several thresholds are to be compared on test images, a set
        is named twice, or the sheet is no PNG.
    """
    _check_plan(sets, thresholds, sheet)
    everything: list[ImageScore] = []
    first: list[ImageScore] = []
    for name, predictor in models.items():
        for labelled in sets:
            scores = score_samples(
                predictor,
                labelled,
                model=name,
                modality=modality,
                thresholds=thresholds,
                report=report,
            )
            runs = list(by_threshold(scores).values()) if thresholds else [scores]
            _show_runs(name, labelled, runs, show)
            everything += scores
            first += runs[0]
            if csv is not None:
                write_scores(csv, everything)
            if sheet is not None:
                several = len(models) * len(sets) > 1
                path = _named(sheet, name, labelled) if several else sheet
                _write_sheet(path, predictor, labelled, runs[0])
    if table is not None:
        with result_file(table) as temporary:
            temporary.write_text(paper_tables(first), encoding="utf-8")
    return everything


def _check_plan(
    sets: Sequence[LabelledSet], thresholds: Sequence[float], sheet: Path | None
) -> None:
    names = [f"{labelled.name} {labelled.split}" for labelled in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)} is named twice. Name every set once.")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise InputError(f"The sheet {sheet} is a PNG picture. Let its name end in .png.")
    if len(set(thresholds)) > 1:
        for labelled in sets:
            check_selection(labelled.samples)


def _show_runs(
    model: str, labelled: LabelledSet, runs: Sequence[Sequence[ImageScore]], show: Report
) -> None:
    """Show one table per threshold and, of several thresholds, the best for each modality."""
    note = SPLIT_NOTES.get(labelled.split, "a split of its own")
    for run in runs:
        cuts = ", ".join(f"{cut:g}" for cut in by_threshold(run))
        show(f"\n{model}, {labelled.name} {labelled.split}, threshold {cuts}")
        show(f"split {labelled.split}: {note}\n")
        show("\n".join(summarise(run)))
    if len(runs) > 1:
        show("")
        for modality, choice in choose_thresholds([s for run in runs for s in run]).items():
            show(
                f"best threshold{f' for {modality}' if modality else ''}: {choice.threshold:g} "
                f"(mean Dice {choice.dice:.4f}, n = {choice.n})"
            )


def _named(path: Path, model: str, labelled: LabelledSet) -> Path:
    """``sheet.png`` to ``sheet-MODEL-SET-SPLIT.png``; a model may be called by its path."""
    parts = (model.removesuffix(".safetensors"), labelled.name, labelled.split)
    plain = [re.sub(r"[^\w.-]+", "_", part).strip("_") for part in parts]
    return path.with_name("-".join([path.stem, *plain]) + path.suffix)


def _write_sheet(
    path: Path, predictor: Predictor, labelled: LabelledSet, scores: Sequence[ImageScore]
) -> None:
    samples = {sample.name: sample for sample in labelled.samples}

    def load(score: ImageScore) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        image, truth = read_pair(samples[score.name])
        masks = predict(predictor, image, score.modality, (score.threshold,))
        return image, truth, masks[score.threshold]

    write_sheet(path, scores, load)

"""Scores as Markdown: a summary of one set, and tables in the shape of the papers'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from napari_espmedsam.errors import InputError
from training.papers import PAPERS, Column, Paper, PaperTable
from training.scores import ImageScore, Summary

_NAMES = {"dice_1024": "Dice (%)", "iou_1024": "mIoU (%)", "hd_1024": "HD (px)"}
_SUMMARY = (
    "images",
    "n",
    "mean Dice",
    "95 % CI",
    "median Dice",
    "sd",
    "worst Dice",
    "mean IoU",
    "Dice at 1024",
    "IoU at 1024",
    "HD at 1024, px",
    "HD undefined",
)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def summarise(scores: Sequence[ImageScore]) -> list[str]:
    """Summarise one model on one set at one threshold.

    Parameters
    ----------
    scores : sequence of ImageScore
        At least one.

    Returns
    -------
    list of str
        A Markdown table: all images, then grey and colour ones if there are both, then each
        modality if there are several; below it, where masks are empty, how many.
    """
    groups = {"all": scores}
    if len({s.colour for s in scores}) > 1:
        groups["grey"] = [s for s in scores if not s.colour]
        groups["colour"] = [s for s in scores if s.colour]
    modalities = sorted({s.modality for s in scores})
    if len(modalities) > 1:
        groups |= {m or "(none)": [s for s in scores if s.modality == m] for m in modalities}
    lines = markdown(_SUMMARY, [_summary_row(name, g) for name, g in groups.items()])
    whole = Summary.of(scores)
    if whole.undefined_hd:
        lines += [
            "",
            f"The Hausdorff distance is undefined for {whole.undefined_hd} of {whole.n} images "
            f"(prediction empty: {whole.empty_predictions}, truth empty: {whole.empty_truths}); "
            "its mean is over the others.",
        ]
    return lines


def _summary_row(name: str, scores: Sequence[ImageScore]) -> list[str]:
    s = Summary.of(scores)
    return [
        name,
        str(s.n),
        f"{s.mean:.4f}",
        "-" if s.interval is None else "{:.3f} to {:.3f}".format(*s.interval),
        f"{s.median:.4f}",
        "-" if s.sd is None else f"{s.sd:.4f}",
        f"{s.worst:.4f}",
        f"{s.iou:.4f}",
        f"{s.dice_1024:.4f}",
        f"{s.iou_1024:.4f}",
        "-" if s.hd_1024 is None else f"{s.hd_1024:.1f}",
        str(s.undefined_hd),
    ]


def paper_tables(scores: Sequence[ImageScore], papers: Sequence[Paper] = PAPERS) -> str:
    """Set scores beside those of the papers.

    Parameters
    ----------
    scores : sequence of ImageScore
        Of any models and sets, for each of them at one threshold. A set stands in the column of
        the paper's set that it compares with (:attr:`training.papers.Column.comparable`); sets
        that compare with none come last, in a table of their own.
    papers : sequence of Paper
        Whose tables are wanted. A table without any of our scores is left out.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    InputError
        If an image was scored twice by one model.
    """
    results = _by_model_and_set(scores)
    blocks, placed = [], set()
    for paper in papers:
        for table in paper.tables:
            fitting = {
                key for key in results for c in table.columns if c.relation(key[1]) is not None
            }
            if fitting:
                blocks += [*_paper_table(paper, table, results), ""]
            placed |= fitting
    others = {key: results[key] for key in results if key not in placed}
    if others:
        blocks += ["Sets that compare with none of the papers':", "", *_other_table(others), ""]
    return "\n".join(blocks)


Key = tuple[str, str, str]  # model, set, split


def _by_model_and_set(scores: Sequence[ImageScore]) -> dict[Key, Summary]:
    groups: dict[Key, list[ImageScore]] = {}
    for score in scores:
        groups.setdefault((score.model, score.dataset, score.split), []).append(score)
    for key, group in groups.items():
        if len({s.name for s in group}) < len(group):
            raise InputError(
                f"{' '.join(key).strip()} has some images twice. Give each set's scores once, at "
                "one threshold."
            )
    return {key: Summary.of(group) for key, group in groups.items()}


def _paper_table(paper: Paper, table: PaperTable, results: dict[Key, Summary]) -> list[str]:
    measures = " / ".join(_NAMES[metric] for metric in table.metrics)
    header = [f"{measures} at 1024 x 1024", *(f"{c.modality}, {c.domain}" for c in table.columns)]
    rows = [
        [
            f"{model} (paper)",
            *(
                f"{first:.2f} / {second:.2f}<br>{c.dataset}, n = {c.n}"
                for c, (first, second) in zip(table.columns, values, strict=True)
            ),
        ]
        for model, values in table.rows.items()
    ]
    for model in dict.fromkeys(key[0] for key in results):
        cells = [_cells(model, c, table.metrics, results) for c in table.columns]
        if any(cells):
            rows.append([model or "this model", *(cell or "-" for cell in cells)])
    lines = [f"{paper.citation}: {table.title}.", "", *markdown(header, rows), ""]
    return lines + _relations(table, results)


def _cells(
    model: str, column: Column, metrics: tuple[str, str], results: dict[Key, Summary]
) -> str:
    """Everything that one model scored on sets of one column."""
    cells = []
    for (name, dataset, split), summary in results.items():
        if name == model and column.relation(dataset) is not None:
            values = " / ".join(_value(summary, metric) for metric in metrics)
            missing = f", HD undefined for {summary.undefined_hd}" * bool(
                "hd_1024" in metrics and summary.undefined_hd
            )
            cells.append(f"{values}<br>{dataset} {split}, n = {summary.n}{missing}")
    return "<br>".join(cells)


def _value(summary: Summary, metric: str) -> str:
    value: float | None = getattr(summary, metric)
    if value is None:
        return "-"
    return f"{value:.2f}" if metric == "hd_1024" else f"{100 * value:.2f}"


def _relations(table: PaperTable, results: dict[Key, Summary]) -> list[str]:
    """One line for each set of ours: how it relates to the paper's."""
    sets = sorted({dataset for _, dataset, _ in results})
    return [
        f"- {dataset} stands beside {c.dataset}: {c.relation(dataset)}."
        for c in table.columns
        for dataset in sets
        if c.relation(dataset) is not None
    ]


def _other_table(results: dict[Key, Summary]) -> list[str]:
    metrics = tuple(_NAMES)
    header = ["model", "set", "n", *(_NAMES[metric] for metric in metrics)]
    return markdown(
        header,
        [
            [model, f"{dataset} {split}", str(s.n), *(_value(s, metric) for metric in metrics)]
            for (model, dataset, split), s in results.items()
        ],
    )

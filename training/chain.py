"""The whole method in one command: teacher, both distillations, fine-tuning, export, evaluation.

Every link is the ordinary command with the results of the links before it filled in, so a chain
that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import skimage.data
from pydantic import Field

from napari_espmedsam.model.config import FrozenModel
from training.checkpoints import open_segmenter
from training.comparison import evaluate_models
from training.config import FinetuneConfig, parse_config, read_recipe
from training.distill import DistillConfig, distill
from training.evaluate import LabelledSet, score_samples
from training.export import export
from training.finetune import finetune, load_samples
from training.run import BEST
from training.selection import choose_thresholds
from training.teach import TeacherConfig, train_teacher

#: Candidates for the mask threshold, compared on the validation images.
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)

#: The photographs that scikit-image is installed with.
PHOTOGRAPHS = Path(skimage.data.__file__).parent

Settings = dict[str, Any]


class ChainConfig(FrozenModel):
    """Recipes of the links; each stands on top of ``shared`` and ``modalities``."""

    name: str
    #: Settings that all links share.
    shared: Settings = Field(default_factory=dict)
    #: As in a fine-tuning recipe.
    modalities: dict[str, Any]
    #: Which teacher; its trained parts are filled in.
    teacher_model: Settings = Field(default_factory=dict)
    teacher: Settings
    #: The common term. Without ``natural.folders`` it learns from scikit-image's photographs.
    common: Settings
    specific: Settings
    finetune: Settings


def link_configs(
    chain: ChainConfig, out: Path
) -> tuple[TeacherConfig, DistillConfig, DistillConfig, FinetuneConfig]:
    """Recipes of the four trainings, each with the results of those before it.

    Raises
    ------
    InputError
        Naming the link, and every key or value that does not fit.
    """
    name = chain.name
    labelled = {**chain.shared, "modalities": chain.modalities}
    photographs = {"natural": {"folders": [PHOTOGRAPHS], "limit": 12}}
    adapted = {**chain.teacher_model, "adapted": out / "teacher" / "adapted.safetensors"}
    cache = out / "embeddings"
    return (
        parse_config(
            {
                "name": f"{name}-teacher",
                **labelled,
                "teacher": chain.teacher_model,
                **chain.teacher,
            },
            TeacherConfig,
            "[teacher]",
        ),
        parse_config(
            {
                "name": f"{name}-common",
                **chain.shared,
                **photographs,
                "term": "common",
                "teacher": chain.teacher_model,
                "cache": cache,
                **chain.common,
            },
            DistillConfig,
            "[common]",
        ),
        parse_config(
            {
                "name": f"{name}-specific",
                **labelled,
                "term": "specific",
                "teacher": adapted,
                "cache": cache,
                "distilled": out / "common",
                **chain.specific,
            },
            DistillConfig,
            "[specific]",
        ),
        parse_config(
            {"name": name, **labelled, "distilled": out / "specific", **chain.finetune},
            FinetuneConfig,
            "[finetune]",
        ),
    )


def run_chain(recipe: Path, out: Path, *, report: Callable[[str], None] = print) -> Path:
    """Run all links, and export and measure the result on the validation images.

    Parameters
    ----------
    recipe : Path
        TOML file of a :class:`ChainConfig`.
    out : Path
        Folder of the runs. The same call again goes on where it stopped.
    report : callable
        Receives one line of text now and then.

    Returns
    -------
    Path
        The checkpoint, ``out/NAME.safetensors``. Beside it lie ``val.csv``, ``val.md`` and
        ``val.png``.

    Raises
    ------
    InputError
        If the recipe or the data do not fit.
    """
    chain = parse_config(read_recipe(recipe), ChainConfig, str(recipe))
    teacher, common, specific, student = link_configs(chain, out)

    def resume(link: str) -> bool:
        return (out / link / "run.json").is_file()

    report("1/5 teacher: medical parts beside the frozen encoder")
    train_teacher(teacher, out / "teacher", resume=resume("teacher"), report=report)
    report("2/5 common term: aggregator, natural images")
    distill(common, out / "common", resume=resume("common"), report=report)
    report("3/5 specific term: bags, medical images")
    distill(specific, out / "specific", resume=resume("specific"), report=report)
    report("4/5 fine-tuning")
    best = finetune(student, out / "finetune", resume=resume("finetune"), report=report)
    report(f"5/5 export and evaluation of {best.parent.name}/{BEST}")
    return export_and_measure(student, out, report)


def export_and_measure(config: FinetuneConfig, out: Path, report: Callable[[str], None]) -> Path:
    """Choose thresholds on the validation images, export, and measure there."""
    target = out / f"{config.name}.safetensors"
    sets = []
    for name, modality in config.modalities.items():
        samples = load_samples(name, modality, check=False)
        sets.append(LabelledSet.from_samples(name, samples, "val"))
    draft = open_segmenter(export(out / "finetune", target))
    scores = [
        score
        for labelled in sets
        for score in score_samples(draft, labelled, thresholds=THRESHOLDS)
    ]
    chosen = {name: choice.threshold for name, choice in choose_thresholds(scores).items()}
    export(out / "finetune", target, thresholds=chosen)
    evaluate_models(
        {config.name: open_segmenter(target)},
        sets,
        csv=out / "val.csv",
        table=out / "val.md",
        sheet=out / "val.png",
        show=report,
    )
    return target

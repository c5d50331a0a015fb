"""The whole table and a plot: our engine, the authors' forward, and networks that others use.

    python benchmarks/compare.py
    python benchmarks/compare.py --size 512 --rounds 9 --only engine --only u-net
    python benchmarks/compare.py --threads 2 --write-docs

Each network lives in a process of its own, and all take turns on one image, so that other work on
the machine slows all of them alike; only ratios within a round are compared. Memory is the highest
resident size during a network's first pass over that before it. A network that fails or is not
installed says so in its row.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from page import PAGE, machine, table, write_part
from subjects import SUBJECTS, Subject
from turns import Result, Worker, spread, take_turns

WEIGHTS = Path(__file__).resolve().parents[1] / "src" / "napari_espmedsam" / "weights"
PACKAGES = ("torch", "onnxruntime", "openvino", "timm", "monai", "cellpose", "stardist")


def main(
    size: Annotated[int, typer.Option(min=64, help="Side of the image in px: 32 x n.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Passes of each network.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each network.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(help="Part of the names of the rows wanted; repeatable.")
    ] = None,
    cpu_time: Annotated[
        bool, typer.Option(help="Count the processor's time: steadier on a busy machine.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for compare.md, compare.csv and compare.png.")
    ] = Path("benchmark-results"),
    write_docs: Annotated[
        bool, typer.Option(help="Put table and plot into docs/benchmarks.md, too.")
    ] = False,
) -> None:
    """Let all networks take turns; print a Markdown table and draw it."""
    names = [each.name for each in chosen(only)]
    if not names:
        raise typer.BadParameter(f"no row is called like {only}; see benchmarks/subjects.py.")
    told = machine(threads, PACKAGES)  # the load before we make it
    image = example(size)
    present = [each.name for each in chosen(only) if each.installed]
    measured = take_turns(
        present, lambda name: Worker(name, image, threads, cpu_time), rounds, _say
    )
    by_name = {result.name: result for result in measured}
    results = [by_name.get(name, Result(name, problem="not installed")) for name in names]
    text = f"{heading(size, rounds, cpu_time)} {told}\n\n{as_table(results)}"
    typer.echo(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.md").write_text(f"{text}\n", encoding="utf-8")
    write_csv(out / "compare.csv", results)
    draw(out / "compare.png", results)
    if write_docs:
        draw(PAGE.parent / "images" / "benchmarks.png", results)
        write_part("compare", f"{text}\n\n![The table as bars](images/benchmarks.png)")


def chosen(only: Sequence[str] | None) -> list[Subject]:
    """The subjects whose names hold one of these parts; all without any."""
    parts = [part.lower() for part in only or ("",)]
    return [each for each in SUBJECTS if any(part in each.name.lower() for part in parts)]


def example(size: int) -> npt.NDArray[np.float32]:
    """Synthetic nuclei, (1, 3, size, size) in [0, 1]."""
    from napari_espmedsam.samples import nuclei_stack

    plane = nuclei_stack(shape=(1, size, size))[0].astype(np.float32)
    plane -= plane.min()
    return np.repeat((plane / plane.max())[None, None], 3, axis=1)


def heading(size: int, rounds: int, cpu_time: bool) -> str:
    """What was done, in words."""
    return (
        f"One image of {size} x {size} px, float32, batch 1, {rounds} rounds in turns, fewer for a "
        f"network whose passes took a minute; median (range) of {'processor ' * cpu_time}time."
    )


def as_table(results: Sequence[Result]) -> str:
    """All results in Markdown; ratios are to the first that has figures."""
    first = next((each for each in results if each.seconds and not each.problem), None)
    return table(header(first), [row(each, first) for each in results])


def header(first: Result | None) -> list[str]:
    """Names of the columns."""
    return [
        "Network",
        "Computes",
        "Parameters, M",
        f"Times as fast as {first.name if first else 'the first'}",
        "Seconds",
        "Extra memory, MB",
        "Mean Dice on test images",
    ]


def row(result: Result, first: Result | None) -> list[str]:
    """Cells of one network."""
    subject = next(each for each in SUBJECTS if each.name == result.name)
    dice = quality(subject.checkpoint) if subject.checkpoint else ""
    if result.problem or first is None or not result.seconds:
        return [result.name, subject.computes, "", result.problem, "", "", dice]
    return [
        result.name,
        subject.computes,
        f"{result.parameters / 1e6:.1f}",
        spread(result.ratios(first)),
        spread(result.seconds),
        "" if result.memory is None else f"{result.memory:.0f}",
        dice,
    ]


def quality(checkpoint: str, folder: Path = WEIGHTS) -> str:
    """Mean Dice on the test splits as the model card has it: lowest to highest set.

    The card's table of results is what ``python -m training evaluate`` wrote.
    """
    lines = (folder / f"{checkpoint}.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    start = next(n for n, names in enumerate(cells) if {"test images", "mean Dice"} <= set(names))
    column, values = cells[start].index("mean Dice"), []
    for line in cells[start + 2 :]:
        if len(line) != len(cells[start]):
            break
        values.append(float(line[column]))
    return f"{min(values):.3f} to {max(values):.3f} ({len(values)} sets)"


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write every single time."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "round", "seconds"])
        for each in results:
            writer.writerows([each.name, n, s] for n, s in enumerate(each.seconds, start=1))


def draw(path: Path, results: Sequence[Result]) -> None:
    """Draw speed, with its range over the rounds, and memory, as bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [each for each in results if each.seconds and not each.problem]
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    speed, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    ours = {each.name for each in SUBJECTS if each.ours}
    for place, each in enumerate(shown):
        colour = "#1f77b4" if each.name in ours else "#9e9e9e"
        ratios = each.ratios(shown[0])
        middle = float(np.median(ratios))
        ends = [[middle - min(ratios)], [max(ratios) - middle]]
        speed.barh(place, middle, color=colour, xerr=ends, ecolor="black", capsize=2)
        memory.barh(place, each.memory or 0, color=colour)
    speed.set_yticks(range(len(shown)), [each.name for each in shown])
    speed.invert_yaxis()
    speed.axvline(1, color="black", linewidth=0.8)
    speed.set_xlabel(f"times as fast as {shown[0].name}\n(range over the rounds)" if shown else "")
    memory.set_xlabel("extra memory, MB")
    for axes in (speed, memory):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("blue: this package; grey: others", fontsize="small")
    figure.savefig(path, dpi=110)


def _say(line: str) -> None:
    typer.echo(line, err=True)


if __name__ == "__main__":
    typer.run(main)

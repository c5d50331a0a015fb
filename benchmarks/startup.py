"""What the plugin adds to the start of napari, and how soon the first mask is there.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 15 --checkpoint medfastsam

Each step is done in a fresh process, in turns; times are divided by something that the same process
did just before, so other work on the machine matters little. The dock needs a screen (``xvfb-run``
lends one); without it its row says so.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer
from page import machine, table, write_part
from turns import spread

NAME = "napari-espmedsam"
HEAVY = ("torch", "timm", "onnxruntime", "openvino", "qtpy", "napari", "skimage", "cv2")
HEADER = ("Step", "ms", "Divided by", "Ratio", "Goal", "Heavy packages that it loads")
Clock = Callable[[], float]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes for each step.")] = 7,
    checkpoint: Annotated[str, typer.Option(help="Model of the first mask.")] = "espmedsam",
    size: Annotated[int, typer.Option(min=64, help="Side of its image in px.")] = 512,
    cpu_time: Annotated[
        bool, typer.Option(help="Count the processor's time: steadier on a busy machine.")
    ] = False,
    write_docs: Annotated[bool, typer.Option(help="Put it into docs/benchmarks.md.")] = False,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the start and print a Markdown table."""
    if child:
        clock = time.process_time if cpu_time else time.perf_counter
        made = STEPS[child](clock) if child != "mask" else first_mask(clock, checkpoint, size)
        typer.echo(json.dumps(made))
        return
    told = machine(1, ("npe2", "napari", "torch"))
    options = [f"--checkpoint={checkpoint}", f"--size={size}", *["--cpu-time"] * cpu_time]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in STEPS}
    for number in range(rounds):
        typer.echo(f"round {number + 1} of {rounds}", err=True)
        for name, kept in found.items():
            kept.append(_child(name, options))
    clock_name = "processor time" if cpu_time else "time"
    text = (
        f"{rounds} fresh processes a step, in turns; median (range) of {clock_name}. {told}\n\n"
        f"{table(HEADER, [row for kept in found.values() for row in _rows(kept)])}"
    )
    typer.echo(text)
    if write_docs:
        write_part("startup", text)


def _child(name: str, options: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, Path(__file__), f"--child={name}", *options],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"NAPARI_ESPMEDSAM_SETTINGS": ""},  # yours are neither read nor written
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"problem": (done.stderr.splitlines() or ["no answer"])[-1][:100]}
    return dict(json.loads(lines[-1]))


def _rows(kept: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of one step; each of its processes has measured the same parts."""
    good = [each for each in kept if "problem" not in each]
    if not good:
        return [[str(kept[0]["problem"]), "not measured", "", "", "", ""]]
    rows = []
    for number, part in enumerate(good[0]["parts"]):
        parts = [each["parts"][number] for each in good]
        rows.append(
            [
                part["step"],
                spread([1000 * each["seconds"] for each in parts], ".0f"),
                part["by"],
                spread([each["seconds"] / each["base"] for each in parts]),
                part.get("goal", ""),
                ", ".join(good[0]["heavy"]) or "none",
            ]
        )
    return rows


def discovery(clock: Clock) -> dict[str, Any]:
    """What every start of napari does with the plugin."""
    base = _seconds(clock, lambda: importlib.import_module("npe2"))
    from npe2 import PluginManifest

    importlib.import_module("numpy")  # napari's own, as is its own manifest
    PluginManifest.from_distribution("napari")

    def discover() -> None:
        PluginManifest.from_distribution(NAME)
        importlib.import_module("napari_espmedsam")

    goal = "below 60 ms"
    step = "discover: read the manifest, import the package"
    parts = [_part(step, _seconds(clock, discover), "importing npe2", base, goal)]
    return {"parts": parts, "heavy": heavy()}


def readers(clock: Clock) -> dict[str, Any]:
    """What dropping a TIFF on the viewer does: our readers that claim its name are asked."""
    base = _seconds(clock, lambda: importlib.import_module("npe2"))
    from npe2 import PluginManifest
    from npe2.manifest.utils import import_python_name

    importlib.import_module("numpy")
    contributions = PluginManifest.from_distribution(NAME).contributions
    commands = {each.id: each.python_name for each in contributions.commands or []}
    names = [
        commands[each.command]
        for each in contributions.readers or []
        if any(fnmatch("image.tif", pattern) for pattern in each.filename_patterns)
    ]

    def ask() -> None:
        for name in names:
            import_python_name(name)("image.tif")

    step = "ask the reader of a TIFF whether it takes it"
    parts = [_part(step, _seconds(clock, ask), "importing npe2", base, "below 60 ms")]
    return {"parts": parts, "heavy": heavy()}


def dock(clock: Clock) -> dict[str, Any]:
    """Open the dock in a viewer."""
    import napari

    viewers: list[Any] = []
    base = _seconds(clock, lambda: viewers.append(napari.Viewer(show=False)))
    open_dock = viewers[0].window.add_plugin_dock_widget
    seconds = _seconds(clock, lambda: open_dock(NAME, "Segment"))
    loaded = [name for name in heavy() if name not in ("napari", "qtpy", "skimage")]
    viewers[0].close()
    parts = [_part("open the dock", seconds, "opening napari's window", base, "no torch")]
    return {"parts": parts, "heavy": loaded}


def first_mask(clock: Clock, checkpoint: str, size: int) -> dict[str, Any]:
    """Load the model, segment the first image, and go on with others."""
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.inference.tiling import TileSpec
    from napari_espmedsam.samples import nuclei_stack

    plane = nuclei_stack(shape=(1, size, size))[0]
    models: list[Segmenter] = []

    def make() -> None:
        models.append(Segmenter.from_checkpoint(checkpoint, backend="torch"))

    load = _seconds(clock, make)
    modality = models[0].modalities[0]

    def segment() -> None:
        plane[0, 0] += 1  # another plane for the cache, and the same work
        models[0].segment(plane, modality, scale=1.0, tile=TileSpec(size, 0))

    first = _seconds(clock, segment)
    steady = min(_seconds(clock, segment) for _ in range(3))
    again = _seconds(clock, make)
    steady_name = f"a later mask of {size} px"
    parts = [
        _part(f"load {checkpoint}", load, steady_name, steady),
        _part(f"load {checkpoint} again", again, steady_name, steady),
        _part(f"first mask of {size} px, loaded before", first, steady_name, steady, "below 2"),
        _part("load and first mask", load + first, "load + a later mask", load + steady, "below 2"),
    ]
    return {"parts": parts, "heavy": heavy()}


def _part(step: str, seconds: float, by: str, base: float, goal: str = "") -> dict[str, Any]:
    return {"step": step, "seconds": seconds, "by": by, "base": base, "goal": goal}


def _seconds(clock: Clock, work: Callable[[], object]) -> float:
    start = clock()
    work()
    return clock() - start


def heavy() -> list[str]:
    """Packages loaded in this process that take long to import."""
    return [name for name in HEAVY if name in sys.modules]


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "discovery": discovery,
    "readers": readers,
    "dock": dock,
    "mask": first_mask,
}

if __name__ == "__main__":
    typer.run(main)

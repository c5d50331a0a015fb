"""Draw the figures of the documentation: ``python docs/make_figures.py``.

Writes ``docs/images/esp_medsam.png``, ``med_fastsam.png``, ``layers.png`` and ``steps.png``. The
layers are those of the import contract in ``setup.cfg``; the steps are computed with the bundled
weights on a part of the sample.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

FOLDER = Path(__file__).resolve().parent / "images"
SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"

SHARED, PRIVATE, DATA, EDIT = "#dbe7f5", "#fbe3cf", "#f1f1f1", "#dff0dc"
MEANING = {SHARED: "computed", PRIVATE: "one per modality", EDIT: "the prompt"}
INK = "#22303c"

Box = tuple[float, float, float, str, str, str]  # x, y, width, title, text, colour
Arrow = tuple[str, str]

ESP: dict[str, Box] = {
    "image": (0.0, 0, 1.5, "Image", "one plane\nor one tile", DATA),
    "encoder": (2.2, 0, 2.3, "Encoder", "a small trunk that all\nmodalities share", SHARED),
    "bag": (
        2.15,
        2.2,
        2.4,
        "Bag of the modality",
        "tokens and a second\nMLP in each block",
        PRIVATE,
    ),
    "features": (5.2, 0, 1.6, "Features", "256 numbers\nper 16 px", DATA),
    "sppg": (4.95, 2.2, 2.1, "Patch generator", "is there something\nin this patch?", SHARED),
    "grid": (7.8, 2.2, 2.0, "Patch grid", "on or off per 32 px:\nyou can edit it", EDIT),
    "decoder": (7.8, 0, 2.0, "Decoder", "two-way\ntransformer", SHARED),
    "query": (7.45, -2.2, 2.7, "Query of the modality", "and its MLP:\nwhat to look for", PRIVATE),
    "mask": (10.6, 0, 1.5, "Mask", "a probability\nper pixel", DATA),
}
ESP_ARROWS: list[Arrow] = [
    ("image", "encoder"),
    ("bag", "encoder"),
    ("encoder", "features"),
    ("features", "sppg"),
    ("sppg", "grid"),
    ("grid", "decoder"),
    ("features", "decoder"),
    ("query", "decoder"),
    ("decoder", "mask"),
]

FAST: dict[str, Box] = {
    "image": (0.0, 0, 1.5, "Image", "one plane\nor one tile", DATA),
    "encoder": (
        2.4,
        0,
        2.6,
        "Encoder",
        "a natural and a medical\nbranch in each block",
        SHARED,
    ),
    "features": (5.8, 0, 1.6, "Features", "256 numbers\nper 16 px", DATA),
    "otsu": (
        2.4,
        2.2,
        2.6,
        "Otsu",
        "the grey value that best\nparts bright from dark",
        SHARED,
    ),
    "coarse": (5.6, 2.2, 2.0, "Coarse mask", "bright or not:\nyou can edit it", EDIT),
    "decoder": (8.3, 0, 2.0, "Decoder", "features, prompt\nand fine detail", SHARED),
    "detail": (
        2.4,
        -2.2,
        2.6,
        "Fine detail",
        "the image again, at\n1/8 and 1/4 of its size",
        SHARED,
    ),
    "mask": (11.0, 0, 1.5, "Mask", "a probability\nper pixel", DATA),
}
FAST_ARROWS: list[Arrow] = [
    ("image", "encoder"),
    ("encoder", "features"),
    ("image", "otsu"),
    ("otsu", "coarse"),
    ("coarse", "decoder"),
    ("features", "decoder"),
    ("image", "detail"),
    ("detail", "decoder"),
    ("decoder", "mask"),
]
HEIGHT = 1.2  # of a box


def draw_flow(name: str, boxes: dict[str, Box], arrows: list[Arrow]) -> None:
    """Draw boxes and the arrows between them."""
    figure, axes = plt.subplots(figsize=(11, 4.6))
    for x, y, width, title, text, colour in boxes.values():
        draw_box(axes, x, y - HEIGHT / 2, width, HEIGHT, colour)
        axes.text(x + width / 2, y + 0.33, title, ha="center", va="center", weight="bold", size=9.5)
        axes.text(x + width / 2, y - 0.2, text, ha="center", va="center", size=8.5)
    for start, end in arrows:
        draw_arrow(axes, boxes[start], boxes[end])
    used = {box[-1] for box in boxes.values()}
    for number, colour in enumerate(each for each in MEANING if each in used):
        draw_box(axes, 0, -1.75 - 0.45 * number, 0.3, 0.22, colour)
        axes.text(0.45, -1.64 - 0.45 * number, MEANING[colour], va="center", size=8.5)
    axes.set(xlim=(-0.2, 12.7), ylim=(-3, 3))
    save(figure, axes, name)


def draw_box(axes: Any, x: float, y: float, width: float, height: float, colour: str) -> None:
    """Draw one box with round corners."""
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor=INK)
    )


def draw_arrow(axes: Any, start: Box, end: Box) -> None:
    """Draw an arrow from one box to another, out of the sides that face each other."""
    (x0, y0, w0), (x1, y1, w1) = start[:3], end[:3]
    down = 1 if y1 < y0 else -1
    tail: tuple[float, float] = (x0 + w0, y0)
    head: tuple[float, float] = (x1, y1)
    stacked = x1 < x0 + w0
    if y0 != y1 and (stacked or y0 == 0):  # out of the middle row
        tail = (x0 + w0 / 2, y0 - down * HEIGHT / 2)
    if y0 != y1 and (stacked or y1 == 0):  # into the middle row
        head = (x1 + w1 / 2, y1 + down * HEIGHT / 2)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 1, "shrinkB": 1}
    axes.annotate("", xy=head, xytext=tail, arrowprops=arrow)


def draw_layers() -> None:
    """Draw the layers of the package as the import contract lists them."""
    setup = configparser.ConfigParser()
    setup.read(SETUP, encoding="utf-8")
    rows = setup["importlinter:contract:layers"]["layers"].split("\n")
    layers = [[part.strip() for part in row.split("|")] for row in rows if row.strip()]
    figure, axes = plt.subplots(figsize=(8, 4.4))
    for number, names in enumerate(layers):
        width = 8 / len(names)
        for place, name in enumerate(names):
            x, y = place * width, -number
            draw_box(axes, x + 0.06, y, width - 0.12, 0.72, EDIT if name == "widgets" else SHARED)
            axes.text(x + width / 2, y + 0.36, name, ha="center", va="center", size=11)
    first = next(i for i, names in enumerate(layers) if "inference" in names)
    draw_box(axes, 8.6, -first, 2.0, 0.72, PRIVATE)
    axes.text(9.6, -first + 0.36, "training", ha="center", va="center", size=11)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2}
    axes.annotate("", xy=(8.0, -first + 0.36), xytext=(8.6, -first + 0.36), arrowprops=arrow)
    rule = "A layer imports\nwhat is below it,\nnever beside\nor above it."
    axes.text(8.6, 0.72, rule, va="top", size=9)
    axes.text(9.6, -first - 0.12, "only in a checkout", ha="center", va="top", size=8.5)
    axes.set(xlim=(-0.1, 10.8), ylim=(-len(layers) + 0.9, 0.9))
    save(figure, axes, "layers.png")


def draw_steps() -> None:
    """Draw what the bundled model makes of a part of the sample, step by step."""
    from napari_espmedsam import PostProcess, Segmenter
    from napari_espmedsam.inference.postprocess import to_labels
    from napari_espmedsam.samples import nuclei_stack

    plane = nuclei_stack()[6][96:224, 32:160]
    segmenter = Segmenter.from_checkpoint(device="cpu", backend="torch")
    encoding = segmenter.encode(plane, "microscopy")
    probability = segmenter.decode(encoding)
    labels = to_labels(probability.array, PostProcess(output="split"))
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
    axes[0].imshow(plane, cmap="gray")
    axes[1].imshow(encoding.prompt_probability[0], cmap="magma", vmin=0, vmax=1)
    axes[2].imshow(probability.array, cmap="magma", vmin=0, vmax=1)
    axes[3].imshow(plane, cmap="gray")
    axes[3].imshow(labels, cmap="tab20", alpha=(labels > 0) * 0.8, interpolation="nearest")
    titles = ("image", "prompt: probability per patch", "mask: probability per pixel", "labels")
    for each, title in zip(axes, titles, strict=True):
        each.set_title(title, size=10, color=INK)
        each.axis("off")
    figure.tight_layout()
    figure.savefig(FOLDER / "steps.png", dpi=110)
    print(FOLDER / "steps.png")


def save(figure: Any, axes: Any, name: str) -> None:
    """Write a figure of boxes."""
    axes.axis("off")
    figure.savefig(FOLDER / name, dpi=110, bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
    print(FOLDER / name)


def main() -> None:
    """Draw all figures."""
    FOLDER.mkdir(exist_ok=True)
    draw_flow("esp_medsam.png", ESP, ESP_ARROWS)
    draw_flow("med_fastsam.png", FAST, FAST_ARROWS)
    draw_layers()
    draw_steps()


if __name__ == "__main__":
    main()

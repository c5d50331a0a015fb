"""A contact sheet of the best, the median and the worst images, with both outlines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.model.checkpoint import InputSpec
from training.data import rescale
from training.scores import ImageScore, result_file

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
#: Image, (H, W) or (H, W, 3), its true and its predicted mask, both (H, W).
Loaded = tuple[NDArray[Any], Mask, Mask]

TILE = 400  # px, longer side of an image on the sheet
COLUMNS = 4  # images of each kind
#: RGB. Cyan and amber stay apart for colour-blind eyes, on black, skin, retina and stained tissue.
TRUTH, PREDICTION, BOTH = (0, 200, 255), (255, 190, 0), (255, 255, 255)
_GROUND, _INK = (32, 32, 32), (230, 230, 230)
_GAP, _LINE = 12, 22  # px between tiles; px for a line of text
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_DISPLAY = InputSpec(geometry="whole", size=32)  # only its rule for intensities is used


def select(scores: Sequence[ImageScore], columns: int = COLUMNS) -> dict[str, list[ImageScore]]:
    """Choose the images of a sheet, each at most once.

    Parameters
    ----------
    scores : sequence of ImageScore
        At least one.
    columns : int
        Images of each kind, if there are three times as many.

    Returns
    -------
    dict of str to list of ImageScore
        "best", "median" and "worst", each from high to low Dice. One image is the best alone; of
        two there is no median.
    """
    ranked = sorted(scores, key=lambda s: (-s.dice, s.name))
    n, k = len(ranked), max(1, min(columns, len(ranked) // 3))
    middle = (n - k) // 2
    chosen = {"best": ranked[:k]}
    if n > 2:
        chosen["median"] = ranked[middle : middle + k]
    if n > 1:
        chosen["worst"] = ranked[n - k :]
    return chosen


def draw_sheet(
    scores: Sequence[ImageScore],
    load: Callable[[ImageScore], Loaded],
    columns: int = COLUMNS,
) -> Picture:
    """Draw the best, median and worst images of one model on one set.

    Parameters
    ----------
    scores : sequence of ImageScore
        At least one.
    load : callable
        Gives image, true mask and predicted mask of a score; called for the images shown alone.
    columns : int
        Images of each kind.

    Returns
    -------
    ndarray of uint8, (height, width, 3)
        RGB.
    """
    rows = []
    for kind, chosen in select(scores, columns).items():
        tiles = [_tile(kind, score, *load(score)) for score in chosen]
        rows.append(np.concatenate(tiles, axis=1))
    body = np.concatenate(rows, axis=0)
    return np.concatenate([_head(scores, body.shape[1]), body], axis=0)


def write_sheet(
    path: Path, scores: Sequence[ImageScore], load: Callable[[ImageScore], Loaded]
) -> None:
    """Write :func:`draw_sheet` as PNG, complete or not at all."""
    bgr = cv2.cvtColor(draw_sheet(scores, load), cv2.COLOR_RGB2BGR)
    with result_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())


def draw_outlines(image: NDArray[Any], truth: Mask, prediction: Mask) -> Picture:
    """Draw both outlines on an image, whose longer side becomes ``TILE`` px.

    Parameters
    ----------
    image : ndarray
        (H, W) or (H, W, 3), any real type. 8-bit colours are shown as they are, anything else is
        stretched between its percentiles.
    truth, prediction : ndarray of bool, (H, W)
        Masks.

    Returns
    -------
    ndarray of uint8, (h, w, 3)
        RGB.
    """
    if image.ndim == 3 and image.dtype == np.uint8:
        colours = image
    else:
        planes = rescale(image, _DISPLAY)
        colours = np.ascontiguousarray((planes * 255).round().astype(np.uint8).transpose(1, 2, 0))
    zoom = TILE / max(truth.shape)
    size = (max(1, round(truth.shape[1] * zoom)), max(1, round(truth.shape[0] * zoom)))
    interpolation = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(colours, size, interpolation=interpolation), np.uint8)
    true_line, found_line = _outline(truth, size), _outline(prediction, size)
    picture[true_line] = TRUTH
    picture[found_line] = PREDICTION
    picture[true_line & found_line] = BOTH
    return picture


def _outline(mask: Mask, size: tuple[int, int]) -> Mask:
    """Inner border of a mask resized to (width, height); the edge of the picture is no border."""
    large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
    inside = cv2.erode(large, np.ones((3, 3), np.uint8))
    return np.asarray((large > 0) & (inside == 0))


def _tile(kind: str, score: ImageScore, image: NDArray[Any], truth: Mask, found: Mask) -> Picture:
    """One image in a square, with two lines of text below it."""
    tile = _blank(_GAP + TILE + 2 * _LINE, _GAP + TILE)
    picture = draw_outlines(image, truth, found)
    height, width = picture.shape[:2]
    top, left = (TILE - height) // 2, _GAP // 2 + (TILE - width) // 2
    tile[top : top + height, left : left + width] = picture
    empty = " (nothing found)" * score.empty_prediction + " (nothing there)" * score.empty_truth
    lines = (f"{kind}: Dice {score.dice:.3f}{empty}", score.name)
    for number, line in enumerate(lines, start=1):
        _write(tile, line, (_GAP // 2, TILE + number * _LINE - 6), _INK, TILE)
    return tile


def _head(scores: Sequence[ImageScore], width: int) -> Picture:
    """What was measured, and what the colours mean."""
    head = _blank(2 * _LINE + _GAP, width)
    first = scores[0]
    cuts = ", ".join(f"{cut:g}" for cut in dict.fromkeys(s.threshold for s in scores))
    title = (
        f"{first.model} {first.dataset} {first.split}, n = {len(scores)}, "
        f"mean Dice {mean(s.dice for s in scores):.3f}, threshold {cuts}"
    )
    _write(head, title.strip(), (_GAP // 2, _LINE - 4), _INK, width - _GAP)
    left = _GAP // 2
    for text, colour in (("truth", TRUTH), ("prediction", PREDICTION), ("both", BOTH)):
        _write(head, text, (left, 2 * _LINE - 4), colour, width - left)
        left += 2 * _GAP + _width(text)
    return head


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), _GROUND, np.uint8)


def _write(
    picture: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int], width: int
) -> None:
    """Write one line that ends within ``width`` px; OpenCV's letters are ASCII."""
    plain = text.encode("ascii", "replace").decode()
    while _width(plain) > width:
        plain = f"{plain.removesuffix('...')[:-1]}..."
    cv2.putText(picture, plain, at, _FONT, _SIZE, colour, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _SIZE, 1)[0][0])

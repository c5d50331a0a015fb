"""From a probability map to labels: threshold, clean-up, objects, touching objects split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.options import check, option
from napari_espmedsam.inference.regions import (
    Labels,
    Mask,
    Regions,
    find_regions,
    look_up,
    number_objects,
    region_sizes,
)
from napari_espmedsam.inference.split import SplitMemory

OUTPUTS = ("mask", "objects", "split")
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class PostProcess:
    """How a probability map becomes labels. All sizes are in pixels of the user's image.

    Raises
    ------
    InputError
        If a value has the wrong type or lies outside its range.
    """

    output: str = option(
        "objects",
        label="Output",
        help="mask: one value for all foreground. objects: every connected region gets its own "
        "number. split: as objects, and touching objects are cut apart at their necks.",
        choices=OUTPUTS,
        flags=("--objects",),
    )
    threshold: float | None = option(
        None,
        label="Threshold",
        help="Probability from which a pixel counts as foreground. Lower finds more.",
        minimum=0.01,
        maximum=0.99,
        auto="the checkpoint's own",
    )
    min_size: int = option(
        16,
        label="Smallest object",
        help="Objects with fewer pixels than this are removed; 0 keeps all.",
        minimum=0,
        maximum=10**9,
        unit="px",
    )
    max_hole: int = option(
        64,
        label="Largest hole filled",
        help="Enclosed holes of up to this many pixels are filled; 0 fills none.",
        minimum=0,
        maximum=10**9,
        unit="px",
    )
    split_neck: float = option(
        0.9,
        label="Split at necks below",
        help="Used by split. Two parts are cut apart where the neck between them is narrower than "
        "this fraction of the smaller part. Higher cuts more.",
        minimum=0.1,
        maximum=0.99,
        advanced=True,
    )
    smoothing: float = option(
        0.0,
        label="Smoothing",
        help="Width (sigma) of a Gaussian filter on the probability before the threshold: it "
        "rounds outlines and removes specks. 0 leaves the probability as it is.",
        minimum=0.0,
        maximum=20.0,
        unit="px",
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)


def to_labels(
    probability: npt.NDArray[np.float32],
    post: PostProcess | None = None,
    splits: SplitMemory | None = None,
) -> Labels:
    """Turn a probability map into labels. The same input always gives the same labels.

    Parameters
    ----------
    probability : ndarray
        (H, W) float, 0 to 1.
    post : PostProcess, optional
        Settings; the defaults when None. A threshold of None means 0.5 here, where no checkpoint
        is at hand.
    splits : SplitMemory, optional
        What was split of the same plane before, which saves time; the labels stay the same. They
        are kept there, so they may not be changed then.

    Returns
    -------
    ndarray
        (H, W) uint32; 0 is background. Foreground is 1 for "mask"; otherwise objects are numbered
        1 to n in the order of their first pixel. Pixels that touch by a corner belong together
        (8-connected).

    Raises
    ------
    InputError
        If the map is not 2-D.
    """
    post = PostProcess() if post is None else post
    if np.ndim(probability) != 2:
        raise InputError(
            f"The probability map has {np.ndim(probability)} axes. Give one plane (Y, X) at a time."
        )
    threshold = DEFAULT_THRESHOLD if post.threshold is None else post.threshold
    mask = np.ascontiguousarray(_smooth(np.asarray(probability), post.smoothing) >= threshold)
    if not mask.any():
        return np.zeros(mask.shape, np.uint32)
    regions, keep = _large_regions(mask, post.min_size)
    if not keep[1:].all():
        mask = look_up(keep, regions)
    holes = _small_holes(mask, post.max_hole)
    if holes is not None:
        mask |= holes
    if post.output == "mask":
        return mask.astype(np.uint32)
    if holes is not None:  # a hole that is filled may join objects
        regions, keep = _large_regions(mask, 0)
    if post.output == "split":
        objects = number_objects(regions, keep).astype(np.int32)
        n = int(np.count_nonzero(keep)) + 1
        splits = SplitMemory() if splits is None else splits
        return splits.split(objects, n, post.split_neck, post.min_size)
    return number_objects(regions, keep)


def _smooth(probability: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Filter a probability map with a Gaussian that ends at 3 sigma; edges are mirrored.

    Probabilities and not logits: these have no bounds, so one very sure pixel would outweigh the
    doubts of all its neighbours.
    """
    if sigma == 0:
        return probability
    side = 2 * math.ceil(3 * sigma) + 1
    plane = np.ascontiguousarray(probability, dtype=np.float32)
    blurred = cv2.GaussianBlur(plane, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred)


def _large_regions(mask: Mask, min_size: int) -> tuple[Regions, Mask]:
    """Number connected regions; by their number, whether one is an object of enough pixels."""
    regions, n = find_regions(mask, 8)
    keep = region_sizes(regions, n) >= min_size if min_size > 1 else np.ones(n, bool)
    keep[0] = False
    return regions, keep


def _small_holes(mask: Mask, max_hole: int) -> Mask | None:
    """Enclosed background (4-connected, the dual of 8-connected objects) up to a size, if any."""
    if max_hole < 1:
        return None
    background, n = find_regions(~mask, 4)
    fill = region_sizes(background, n) <= max_hole
    border = (background[0], background[-1], background[:, 0], background[:, -1])
    fill[np.concatenate(border)] = False  # open to the outside: not a hole
    fill[0] = False
    return look_up(fill, background) if fill.any() else None

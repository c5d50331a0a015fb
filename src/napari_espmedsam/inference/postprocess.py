"""From a probability map to labels: threshold, clean-up, objects, touching objects split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.options import check, option

OUTPUTS = ("mask", "objects", "split")
DEFAULT_THRESHOLD = 0.5
_EIGHT = np.ones((3, 3), dtype=bool)
_PIXEL = 0.5
_SMOOTH_SIGMA = 0.5  # px; takes the staircase of the pixel grid out of the distance map

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint32]


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


def to_labels(probability: npt.NDArray[np.float32], post: PostProcess | None = None) -> Labels:
    """Turn a probability map into labels. The same input always gives the same labels.

    Parameters
    ----------
    probability : ndarray
        (H, W) float, 0 to 1.
    post : PostProcess, optional
        Settings; the defaults when None. A threshold of None means 0.5 here, where no checkpoint
        is at hand.

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
    smooth = _smooth(np.asarray(probability), post.smoothing)
    mask = _drop_small(smooth >= threshold, post.min_size)
    mask = _fill_small_holes(mask, post.max_hole)
    if post.output == "mask":
        return mask.astype(np.uint32)
    components = ndimage.label(mask, structure=_EIGHT)[0]
    if post.output == "split" and components.any():
        components = _split_at_necks(components, post.split_neck, post.min_size)
    return components.astype(np.uint32)


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


def _drop_small(mask: Mask, min_size: int) -> Mask:
    if min_size <= 1:
        return mask
    components, n = ndimage.label(mask, structure=_EIGHT)
    keep = np.bincount(components.ravel(), minlength=n + 1) >= min_size
    keep[0] = False
    return keep[components]


def _fill_small_holes(mask: Mask, max_hole: int) -> Mask:
    """Fill enclosed background (4-connected, the dual of 8-connected objects) up to a size."""
    if max_hole < 1:
        return mask
    background, n = ndimage.label(~mask)
    fill = np.bincount(background.ravel(), minlength=n + 1) <= max_hole
    border = (background[0], background[-1], background[:, 0], background[:, -1])
    fill[np.concatenate(border)] = False  # open to the outside: not a hole
    fill[0] = False
    return mask | fill[background]


def _split_at_necks(
    components: npt.NDArray[np.int32], neck: float, min_size: int
) -> npt.NDArray[np.int32]:
    """Cut touching objects apart by a watershed on the distance to the background."""
    from skimage.segmentation import watershed

    inside = components > 0
    distance = ndimage.distance_transform_edt(inside)
    distance = ndimage.gaussian_filter(distance, _SMOOTH_SIGMA) * inside
    seeds = _find_seeds(distance, components, neck, min_size)
    parts = watershed(-distance, seeds, connectivity=_EIGHT, mask=inside)
    return _renumber(parts)


def _find_seeds(
    distance: npt.NDArray[np.float64],
    components: npt.NDArray[np.int32],
    neck: float,
    min_size: int,
) -> npt.NDArray[np.int32]:
    """Mark one seed per part that is worth cutting off.

    On the logarithm of the distance, a drop of -log(neck) is the same ratio between neck and part
    for small and large objects (h-maxima). The pixel that is added keeps the roughness of the grid
    from reaching that ratio where objects are a few pixels wide.
    """
    from skimage.morphology import local_maxima, reconstruction

    inside = components > 0
    height = -np.log(neck)
    relief = np.where(inside, np.log(distance + _PIXEL), np.log(_PIXEL) - height)
    flooded = reconstruction(relief - height, relief, footprint=_EIGHT)
    seeds, n = ndimage.label(local_maxima(flooded, footprint=_EIGHT) & inside, structure=_EIGHT)
    # A part has to hold a disc of min_size; an object that holds none keeps its own maximum.
    highest = _maximum_per_label(distance, components, int(components.max()))
    enough = np.minimum(np.sqrt(min_size / np.pi), highest)[components]
    keep = _maximum_per_label(distance - enough, seeds, n) >= 0
    keep[0] = False
    return np.where(keep[seeds], seeds, 0)


def _maximum_per_label(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.int32], n: int
) -> npt.NDArray[np.float64]:
    """Maximum over the pixels of each label 0 to n; several times faster than ndimage.maximum."""
    highest = np.full(n + 1, -np.inf)
    np.maximum.at(highest, labels.ravel(), values.ravel())
    return highest


def _renumber(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Number labels 1 to n in the order of their first pixel (row by row)."""
    values, first = np.unique(labels, return_index=True)
    order = values[np.argsort(first, kind="stable")]
    order = order[order > 0]
    table = np.zeros(int(values.max()) + 1, dtype=np.int32)
    table[order] = np.arange(1, order.size + 1, dtype=np.int32)
    return table[labels]

"""Touching objects are cut apart at their necks: a watershed on the distance to the background.

Objects are looked at one by one, so what becomes of one does not depend on the others, and those
that have a single centre, which most have, cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_espmedsam.inference.regions import (
    Labels,
    Mask,
    Regions,
    find_regions,
    first_pixels,
    number_objects,
)

_EIGHT = np.ones((3, 3), dtype=bool)
_PIXEL = 0.5
_SMOOTH_SIGMA = 0.5  # px; takes the staircase of the pixel grid out of the distance map
_EXACT_DISTANCE = 1000.0  # px; up to here the square of a float32 distance is a whole number
# px. The filter reaches 2 px, perhaps into another object, which is at most 3 px deep there.
_REACH = 6
_WORTH_IT = 0.5  # of the plane: where more is to be looked at again, all of it is

Distances = npt.NDArray[np.float64]


def split_at_necks(objects: Regions, n: int, neck: float, min_size: int) -> tuple[Regions, int]:
    """Cut touching objects apart.

    Parameters
    ----------
    objects : ndarray
        (H, W) int32: regions that do not touch each other; 0 is background.
    n : int
        How many numbers there are, that of the background included.
    neck : float
        Two parts are cut apart where the neck between them is narrower than this fraction of the
        smaller one.
    min_size : int
        A part has to hold a disc of this many pixels.

    Returns
    -------
    ndarray
        (H, W) int32: parts, in no particular order of their numbers.
    int
        How many numbers there are now.
    """
    if (objects > 0).all():
        return objects, n  # no background to be distant from
    return _cut(_depths(objects > 0), objects, n, neck, min_size)


class SplitMemory:
    """Splits the objects of one plane again and again, as it changes a little each time.

    Only objects near a pixel that has changed are looked at; the others keep their parts. What
    comes of it is what :func:`split_at_necks` gives, to the bit.
    """

    def __init__(self) -> None:
        self._settings: tuple[float, int] | None = None
        self._labels: Labels | None = None

    @property
    def labels(self) -> Labels | None:
        """What was given last."""
        return self._labels

    def split(self, objects: Regions, n: int, neck: float, min_size: int) -> Labels:
        """Cut touching objects apart; see :func:`split_at_necks`.

        Returns
        -------
        ndarray
            (H, W) uint32: parts, numbered from 1 in the order of their first pixel. It is kept, so
            it may not be changed.
        """
        found, before = None, self._labels
        same = self._settings == (neck, min_size)
        if before is not None and same and before.shape == objects.shape:
            found = _split_changed(before, objects, neck, min_size)
        parts, n = found or split_at_necks(objects, n, neck, min_size)
        self._settings = neck, min_size
        self._labels = number_objects(parts, np.arange(n) > 0)
        return self._labels


def _split_changed(
    before: Labels, objects: Regions, neck: float, min_size: int
) -> tuple[Regions, int] | None:
    """Split the objects near a change; None where to split all of them takes less."""
    inside = objects > 0
    changed = (inside != (before > 0)).view(np.uint8)
    near = cv2.dilate(changed, np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)).view(bool)
    touched = np.unique(objects[near])
    boxes = ndimage.find_objects(objects)
    around = [(k, _widen(boxes[k - 1])) for k in touched.tolist() if k]
    if sum(objects[box].size for _, box in around) > _WORTH_IT * objects.size:
        return None
    parts = np.where(inside, before.view(np.int32), 0)
    n = int(before.max()) + 1
    for k, box in around:
        own = objects[box] == k
        found, n_found = _cut(_depths(inside[box]), own.astype(np.int32), 2, neck, min_size)
        parts[box][own] = found[own] + (n - 1)
        n += n_found - 1
    return parts, n


def _widen(box: tuple[slice, slice]) -> tuple[slice, slice]:
    """All pixels that the depths of an object in this box depend on."""
    rows, columns = (slice(max(s.start - _REACH, 0), s.stop + _REACH) for s in box)
    return rows, columns


def _cut(
    depths: Distances, objects: Regions, n: int, neck: float, min_size: int
) -> tuple[Regions, int]:
    parts, boxes = objects.copy(), ndimage.find_objects(objects)
    for k, centres in _with_several_centres(depths, objects, n, min_size):
        box = boxes[k - 1]
        own, depth = objects[box] == k, depths[box]
        seeds, n_seeds = _find_seeds(depth, own, centres - (box[0].start, box[1].start), neck)
        if n_seeds > 1:
            parts[box][own] = _flood(depth, seeds, own)[own] + (n - 1)
            n += n_seeds
    return parts, n


def _depths(inside: Mask) -> Distances:
    """Distance of each pixel to the background, smoothed; 0 in the background."""
    distance = _distance_to_background(inside)
    return np.asarray(ndimage.gaussian_filter(distance, _SMOOTH_SIGMA) * inside)


def _distance_to_background(inside: Mask) -> Distances:
    """Exact Euclidean distance of each pixel to the nearest one that is not inside."""
    distance = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    if float(distance.max()) > _EXACT_DISTANCE:
        return np.asarray(ndimage.distance_transform_edt(inside))
    squared = np.square(distance, dtype=np.float64)
    return np.asarray(np.sqrt(np.rint(squared, out=squared), out=squared))


def _with_several_centres(
    distance: Distances, objects: Regions, n: int, min_size: int
) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Yield objects in which the distance has several maxima: number, (m, 2) pixels.

    The highest maximum comes first. Those around which no disc of `min_size` fits are left out:
    no part may be that small.
    """
    from skimage.morphology import local_maxima

    maxima, n_maxima = find_regions(local_maxima(distance, footprint=_EIGHT), 8)
    # In the order of the image: of centres that are equally high the first one comes first.
    centres = np.sort(first_pixels(maxima, n_maxima)[1:])
    owner, height = objects.ravel()[centres], distance.ravel()[centres]
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, owner, height)
    enough = np.minimum(math.sqrt(min_size / math.pi), highest)[owner]
    large = (owner > 0) & (height >= enough)
    centres, owner, height = centres[large], owner[large], height[large]
    order = np.lexsort((-height, owner))
    owner, counts = np.unique(owner, return_counts=True)
    ends = np.cumsum(counts)
    for k in np.flatnonzero(counts > 1):
        own = centres[order[ends[k] - counts[k] : ends[k]]]
        yield int(owner[k]), np.stack(np.unravel_index(own, objects.shape), axis=1)


def _find_seeds(
    distance: Distances, own: Mask, centres: npt.NDArray[np.intp], neck: float
) -> tuple[Regions, int]:
    """Mark one seed per part of an object that is worth cutting off; and count them.

    On the logarithm of the distance, a drop of -log(neck) is the same ratio between neck and part
    for small and large objects (h-maxima). The pixel that is added keeps the roughness of the grid
    from reaching that ratio where objects are a few pixels wide.

    What can be reached from a centre without going below that drop is its seed, unless there is a
    higher centre in reach, of which it is then a part.
    """
    relief = np.where(own, np.log(distance + _PIXEL), -np.inf)
    seeds, n = np.zeros(own.shape, np.int32), 0
    reached = np.zeros(own.shape, bool)
    for y, x in centres:
        if reached[y, x]:
            continue
        regions = find_regions(relief >= relief[y, x] + np.log(neck), 8)[0]
        reach = regions == regions[y, x]
        reached |= reach
        if relief[reach].max() <= relief[y, x]:
            n += 1
            seeds[reach] = n
    return seeds, n


def _flood(distance: Distances, seeds: Regions, own: Mask) -> Regions:
    from skimage.segmentation import watershed

    return np.asarray(watershed(-distance, seeds, connectivity=_EIGHT, mask=own))

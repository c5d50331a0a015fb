"""Outlines of labels along the edges of their pixels: filling them gives the labels back.

Pixel (row, column) covers the square from (column, row) to (column + 1, row + 1): a corner of the
image is (0, 0), as in QuPath and ImageJ. An outline runs along the edges of pixels, so that nothing
is rounded or cut off. Pixels that meet at a corner only belong to different parts of an object, and
a ring never meets itself: the polygons are valid in the sense of OGC, JTS and shapely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]

# Each side of a pixel is walked with the pixel on the right hand: top, right, bottom, left side.
# The end of a side, relative to the pixel's corner at the top left.
_END_Y = np.array([0, 1, 1, 0])
_END_X = np.array([1, 1, 0, 0])


@dataclass(frozen=True, eq=False)
class Polygon:
    """A connected part of an object.

    Attributes
    ----------
    exterior : ndarray of int64
        (n, 2) corners as x, y in pixels; clockwise on the screen (y down); the first is not
        repeated at the end.
    holes : tuple of ndarray of int64
        Rings of the same kind, anticlockwise.
    """

    exterior: Ring
    holes: tuple[Ring, ...]

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The exterior, then the holes."""
        return (self.exterior, *self.holes)


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of one object on one plane.

    Attributes
    ----------
    label : int
        Id of the object.
    polygons : tuple of Polygon
        Its parts, at least one.
    """

    label: int
    polygons: tuple[Polygon, ...]

    @property
    def rings(self) -> tuple[Ring, ...]:
        """All rings of all parts."""
        return tuple(chain.from_iterable(polygon.rings for polygon in self.polygons))

    @property
    def area(self) -> int:
        """Pixels of the object on this plane."""
        return sum(signed_area(ring) for ring in self.rings)

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Smallest x and y, largest x and y, in corners of pixels."""
        corners = np.concatenate([polygon.exterior for polygon in self.polygons])
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return left, top, right, bottom


def signed_area(ring: Ring) -> int:
    """Return the area within a ring in pixels; negative where it runs anticlockwise (a hole)."""
    # The integral of x dy: as sides are upright or level, x is that of both their ends.
    x, y = ring[:, 0], ring[:, 1]
    return int(x[1:] @ (y[1:] - y[:-1]) + x[0] * (y[0] - y[-1]))


def trace_outlines(ids: NDArray[Any]) -> list[Outline]:
    """Trace the outline of every object of a plane.

    Parameters
    ----------
    ids : ndarray of integer
        (Y, X); 0 is background.

    Returns
    -------
    list of Outline
        In the order of the ids.
    """
    from skimage.measure import label

    if not ids.any():
        return []
    padded = np.pad(ids, 1)
    parts = label(padded, background=0, connectivity=1).ravel()
    sides = _sides(padded)
    pixels, ends = np.concatenate(sides), _ends(sides, padded.shape[1])
    rings: dict[tuple[int, int], list[Ring]] = {}
    for walk in _walks(*_successors(sides, padded.shape[1])):
        pixel = pixels[walk[0]]
        part = int(padded.flat[pixel]), int(parts[pixel])
        rings.setdefault(part, []).extend(_split(ends[walk]))
    objects: dict[int, list[Polygon]] = {}
    for each, part_number in sorted(rings):
        objects.setdefault(each, []).append(_polygon(rings[each, part_number]))
    return [Outline(each, tuple(polygons)) for each, polygons in objects.items()]


def _sides(padded: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Find the sides between different ids: for each of the four the pixels that have it.

    Pixels are numbered in `padded`, rising.
    """
    inner, width = padded[1:-1, 1:-1], padded.shape[1]
    above, below = padded[:-2, 1:-1], padded[2:, 1:-1]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    found = []
    for neighbour in (above, right, below, left):
        y, x = np.nonzero((inner != neighbour) & (inner > 0))
        found.append((y + 1) * width + x + 1)
    return found


def _successors(
    sides: list[NDArray[np.int64]], width: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each side the one that follows it, and whether the way turns between them.

    Where two ways are open the sharper turn to the right is taken, which stays with the pixel: so
    pixels that meet at a corner are kept apart.
    """
    ahead = (1, width, -1, -width)
    start = np.cumsum([0, *(len(pixels) for pixels in sides)])
    following, turning = [], []
    for side, pixels in enumerate(sides):
        right, left = (side + 1) % 4, (side - 1) % 4
        next_pixel = pixels + ahead[side]
        at_right, turns_right = _find(sides[right], pixels)
        at_same, straight = _find(sides[side], next_pixel)
        at_left, _ = _find(sides[left], next_pixel + ahead[left])
        straight &= ~turns_right
        ways = (start[right] + at_right, start[side] + at_same)
        following.append(np.select([turns_right, straight], ways, start[left] + at_left))
        turning.append(~straight)
    return np.concatenate(following), np.concatenate(turning)


def _find(
    pixels: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each wanted pixel stands in a rising list, and whether it is there."""
    at = np.searchsorted(pixels, wanted)
    there = at < len(pixels)
    there[there] = pixels[at[there]] == wanted[there]
    return at, there


def _ends(sides: list[NDArray[np.int64]], width: int) -> Ring:
    """Return the corner (x, y) of the image at which each side ends."""
    ends = []
    for side, pixels in enumerate(sides):
        y, x = np.divmod(pixels, width)
        ends.append(np.stack([x - 1 + _END_X[side], y - 1 + _END_Y[side]], axis=1))
    return np.concatenate(ends)


def _walks(following: NDArray[np.int64], turning: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Follow the sides until they close; yield those after which the way turns."""
    after, turns, seen = following.tolist(), turning.tolist(), bytearray(len(following))
    for first in range(len(after)):
        walk, side = [], first
        while not seen[side]:
            seen[side] = 1
            if turns[side]:
                walk.append(side)
            side = after[side]
        if walk:
            yield walk


def _split(ring: Ring) -> list[Ring]:
    """Cut a ring that meets itself at corners into rings that do not."""
    corners = [(x, y) for x, y in ring.tolist()]
    if len(set(corners)) == len(corners):
        return [ring]
    rings: list[Ring] = []
    way: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for corner in corners:
        if corner in place:
            start = place[corner]
            rings.append(np.array(way[start:], np.int64))
            for left in way[start:]:
                del place[left]
            del way[start:]
        place[corner] = len(way)
        way.append(corner)
    return [*rings, np.array(way, np.int64)]


def _polygon(rings: list[Ring]) -> Polygon:
    """Put the rings of a connected part together: one of them goes around all others."""
    exterior = rings[0] if len(rings) == 1 else max(rings, key=signed_area)
    return Polygon(exterior, tuple(ring for ring in rings if ring is not exterior))

"""The objects of a plane of labels that does not fit into memory, block by block, each one whole.

An object that crosses a border of blocks waits until the last row of blocks that it may reach has
been read, so memory holds one block and what crosses the borders of one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.arrays import read_array

BLOCK = 2048
"""Side of a block in px."""
MAX_BOX = 4096 * 4096
"""Largest box around an object, in px, whose pixels are put together."""


@dataclass(frozen=True, eq=False)
class StreamedObject:
    """One object, or one of its parts where it is too large to be put together.

    Attributes
    ----------
    label : int
        Its id.
    area : int
        Its pixels.
    centroid : tuple of float
        (y, x) in px; 0 is the middle of the first pixel.
    box : tuple of int
        Top, left, bottom, right in px; bottom and right excluded.
    pixels : ndarray of bool or None
        (bottom - top, right - left), if they are wanted.
    is_part : bool
        Whether it is the part of an object that lies in one block.
    """

    label: int
    area: int
    centroid: tuple[float, float]
    box: tuple[int, int, int, int]
    pixels: NDArray[np.bool_] | None = None
    is_part: bool = False


def stream_objects(
    labels: Any, *, pixels: bool = False, block: int = BLOCK, max_box: int = MAX_BOX
) -> Iterator[StreamedObject]:
    """Yield every object of a plane once, in the order in which they are complete.

    Parameters
    ----------
    labels : array-like of integer
        (Y, X), zarr or alike; 0 is background. Each id is one object that is connected, corners
        included.
    pixels : bool
        Whether objects come with their pixels. One whose box has more than `max_box` px comes as
        one part for each block then.
    block : int
        Side of what is read at once, in px.
    max_box : int
        See `pixels`.

    Yields
    ------
    StreamedObject
        In no order of ids.
    """
    height, width = labels.shape
    waiting: dict[int, list[StreamedObject]] = {}
    split: set[int] = set()  # too large: parts of them were yielded
    for y in range(0, height, block):
        below: set[int] = set()
        for x in range(0, width, block):
            ids = read_array(labels[y : y + block, x : x + block])
            if not ids.any():
                continue
            ends = (y > 0, y + block < height, x > 0, x + block < width)
            crossing = _on_edges(ids, ends)
            below |= _on_edges(ids, (False, ends[1], False, False))
            for piece in _pieces(ids, (y, x), pixels=pixels):
                if piece.label not in crossing:
                    yield piece
                    continue
                pieces = waiting.setdefault(piece.label, [])
                pieces.append(piece)
                if not pixels:
                    pieces[:] = [_join(pieces)]
                elif piece.label in split or _box_size(pieces) > max_box:
                    split.add(piece.label)
                    yield from map(_as_part, pieces)
                    pieces.clear()
        for label in [each for each in waiting if each not in below]:
            if pieces := waiting.pop(label):
                yield _join(pieces)
            split.discard(label)


def _on_edges(ids: NDArray[Any], edges: tuple[bool, bool, bool, bool]) -> set[int]:
    """Return the ids on the top, bottom, left and right edge, of those edges that count."""
    lines = (ids[0], ids[-1], ids[:, 0], ids[:, -1])
    found: set[int] = set()
    for line, counts in zip(lines, edges, strict=True):
        if counts:
            found.update(np.unique(line).tolist())
    return found


def _pieces(
    ids: NDArray[Any], corner: tuple[int, int], *, pixels: bool
) -> Iterator[StreamedObject]:
    """Yield what of each object lies in a block."""
    from scipy.ndimage import find_objects

    names, numbers = np.unique(ids, return_inverse=True)
    numbers = numbers.reshape(ids.shape)
    if names[0] != 0:
        names, numbers = np.append(0, names), numbers + 1
    for number, place in enumerate(find_objects(numbers), start=1):
        mask = numbers[place] == number
        rows, columns = mask.sum(1), mask.sum(0)
        area = int(rows.sum())
        top, left = (c + s.start for c, s in zip(corner, place, strict=True))
        centroid = (
            top + float(rows @ np.arange(rows.size)) / area,
            left + float(columns @ np.arange(columns.size)) / area,
        )
        box = (top, left, top + rows.size, left + columns.size)
        yield StreamedObject(int(names[number]), area, centroid, box, mask if pixels else None)


def _box(pieces: list[StreamedObject]) -> tuple[int, int, int, int]:
    tops, lefts, bottoms, rights = zip(*(each.box for each in pieces), strict=True)
    return min(tops), min(lefts), max(bottoms), max(rights)


def _box_size(pieces: list[StreamedObject]) -> int:
    top, left, bottom, right = _box(pieces)
    return (bottom - top) * (right - left)


def _as_part(piece: StreamedObject) -> StreamedObject:
    return StreamedObject(
        piece.label, piece.area, piece.centroid, piece.box, piece.pixels, is_part=True
    )


def _join(pieces: list[StreamedObject]) -> StreamedObject:
    if len(pieces) == 1:
        return pieces[0]
    top, left, bottom, right = box = _box(pieces)
    area = sum(each.area for each in pieces)
    y, x = (sum(each.centroid[axis] * each.area for each in pieces) / area for axis in (0, 1))
    whole = None
    if all(each.pixels is not None for each in pieces):
        whole = np.zeros((bottom - top, right - left), bool)
        for each in pieces:
            a, b, c, d = each.box
            whole[a - top : c - top, b - left : d - left] |= each.pixels
    return StreamedObject(pieces[0].label, area, (y, x), box, whole)

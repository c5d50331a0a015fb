"""Objects that cross the borders of chunks become one, and all get their final numbers.

Two chunks see the same pixels on both sides of their border. They join what touches there if both
say that it is one object. The result depends neither on the order of the chunks nor on who
computed them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Labels = npt.NDArray[np.uint32]
Ids = npt.NDArray[np.int64]
TOP, BOTTOM, LEFT, RIGHT = range(4)


@dataclass(frozen=True, eq=False)
class ChunkRecord:
    """What the merge needs of a chunk; see ``ChunkResult``.

    Attributes
    ----------
    first : ndarray
        (n,) int64.
    frame : tuple of ndarray
        Top, bottom, left and right.
    """

    first: Ids
    frame: tuple[Labels, ...]


def merge_chunks(
    records: Mapping[int, ChunkRecord], n_columns: int
) -> tuple[dict[int, Labels], int]:
    """Give every object of a slide its number.

    Parameters
    ----------
    records : mapping of int to ChunkRecord
        By the number of the chunk; chunks that are missing hold no objects.
    n_columns : int
        Chunks per row.

    Returns
    -------
    dict of int to ndarray
        By the number of the chunk: (n + 1,) uint32, the final number of each of its objects; 0
        stays 0. Objects are numbered from 1 in the order of their first px, row by row.
    int
        How many objects there are.
    """
    order = sorted(records)
    counts = [records[i].first.size for i in order]
    starts = dict(zip(order, np.cumsum([0, *counts]).tolist(), strict=False))
    total = sum(counts)
    if not total:
        return {i: np.zeros(1, np.uint32) for i in order}, 0
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *_all_pairs(records, starts, n_columns)])
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (total, total))
    n, group = connected_components(links, directed=False)
    first = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first, group, np.concatenate([records[i].first for i in order]))
    number = np.empty(n, np.uint32)
    number[np.argsort(first)] = np.arange(1, n + 1, dtype=np.uint32)
    final = number[group]
    tables = {
        i: np.concatenate([np.zeros(1, np.uint32), final[starts[i] : starts[i] + count]])
        for i, count in zip(order, counts, strict=True)
    }
    return tables, int(n)


def _all_pairs(
    records: Mapping[int, ChunkRecord], starts: Mapping[int, int], n_columns: int
) -> Iterator[Ids]:
    """Pairs of objects that are one, (m, 2), numbered through all chunks from 0."""
    for i, one in records.items():
        column = i % n_columns
        neighbours = [(i + n_columns, _below)]
        if column + 1 < n_columns:
            neighbours += [(i + 1, _right), (i + n_columns + 1, _below_right)]
        if column:
            neighbours.append((i + n_columns - 1, _below_left))
        for j, meet in neighbours:
            if j in records:
                pairs = meet(one.frame, records[j].frame)
                yield pairs + np.array([starts[i] - 1, starts[j] - 1])


def _right(one: tuple[Labels, ...], other: tuple[Labels, ...]) -> Ids:
    own, theirs = one[RIGHT][1:-1], other[LEFT][1:-1]
    return _agreed(own[:, 0], own[:, 1], theirs[:, 0], theirs[:, 1])


def _below(one: tuple[Labels, ...], other: tuple[Labels, ...]) -> Ids:
    own, theirs = one[BOTTOM][:, 1:-1], other[TOP][:, 1:-1]
    return _agreed(own[0], own[1], theirs[0], theirs[1])


def _below_right(one: tuple[Labels, ...], other: tuple[Labels, ...]) -> Ids:
    own, theirs = one[BOTTOM], other[TOP]
    return _agreed(own[0, -2:-1], own[1, -1:], theirs[0, :1], theirs[1, 1:2])


def _below_left(one: tuple[Labels, ...], other: tuple[Labels, ...]) -> Ids:
    own, theirs = one[BOTTOM], other[TOP]
    return _agreed(own[0, 1:2], own[1, :1], theirs[0, -1:], theirs[1, -2:-1])


def _agreed(mine: Labels, mine_beyond: Labels, theirs_beyond: Labels, theirs: Labels) -> Ids:
    """Pairs of objects that touch across a border and are one in the eyes of both chunks.

    Parameters
    ----------
    mine, mine_beyond : ndarray
        (n,) the one chunk's labels of its own last line and of the line after it.
    theirs_beyond, theirs : ndarray
        (n,) the other chunk's labels of the same two lines.
    """
    n, found = mine.size, []
    for shift in (-1, 0, 1):
        a, b = slice(max(0, -shift), n - max(0, shift)), slice(max(0, shift), n - max(0, -shift))
        one = (mine[a] > 0) & (mine[a] == mine_beyond[b])
        both = one & (theirs[b] > 0) & (theirs[b] == theirs_beyond[a])
        found.append(np.stack([mine[a][both], theirs[b][both]], axis=1).astype(np.int64))
    return np.unique(np.concatenate(found), axis=0)

"""One id for one object through the planes of a stack, and its path through time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.overlap import (
    Ids,
    Integers,
    Labels,
    as_labels,
    check_same_shape,
    compact,
    count_pixels,
    count_shared,
    find_runs,
    free_ids,
    sum_by_index,
)

Floats = npt.NDArray[np.float64]

MIN_OVERLAP = 0.5
"""Share of the smaller object that has to lie on the other for the two to be one.

Not of the union: the last plane of a nucleus is often an eighth of the one before in size. It lies
wholly on it, but makes up no more than an eighth of the union.
"""


def link_planes(
    labels: npt.NDArray[Any] | Iterable[npt.NDArray[Any]], *, min_overlap: float = MIN_OVERLAP
) -> Labels:
    """Join the objects of successive planes by overlap; see :func:`iter_linked`.

    Parameters
    ----------
    labels : ndarray or iterable of ndarray
        (N, H, W) integer, or N planes; also N volumes (Z, H, W). 0 is background.
    min_overlap : float
        Share of the smaller of two objects, 0 to 1, that has to lie on the other.

    Returns
    -------
    ndarray
        (N, H, W) uint32, a new array.

    Raises
    ------
    InputError
        If planes differ in shape, values are no ids or `min_overlap` lies outside its range.
    """
    if isinstance(labels, np.ndarray):
        linked = np.zeros(labels.shape, np.uint32)
        for i, plane in enumerate(iter_linked(labels, min_overlap=min_overlap)):
            linked[i] = plane
        return linked
    planes = list(iter_linked(labels, min_overlap=min_overlap))
    return np.stack(planes) if planes else np.zeros((0, 0, 0), np.uint32)


def iter_linked(
    planes: Iterable[npt.NDArray[Any]], *, min_overlap: float = MIN_OVERLAP
) -> Iterator[Labels]:
    """Join the objects of successive planes by overlap, with two planes in memory.

    Objects of a plane are matched one to one with those of the plane before, so that the sum of
    their intersections over unions is as large as it can be (Hungarian method). A gap of a plane
    ends an object. Not for the output "mask", whose planes hold one object each.

    Parameters
    ----------
    planes : iterable of ndarray
        Planes (H, W) or volumes (Z, H, W) of integers, 0 is background. Ids count within their
        plane only.
    min_overlap : float
        Share of the smaller of two objects, 0 to 1, that has to lie on the other.

    Yields
    ------
    ndarray
        uint32. Ids are 1 to n in the order in which objects appear: by plane, then by given id.

    Raises
    ------
    InputError
        If planes differ in shape, values are no ids or `min_overlap` lies outside its range.
    """
    if not 0 <= min_overlap <= 1:
        raise InputError(f"min_overlap is {min_overlap:g}, outside 0 to 1. Give a value between.")
    previous: Labels | None = None
    n = 0
    for plane in planes:
        current = as_labels(plane)
        before = np.zeros_like(current) if previous is None else previous
        check_same_shape(plane=current, previous=before)
        previous = _continue(before, current, n + 1, min_overlap)
        n = max(n, int(previous.max(initial=0)))
        yield previous


def link_stack(
    labels: npt.NDArray[Any], axes: str, axis: str, *, min_overlap: float = MIN_OVERLAP
) -> Labels:
    """Join the objects of a stack along Z or T.

    Along Z each time point is linked on its own. Along T whole time points are compared, volumes
    where there is a Z; link along Z first.

    Parameters
    ----------
    labels : ndarray
        Integers with axes `axes`; 0 is background.
    axes : str
        One letter per dimension out of ``TZYX``; Y and X last.
    axis : {"Z", "T"}
        Axis to link along.
    min_overlap : float
        Share of the smaller of two objects, 0 to 1, that has to lie on the other.

    Returns
    -------
    ndarray
        uint32, shape of `labels`. No two objects of the stack share an id.

    Raises
    ------
    InputError
        If `axes` do not fit, `axis` is not among them, or `min_overlap` lies outside its range.
    """
    _check_axes(labels, axes, axis)
    linked = np.zeros(labels.shape, np.uint32)
    if axis == "Z" and "T" in axes:
        given, result = (np.moveaxis(a, axes.index("T"), 0) for a in (labels, linked))
        at, n = axes.replace("T", "").index("Z"), 0
    else:
        given, result, at, n = labels[None], linked[None], axes.index(axis), 0
    for part, target in zip(given, result, strict=True):
        planes = iter_linked(np.moveaxis(part, at, 0), min_overlap=min_overlap)
        highest = n
        for into, plane in zip(np.moveaxis(target, at, 0), planes, strict=True):
            into[...] = np.where(plane > 0, plane + np.uint32(n), 0)
            highest = max(highest, int(into.max(initial=0)))
        n = highest
    return linked


def tracks_table(labels: npt.NDArray[Any]) -> Floats:
    """List where each object is at each time, for a napari Tracks layer.

    Parameters
    ----------
    labels : ndarray
        (T, H, W) or (T, Z, H, W) integer, linked along T; 0 is background.

    Returns
    -------
    ndarray
        (n, 4) or (n, 5) float64, columns id, t, (z), y, x, ordered by id and t. Centroids in
        pixels and planes: the tracks layer takes the scale of the labels.

    Raises
    ------
    InputError
        If `labels` have another number of axes or values are no ids.
    """
    if labels.ndim not in (3, 4):
        raise InputError(
            f"The labels have {labels.ndim} axes. Give (T, Y, X) or (T, Z, Y, X) for tracks."
        )
    tables = [np.zeros((0, labels.ndim + 1))]
    for t, frame in enumerate(labels):
        ids, centres = _centroids(as_labels(frame))
        tables.append(np.column_stack([ids, np.full(ids.size, t), centres]))
    table = np.concatenate(tables)
    return table[np.lexsort((table[:, 1], table[:, 0]))]


def _continue(previous: Labels, current: Labels, first_free: int, min_overlap: float) -> Labels:
    """Return `current` under the ids of the objects of `previous` that it goes on with."""
    runs = find_runs(previous, current)
    before, now = runs.values
    first, second, share, quality = _overlaps(before, now, runs.length)
    enough = share >= min_overlap
    matched = _match(first[enough], second[enough], quality[enough])
    ids, index = compact(now)
    target = np.zeros_like(ids)
    target[np.searchsorted(ids, second[enough][matched])] = first[enough][matched]
    fresh = (target == 0) & (ids > 0)
    target[fresh] = free_ids(int(fresh.sum()), first_free, compact(before)[0])
    return runs.paint(target[index])


def _overlaps(before: Ids, now: Ids, length: Integers) -> tuple[Ids, Ids, Floats, Floats]:
    """Return pairs of ids, intersection over the smaller, and intersection over union."""
    shared = count_shared(before, now, length)
    ids, pixels = count_pixels(before, length)
    first = pixels[np.searchsorted(ids, shared.first)]
    ids, pixels = count_pixels(now, length)
    second = pixels[np.searchsorted(ids, shared.second)]
    share = shared.pixels / np.minimum(first, second)
    return shared.first, shared.second, share, shared.pixels / (first + second - shared.pixels)


def _match(first: Ids, second: Ids, overlap: Floats) -> npt.NDArray[np.bool_]:
    """Mark the pairs of the one-to-one matching with the largest sum of overlaps.

    Most objects meet no other candidate; the Hungarian method, cubic in the number of objects, is
    only called on the small groups that compete.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not first.size:
        return np.zeros(0, dtype=bool)
    row, column = compact(first)[1], compact(second)[1]
    n = int(row.max()) + 1
    graph = coo_array((overlap, (row, column + n)), shape=(n + int(column.max()) + 1,) * 2)
    group = connected_components(graph, directed=False)[1][row]
    matched = np.bincount(group)[group] == 1
    competing = np.flatnonzero(~matched)
    competing = competing[np.argsort(group[competing], kind="stable")]
    borders = np.flatnonzero(np.diff(group[competing])) + 1
    for pairs in np.split(competing, borders):
        matched[pairs] = _assign(first[pairs], second[pairs], overlap[pairs])
    return matched


def _assign(first: Ids, second: Ids, overlap: Floats) -> npt.NDArray[np.bool_]:
    from scipy.optimize import linear_sum_assignment

    (rows, row), (columns, column) = compact(first), compact(second)
    table = np.zeros((rows.size, columns.size))
    table[row, column] = overlap
    chosen = np.zeros(table.shape, dtype=bool)
    chosen[linear_sum_assignment(table, maximize=True)] = True
    return chosen[row, column]


def _centroids(frame: Labels) -> tuple[Ids, Floats]:
    """Return ids, (n,), and mean coordinates, (n, ndim), of the objects of a plane or volume."""
    runs = find_runs(frame)
    inside = runs.values[0] > 0
    ids, index = compact(runs.values[0][inside])
    start, length = runs.start[inside], runs.length[inside]
    places = [place.astype(np.float64) for place in np.unravel_index(start, frame.shape)]
    places[-1] += (length - 1) / 2  # a run lies in one row: its middle stands for it
    pixels = sum_by_index(index, length, ids.size)
    sums = [sum_by_index(index, place * length, ids.size) for place in places]
    return ids, np.stack([total / pixels for total in sums], axis=1)


def _check_axes(labels: npt.NDArray[Any], axes: str, axis: str) -> None:
    if len(axes) != labels.ndim or axes[-2:] != "YX" or not set(axes) <= set("TZYX"):
        raise InputError(
            f"axes {axes!r} do not fit labels of shape {labels.shape}; give {labels.ndim} letters "
            "out of T, Z, Y, X with Y and X last."
        )
    if axis not in ("Z", "T") or axis not in axes:
        raise InputError(f"Objects cannot be linked along {axis!r} in {axes}. Give Z or T.")

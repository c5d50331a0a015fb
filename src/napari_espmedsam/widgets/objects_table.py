"""What is known of the objects of one layer: measurements, scores and locks. No Qt, no layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.measure import measure_objects
from napari_espmedsam.widgets.objects_source import ObjectSource

Columns = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]
ObjectKey = tuple[int, int]
"""Time point (0 without a T axis) and label."""

LOCK = "locked"
DOUBT = "doubt"
SCORES = ("mean_probability", "prompt_agreement", "agreement_with_other", DOUBT)


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """Measurements of the objects of a layer; a row for each label, or label and time point.

    Attributes
    ----------
    axes : str
        Axes that were measured: letters out of ``TZYX``, in that order.
    measured : dict of str to ndarray
        Columns of `napari_espmedsam.inference.measure.measure_objects`.
    scores : dict of str to ndarray
        Columns of the same length, NaN where nothing is known; those without a number left out.
    locked : ndarray or None
        (n,) bool; None where objects cannot be locked.
    """

    axes: str
    measured: Columns
    scores: Columns = field(default_factory=dict)
    locked: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return int(self.labels.size)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Label of each row."""
        return self.measured["label"]

    @cached_property
    def times(self) -> npt.NDArray[np.int64]:
        """Time point of each row; 0 without a T axis."""
        return self.measured.get("t", np.zeros_like(self.labels))

    @cached_property
    def columns(self) -> Columns:
        """All columns, as they go into a file."""
        columns: Columns = {"label": self.labels}
        if self.locked is not None:
            columns[LOCK] = self.locked
        if DOUBT in self.scores:
            columns[DOUBT] = self.scores[DOUBT]
        return columns | self.measured | self.scores

    @cached_property
    def rows(self) -> dict[ObjectKey, int]:
        """Row number of each object."""
        keys = zip(self.times.tolist(), self.labels.tolist(), strict=True)
        return {key: row for row, key in enumerate(keys)}

    def key(self, row: int) -> ObjectKey:
        """Return time point and label of a row."""
        return int(self.times[row]), int(self.labels[row])

    def find(self, label: int, time: int = 0) -> int | None:
        """Return the row of a label, that of a time point where there are several."""
        row = self.rows.get((time, label))
        if row is not None or "t" not in self.measured:
            return row
        found = np.flatnonzero(self.labels == label)
        return int(found[0]) if found.size else None

    def box(self, row: int) -> tuple[list[int], list[int]]:
        """Return the bounding box of a row, half open, one number for each letter of `axes`."""
        start, stop = [], []
        for letter in self.axes.lower():
            if letter == "t":
                low, high = int(self.times[row]), int(self.times[row]) + 1
            else:
                low = int(self.measured[f"bbox_min_{letter}_px"][row])
                high = int(self.measured[f"bbox_max_{letter}_px"][row])
            start.append(low)
            stop.append(high)
        return start, stop

    def with_empty(self, names: Collection[str]) -> ObjectTable:
        """Return the table with these columns, too: NaN where they are not measured."""
        empty = {name: np.full(len(self), np.nan) for name in names if name not in self.measured}
        return replace(self, measured=self.measured | empty)

    def planes_of(self, row: int, leading: str) -> list[tuple[int, ...]]:
        """Return the planes that the box of a row spans, as indices along T and Z as given."""
        spans = dict(zip(self.axes, map(range, *self.box(row)), strict=True))
        return list(product(*(spans[letter] for letter in leading)))

    def by_plane(
        self, keys: Iterable[ObjectKey], leading: str
    ) -> dict[tuple[int, ...], tuple[int, ...]]:
        """Return the labels of objects by the planes that they span, see `planes_of`."""
        planes: dict[tuple[int, ...], tuple[int, ...]] = {}
        for key in keys:
            for index in self.planes_of(self.rows[key], leading):
                planes[index] = (*planes.get(index, ()), key[1])
        return planes

    def review_order(self) -> npt.NDArray[np.int64] | None:
        """Return row numbers, the most doubtful first and those without a score last.

        None where no object has a score.
        """
        if DOUBT not in self.scores:
            return None
        doubt = np.nan_to_num(self.scores[DOUBT], nan=-1.0)
        return np.lexsort((self.labels, self.times, -doubt)).astype(np.int64)


def measure(source: ObjectSource, *, shape: bool = True) -> ObjectTable:
    """Measure all objects of a layer, with or without their shapes: for a worker thread.

    Raises
    ------
    InputError
        If the image does not fit the labels.
    """
    columns = measure_objects(
        source.read_labels(),
        source.axes,
        image=source.read_image(),
        spacing=source.spacing,
        shape=shape,
    )
    return ObjectTable(source.axes, columns)


class Scores:
    """Scores of the objects of one layer, plane by plane as they become known."""

    def __init__(self) -> None:
        self._planes: dict[tuple[int, ...], tuple[int, Columns]] = {}

    def set_plane(self, index: tuple[int, ...], time: int, scores: Mapping[str, Any]) -> None:
        """Replace the scores of a plane.

        Parameters
        ----------
        index : tuple of int
            Where the plane lies along the leading axes.
        time : int
            Its time point, 0 without a T axis.
        scores : Mapping
            Columns of one length: ``label`` and any of `SCORES`.
        """
        self._planes[index] = time, {name: np.asarray(scores[name]) for name in scores}

    def of(self, table: ObjectTable) -> Columns:
        """Return the scores of the rows of a table; columns without any number are left out.

        An object on several planes is as doubtful as the worst of them; its other scores are the
        means.
        """
        found: dict[str, Floats] = {name: np.full(len(table), np.nan) for name in SCORES}
        count: dict[str, Floats] = {name: np.zeros(len(table)) for name in SCORES}
        for time, scores in self._planes.values():
            known = [table.rows.get((time, int(label)), -1) for label in scores["label"]]
            rows = np.array(known, np.int64)
            for name in SCORES:
                if name in scores:
                    _collect(found[name], count[name], rows, scores[name], worst=name == DOUBT)
        means = {
            name: values if name == DOUBT else values / np.maximum(count[name], 1)
            for name, values in found.items()
        }
        return {name: values for name, values in means.items() if np.isfinite(values).any()}


def _collect(
    found: Floats, count: Floats, rows: npt.NDArray[np.int64], values: Floats, *, worst: bool
) -> None:
    """Add the scores of one plane, in which no object occurs twice; row -1 is none."""
    use = (rows >= 0) & np.isfinite(values)
    rows, values = rows[use], values[use]
    before = found[rows]
    if worst:
        found[rows] = np.fmax(before, values)
    else:
        found[rows] = np.nan_to_num(before) + values
    count[rows] += 1


def with_locks(table: ObjectTable, ids: Collection[int] | None) -> npt.NDArray[np.bool_] | None:
    """Return which rows of a table are locked; None where nothing can be."""
    return None if ids is None else np.isin(table.labels, np.array(sorted(ids), np.int64))

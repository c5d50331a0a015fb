"""Scores, locks and review of the objects of each layer. No Qt and no layers: only their ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from napari_espmedsam.widgets.objects_table import ObjectKey, ObjectTable, Scores, with_locks
from napari_espmedsam.widgets.review import ReviewList


class ObjectsBook:
    """What is known beside the measurements, and the table of one layer that has it all.

    Attributes
    ----------
    review : ReviewList
        Of the objects in `table`.
    """

    def __init__(self) -> None:
        self.review: ReviewList[ObjectKey] = ReviewList()
        self._scores: dict[str, Scores] = {}
        self._locks: dict[str, frozenset[int]] = {}
        self._layer = ""
        self._table: ObjectTable | None = None

    @property
    def table(self) -> ObjectTable | None:
        """The objects that are shown, with scores and locks; None for none."""
        return self._table

    @property
    def is_lockable(self) -> bool:
        """Whether the objects that are shown can be locked."""
        return self._layer in self._locks

    @property
    def has_scores(self) -> bool:
        """Whether the review goes by doubt."""
        return self._table is not None and self._table.review_order() is not None

    def are_locked(self, keys: Collection[ObjectKey]) -> bool:
        """Whether these objects, one at least, are all locked."""
        locked = self._locks.get(self._layer, frozenset())
        return bool(keys) and all(label in locked for _time, label in keys)

    def show(self, layer: str, table: ObjectTable | None) -> None:
        """Show the objects of a layer, by its unique id; another layer is reviewed afresh."""
        if layer != self._layer:
            self.review = ReviewList()
        self._layer, self._table = layer, table
        self.update()

    def set_scores(
        self, layer: str, index: tuple[int, ...], time: int, scores: Mapping[str, Any]
    ) -> None:
        """Set the scores of a plane, see `Scores.set_plane`."""
        self._scores.setdefault(layer, Scores()).set_plane(index, time, scores)

    def forget_scores(self, layer: str) -> None:
        """Forget the scores of a layer."""
        self._scores.pop(layer, None)

    def set_locks(self, layer: str, ids: Collection[int] | None) -> bool:
        """Set which objects of a layer are locked; None where objects cannot be.

        Returns
        -------
        bool
            Whether that is something new.
        """
        before = self._locks.pop(layer, None)
        if ids is not None:
            self._locks[layer] = frozenset(int(each) for each in ids)
        return self._locks.get(layer) != before

    def update(self) -> None:
        """Bring the table up to date with scores and locks."""
        if self._table is None:
            return
        scores = self._scores.get(self._layer)
        self._table = replace(
            self._table,
            scores={} if scores is None else scores.of(self._table),
            locked=with_locks(self._table, self._locks.get(self._layer)),
        )

    def order_review(self, otherwise: Collection[int]) -> None:
        """Set the order of the review: by doubt, or without scores as given.

        Parameters
        ----------
        otherwise : collection of int
            Row numbers.
        """
        table = self._table
        if table is None:
            self.review.set_order(())
            return
        order = table.review_order()
        rows = otherwise if order is None else order.tolist()
        locked = [] if table.locked is None else np.flatnonzero(table.locked).tolist()
        self.review.set_order((table.key(row) for row in rows), {table.key(row) for row in locked})

    def forget_others(self, layers: Collection[str]) -> None:
        """Forget layers that are not among these."""
        for known in (self._scores, self._locks):
            for layer in set(known) - set(layers):
                del known[layer]

"""The labels layer of a session: filled plane by plane, in place, and open to napari's own tools.

What the user paints on it is found by comparing a plane with what was written. It is reported, and
never overwritten by a result that does not know of it yet.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.events import PlaneReady
from napari_espmedsam.widgets.canvas_place import set_place
from napari_espmedsam.widgets.layer_end import LayerEnd
from napari_espmedsam.widgets.layers import METADATA_KEY, Geometry, ResultPlan

_TOUCHES = ("paint", "data", "set_data")
_PAUSE = 100  # ms between two looks at planes that the viewer shows only edgewise or in 3D
_PAUSE_PER_COST = 4.0  # looking takes at most a fifth of the GUI thread

Box = tuple[slice, slice]
Index = tuple[int, ...]
Labels = npt.NDArray[np.uint32]


class LiveLabels(QObject):
    """A labels layer that a session writes into.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    plan
        Shape, axes and place of the labels.
    name
        Name of the layer. It is made when the first plane arrives.
    parent
        Qt parent: without one, Python's garbage collector might delete the object in any thread.

    Attributes
    ----------
    painted : Signal(object, object, object)
        The user has changed a plane: its index along the leading axes, and the session's region of
        it before and after, (H, W) uint32, read-only.
    deleted : Signal()
        The user has deleted the layer.
    """

    painted = Signal(object, object, object)
    deleted = Signal()

    def __init__(self, viewer: Any, plan: ResultPlan, name: str, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._plan, self._name = viewer, plan, name
        self._layer: Any = None
        self._end: LayerEnd | None = None
        self._box: Box | None = None  # the session's region of each plane
        self._written: dict[Index, Labels] = {}
        self._held: dict[Index, int] = {}  # revision of the session that knows what was painted
        self._current: Index | None = None
        self._suspects: set[Index] = set()
        self._look_timer = _single_shot(self, self.look)
        self._draw_timer = _single_shot(self, self._draw)
        self._cost, self._drawing = 0.0, False

    @property
    def layer(self) -> Any | None:
        """The labels layer; None before the first plane, and once it was deleted."""
        return self._layer

    @property
    def planes(self) -> frozenset[Index]:
        """Planes that were written."""
        return frozenset(self._written)

    def show(self, index: Index) -> None:
        """Say which plane the viewer shows: the one that is painted on."""
        if index != self._current:
            self.look()
            self._current = index

    def write(self, event: PlaneReady) -> bool:
        """Write a plane, unless it does not know yet what the user has painted on it.

        Returns
        -------
        bool
            Whether it was written.

        Raises
        ------
        InputError
            If there is no memory for the layer.
        """
        self._notice_missing()
        if self._layer is None:
            if self._box is not None:
                return False  # the user has deleted it
            self._box = _box_of(event)
            self._add()
        self._look_at(event.index)
        part = self._part(event.index)
        if part is None or event.revision < self._held.get(event.index, 0):
            return False
        self._held.pop(event.index, None)
        self._put(part, event.index, event.labels)
        return True

    def settle(self, index: Index, labels: Labels) -> None:
        """Write what a session has for a plane in the end, if it is not there already."""
        if self._written.get(index) is not labels:
            if self._look_at(index):
                return  # the session will have other labels
            part = self._part(index)
            if part is not None:
                self._put(part, index, labels)
        self._held.pop(index, None)

    def hold(self, index: Index, revision: int) -> None:
        """Refuse results for a plane that are older than a revision of the session."""
        self._held[index] = revision

    def accept_all(self) -> None:
        """Refuse nothing any more: what was painted has been taken back."""
        self._held.clear()

    def clear(self) -> None:
        """Empty all planes that were written."""
        self._held.clear()
        for index in list(self._written):
            part = self._part(index)
            if part is not None:
                self._put(part, index, np.zeros_like(self._written[index]))
                del self._written[index]

    def look(self) -> None:
        """Report what was painted on the screen at once, and on other planes one by one.

        So the window stays alive, however many planes a brush has gone through.
        """
        self._look_timer.stop()
        self._notice_missing()
        if self._current is not None:
            self._look_at(self._current)
        if self._suspects:
            self._look_at(self._suspects.pop())
        if self._suspects:
            self._look_timer.start(0)

    def collect(self, *, everywhere: bool = False) -> None:
        """Report at once all that the user has painted since the last call, if anything.

        Parameters
        ----------
        everywhere
            Look at all planes that were written, and not only where the viewer has told of
            something: napari's undo also changes planes that are not on the screen.
        """
        if everywhere:
            self._suspects |= set(self._written)
        self.look()
        while self._suspects and self._layer is not None:
            self._look_at(self._suspects.pop())
        self._look_timer.stop()

    def note(self, record: dict[str, Any]) -> None:
        """Set what the layer's metadata say of how it was made."""
        if self._layer is not None:
            self._layer.metadata = {**self._layer.metadata, METADATA_KEY: record}

    def place_on(self, geometry: Geometry) -> None:
        """Follow an image that was moved or scaled."""
        self._plan = ResultPlan(self._plan.shape, self._plan.axes, geometry)
        if self._layer is not None:
            set_place(self._layer, geometry)

    def release(self) -> None:
        """Leave the layer, with all that is on it, to the user."""
        self._notice_missing()
        layer = self._let_go()
        if layer is not None:
            layer.refresh()  # with the thumbnail, which was left alone so far

    def _add(self) -> None:
        active = self._viewer.layers.selection.active
        try:
            empty = np.zeros(self._plan.shape, np.uint32)
        except (MemoryError, ValueError) as error:  # ValueError: more bytes than can be counted
            raise InputError(
                f"Labels of the shape {self._plan.shape} take {4 * math.prod(self._plan.shape):,} "
                "bytes, and there is no such memory. Crop the image, or open a part of its planes."
            ) from error
        self._layer = self._viewer.add_labels(
            empty,
            name=self._name,
            **self._plan.geometry.layer_arguments(),
        )
        for name in _TOUCHES:
            getattr(self._layer.events, name).connect(self._on_touched)
        self._end = LayerEnd(self._viewer, self._layer, self._on_gone)
        if active is not None:
            self._viewer.layers.selection.active = active

    def _put(self, part: Any, index: Index, labels: Labels) -> None:
        part[...] = labels
        self._written[index] = labels
        self._redraw(index)

    def _look_at(self, index: Index) -> bool:
        """Compare a plane with what was written; returns whether something was painted."""
        self._suspects.discard(index)
        part = self._part(index)
        if part is None:
            return False
        before = self._written.get(index)
        if before is None:
            if not part.any():
                return False
            before = np.zeros(part.shape, np.uint32)
        elif np.array_equal(part, before):
            return False
        after = part.astype(np.uint32)
        after.flags.writeable = False
        self._written[index] = after
        self.painted.emit(index, before, after)
        return True

    def _part(self, index: Index) -> Any | None:
        """Return the session's region of a plane, to be written to; None if the data are gone."""
        data = None if self._layer is None else self._layer.data
        if self._box is None or not isinstance(data, np.ndarray):
            return None
        if data.shape != self._plan.shape or not np.can_cast(np.uint32, data.dtype):
            return None  # another array, or one that cannot hold every id
        letters = [letter for letter in self._plan.axes if letter not in "CYX"]
        return self._plan.plane_of(data, dict(zip(letters, index, strict=True)))[self._box]

    def _redraw(self, index: Index) -> None:
        """Draw the plane on the screen at once; what is seen edgewise or in 3D can wait."""
        missing = self._viewer.dims.ndim - self._layer.ndim
        leading = {missing + i for i, letter in enumerate(self._plan.axes) if letter in "TZ"}
        if leading & set(self._viewer.dims.displayed):
            if not self._draw_timer.isActive():
                self._draw_timer.start(max(_PAUSE, int(1000 * _PAUSE_PER_COST * self._cost)))
        elif index == self._current or self._current is None:
            self._draw()

    def _draw(self) -> None:
        if self._layer is None:
            return
        start = time.monotonic()
        self._drawing = True
        try:
            self._layer.refresh(thumbnail=False, highlight=False, extent=False)
        finally:
            self._drawing = False
        self._cost = time.monotonic() - start

    def _on_touched(self, event: Any) -> None:
        if self._drawing:
            return
        if event.type == "data" or self._layer.n_edit_dimensions > 2:  # any plane has changed
            self._suspects |= set(self._written)
        if not self._look_timer.isActive():
            self._look_timer.start(0)

    def _notice_missing(self) -> None:
        if self._end is not None:
            self._end.check()

    def _on_gone(self) -> None:
        self._let_go()
        self.deleted.emit()

    def _let_go(self) -> Any | None:
        """Forget the layer and all that is known of it; returns it."""
        self._look_timer.stop()
        self._draw_timer.stop()
        for known in (self._written, self._held, self._suspects):
            known.clear()
        if self._layer is None or self._end is None:
            return None
        layer, self._layer = self._layer, None
        self._end.close()
        for name in _TOUCHES:
            getattr(layer.events, name).disconnect(self._on_touched)
        return layer


def _box_of(event: PlaneReady) -> Box:
    (top, left), (height, width) = event.offset, event.labels.shape
    return slice(top, top + height), slice(left, left + width)


def _single_shot(parent: QObject, slot: Any) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(slot)
    return timer

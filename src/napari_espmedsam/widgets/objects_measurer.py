"""Measures one labels layer again and again as it changes, in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.labels_picker import LayerWatch
from napari_espmedsam.widgets.linking import WAYS, count_objects
from napari_espmedsam.widgets.objects_source import ObjectSource, find_image, source_of
from napari_espmedsam.widgets.objects_table import ObjectTable, measure

_JOB = "measure"
_MASK = "A mask is one object: choose another output to tell objects apart."
_LONG = 1.0  # s after which shapes are measured in a second step
_LEAST_PAUSE = 300  # ms between a change and the next measurement
_PAUSE_PER_COST = 2000  # ms for each second that measuring took: a third of one core at most


@dataclass(frozen=True, eq=False)
class Measured:
    """The objects of a layer.

    Attributes
    ----------
    layer : str
        Its unique id.
    source : ObjectSource
        What was measured.
    image_name : str
        Name of the image that gave the brightness; "" for none.
    table : ObjectTable
        The measurements.
    seconds : float
        How long they took.
    is_whole : bool
        False while the shapes of the objects, which take longest, are still to come.
    """

    layer: str
    source: ObjectSource
    image_name: str
    table: ObjectTable
    seconds: float
    is_whole: bool = True

    def summary(self, record: dict[str, Any] | None) -> str:
        """Say what was found; `record` is what we know of a layer of ours."""
        record = record or {}
        text = count_objects(len(set(self.table.labels.tolist())))
        if "linked" in record:
            text += f" linked {WAYS.get(record['linked'].get('along'), '')}"
        if self.image_name:
            text += f", brightness in '{self.image_name}'"
        is_mask = record.get("post", {}).get("output") == "mask"
        return f"{text}. {_MASK}" if is_mask else f"{text}."


class Measurer(QObject):
    """Keeps the measurements of a layer up to date while somebody looks at them.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``, where the image of a layer is looked for.
    background
        Does the work.
    parent
        Qt parent.

    Attributes
    ----------
    measured : Signal(object)
        A `Measured` of the layer that is set now; where there is much to do, another follows.
    failed : Signal(object)
        The exception, where a layer cannot be measured.
    label_chosen : Signal(int)
        The user has chosen a label of the layer in the viewer.
    """

    measured = Signal(object)
    failed = Signal(object)
    label_chosen = Signal(int)

    def __init__(self, viewer: Any, background: Background, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._background = viewer, background
        self._layer: Any = None
        self._seconds = 0.0
        self._names: tuple[str, ...] = ()  # columns of the last whole measurement
        self._active = self._stale = False
        self._watch = LayerWatch(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.measure)
        self._watch.changed.connect(self.touch)
        self._watch.label_chosen.connect(self.label_chosen)
        background.done.connect(self._on_result)
        background.step.connect(self._on_result)
        background.failed.connect(self._on_failed)

    @property
    def is_waiting(self) -> bool:
        """Whether a measurement is about to begin."""
        return self._timer.isActive()

    def set_layer(self, layer: Any | None) -> None:
        """Measure another layer, or none."""
        if layer is not None and self._layer is not None and layer == self._layer:
            return
        self._timer.stop()
        self._background.cancel(_JOB)
        self._layer, self._seconds, self._names = layer, 0.0, ()
        self._watch.set_layer(layer)
        self.touch()

    def set_active(self, active: bool) -> None:
        """Say whether somebody is looking; changes that nobody sees are measured later."""
        self._active = active
        if active and self._stale:
            self.measure()
        elif not active and self._timer.isActive():
            self._timer.stop()
            self._stale = True

    def touch(self) -> None:
        """Measure soon: many changes at a time are measured once."""
        if self._layer is None:
            return
        if not self._active:
            self._stale = True
        elif not self._timer.isActive():
            pause = max(_LEAST_PAUSE, int(_PAUSE_PER_COST * self._seconds))
            self._timer.start(pause if self._seconds else 0)

    def measure(self) -> None:
        """Measure now; the result follows."""
        self._timer.stop()
        self._stale = False
        layer = self._layer
        if layer is None:
            return
        try:
            image = find_image(self._viewer, layer)
            source = source_of(layer, image)
        except EspMedSamError as error:
            self.failed.emit(error)
            return
        name = "" if image is None or source.image is None else str(image.name)
        known = self._names if self._seconds > _LONG or not self._seconds else None
        work = partial(_measure, layer.unique_id, source, name, known)
        self._background.submit(_JOB, work)

    def close(self) -> None:
        """Let go of the layer."""
        self._active = False
        self.set_layer(None)

    def _on_result(self, key: object, result: object) -> None:
        if key != _JOB or not isinstance(result, Measured) or self._layer is None:
            return
        if result.layer == self._layer.unique_id:
            if result.is_whole:
                self._seconds, self._names = result.seconds, tuple(result.table.measured)
            self.measured.emit(result)

    def _on_failed(self, key: object, error: object) -> None:
        if key == _JOB:
            self.failed.emit(error)


def _measure(
    layer: str, source: ObjectSource, image_name: str, known: tuple[str, ...] | None
) -> Generator[Measured, None, Measured]:
    """Measure a layer, unless `known` is None first without shapes.

    These columns are known from the time before: they stay, empty, until the shapes are there.
    """
    start = time.monotonic()

    def measured(table: ObjectTable, *, is_whole: bool) -> Measured:
        return Measured(layer, source, image_name, table, time.monotonic() - start, is_whole)

    if known is not None and "Z" not in source.axes:
        yield measured(measure(source, shape=False).with_empty(known), is_whole=False)
    return measured(measure(source), is_whole=True)

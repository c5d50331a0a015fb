"""Single images of a job in the viewer: opened with their labels, and corrected there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.arrays import read_array
from napari_espmedsam.batch.correct import correct_file
from napari_espmedsam.batch.models import release_model
from napari_espmedsam.batch.outputs import output_names
from napari_espmedsam.batch.task import FileResult, FileTask
from napari_espmedsam.errors import EspMedSamError, InputError
from napari_espmedsam.io.formats import FORMATS
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.image_readers import LayerData, labels_of, layers_of, warn
from napari_espmedsam.widgets.objects_jobs import report

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.io.image_file import ImageFile
    from napari_espmedsam.studio.record import PromptRecord

_OPEN, _WRITE = "open", "write"
_PIXELS = tuple(each.suffix for each in FORMATS.values() if each.keeps_pixels)


@dataclass(frozen=True, eq=False)
class _Opened:
    """What was read of an image of a job."""

    task: FileTask
    images: list[LayerData]
    labels: list[LayerData]
    notes: list[str]


class BatchFiles(QObject):
    """Opens images of a job, and writes what was corrected.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    parent
        Qt parent.

    Attributes
    ----------
    said : Signal(str, bool)
        How it went, and whether it went wrong.
    opened : Signal(object)
        The image layer to work on.
    written : Signal(object, object)
        Task and `FileResult` of corrected labels.
    """

    said = Signal(str, bool)
    opened = Signal(object)
    written = Signal(object, object)

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[tuple[Any, FileTask]] = []
        self._background = Background(self, release_model)
        self._background.done.connect(self._on_done)
        self._background.failed.connect(self._on_failed)

    @property
    def is_busy(self) -> bool:
        """Whether something is being opened or written."""
        return self._background.is_busy

    def task_of(self, layer: Any) -> FileTask | None:
        """Return the task that an image layer was opened for; None for other layers."""
        return next((task for each, task in self._layers if each == layer), None)

    def open(self, task: FileTask) -> None:
        """Open an image with its labels; `opened` comes."""
        known = [layer for layer, each in self._layers if each == task]
        there = next((layer for layer in known if layer in self._viewer.layers), None)
        if there is not None:
            self._show(there)
            return
        self.said.emit(f"Opening {task.relative} …", False)
        self._background.submit(_OPEN, partial(_read, task))

    def write(self, task: FileTask, record: PromptRecord) -> None:
        """Write the labels of a session in place of those of the job; `written` comes."""
        self.said.emit(f"Writing the labels of {task.relative} …", False)
        self._background.submit((_WRITE, task.record_path), partial(_write, task, record))

    def close(self) -> None:
        """Drop all work; what is being written is written to its end or not at all."""
        self._background.close()

    def _on_done(self, key: object, result: Any) -> None:
        if key == _OPEN:
            self._add(result)
        else:
            self.written.emit(*result)

    def _on_failed(self, _key: object, error: Exception) -> None:
        self.said.emit(report(error), True)

    def _add(self, found: _Opened) -> None:
        warn(found.notes)
        added = [self._add_layers(each) for each in (found.images, found.labels)]
        images = [layer for layer in added[0] if layer is not None]
        if not images:
            return
        self._layers = [each for each in self._layers if each[0] in self._viewer.layers]
        self._layers += [(layer, found.task) for layer in images]
        chosen = found.task.request.channel or 0
        self._show(images[min(chosen, len(images) - 1)])

    def _add_layers(self, layers: list[LayerData]) -> list[Any]:
        made = [layer for each in layers for layer in _as_layers(each)]
        for layer in made:
            self._viewer.add_layer(layer)
        return made

    def _show(self, layer: Any) -> None:
        self._viewer.layers.selection.active = layer
        self.opened.emit(layer)
        self.said.emit(
            f"'{layer.name}' is open. Correct it in the tab Prompts, then write its labels here.",
            False,
        )


def _as_layers(data: LayerData) -> list[Any]:
    """Make layers out of what a reader gives; channels become a layer each."""
    from napari.layers.utils.stack_utils import split_channels

    pixels, attributes, kind = data
    if "channel_axis" not in attributes:
        return [Layer.create(pixels, attributes, kind)]
    parts = split_channels(pixels, **attributes)
    return [Layer.create(*part) for part in parts]


def _read(task: FileTask) -> _Opened:
    """Read an image lazily and its labels at once; in the worker thread."""
    image = open_image(task.path, axes=task.request.axes)
    notes, labels = list(image.warnings), []
    for path in (task.folder / name for name in output_names(task).values()):
        if path.name.endswith(_PIXELS) and path.exists():
            try:
                labels += [_in_memory(each) for each in labels_of(open_image(path))]
                break  # the other formats say the same
            except EspMedSamError as error:
                notes.append(str(error))
    return _Opened(task, layers_of(image), labels, notes)


def _in_memory(data: LayerData) -> LayerData:
    """Read labels: they can be painted on, and their file can be replaced on all systems."""
    pixels, attributes, kind = data
    first = pixels[0] if attributes.get("multiscale") else pixels
    return read_array(first), {**attributes, "multiscale": False}, kind


def _write(task: FileTask, record: PromptRecord) -> tuple[FileTask, FileResult]:
    """Decode one image anew by its prompts, and write it; in the worker thread."""
    from napari_espmedsam.studio.record_file import write_record

    if record.region is not None:
        raise InputError(
            f"The prompts of {task.relative} were made on a part of it, and the job wants all of "
            "it. Show the prompts with the region 'whole plane'."
        )
    # Planes that nobody has looked at are segmented as the job did.
    planes = task.request.planes
    whole = replace(record, settings={**record.settings, "planes": planes})
    return task, correct_file(
        task, partial(_replay, whole, task), partial(write_record, record=whole)
    )


def _replay(
    record: PromptRecord, task: FileTask, segmenter: Segmenter, image: ImageFile
) -> Segmentation:
    from napari_espmedsam.studio.replay import replay

    array, channel = image.array, task.request.channel
    if "C" in image.axes and "C" not in record.axes:  # napari makes a layer of each channel
        array = np.take(array, channel or 0, axis=image.axes.index("C"))
    found = replay(segmenter, array, record)
    note = found.provenance["prompts"] | {"file": task.prompts_path.name}
    return replace(found, provenance=found.provenance | {"prompts": note})

"""Two boxes with memory: the image layers of a viewer, and the models with their modalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_espmedsam.errors import CheckpointError, EspMedSamError
from napari_espmedsam.model.header import CheckpointHeader, read_header
from napari_espmedsam.weights import DEFAULT_CHECKPOINT, list_checkpoints, resolve_checkpoint
from napari_espmedsam.widgets.fields import ignore_wheel
from napari_espmedsam.widgets.objects_source import is_tool

_FROM_FILE = "Choose a file…"


class ImagePicker(QComboBox):
    """Box with the image layers of a viewer; heat maps of ours and other layers are not offered.

    It keeps the layers themselves, so that renaming one does not lose it.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    parent
        Qt parent.
    """

    chosen = Signal()
    _nothing = "no image layer"

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Any] = []
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        ignore_wheel(self)
        self.currentIndexChanged.connect(self._tell)
        for name in ("inserted", "removed", "reordered", "renamed"):
            emitter = getattr(viewer.layers.events, name, None)  # "renamed" came with napari 0.7
            if emitter is not None:
                emitter.connect(self._refill)
        self._refill()

    @property
    def layer(self) -> Any | None:
        """The chosen image layer; None where the viewer has none."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @layer.setter
    def layer(self, layer: Any) -> None:
        self.setCurrentIndex(self._layers.index(layer))

    def _tell(self, _index: int) -> None:
        self.chosen.emit()

    def _refill(self, _event: Any = None) -> None:
        before = self.layer
        with QSignalBlocker(self):
            self._layers = [layer for layer in self._viewer.layers if self._offers(layer)]
            self.clear()
            self.addItems([layer.name for layer in self._layers])
            if not hasattr(self._viewer.layers.events, "renamed"):
                for layer in self._layers:
                    layer.events.name.connect(self._refill)
            if before in self._layers:
                self.setCurrentIndex(self._layers.index(before))
            elif self._layers:
                self.setCurrentIndex(self._first_choice())
        self.setPlaceholderText(self._nothing)
        if self.layer != before:  # not "is": napari hands out a new proxy of a layer each time
            self.chosen.emit()

    def _offers(self, layer: Any) -> bool:
        return isinstance(layer, Image) and not is_tool(layer)

    def _first_choice(self) -> int:
        """Prefer the layer that is selected in the layer list, then the topmost image."""
        active = self._viewer.layers.selection.active
        return self._layers.index(active) if active in self._layers else len(self._layers) - 1


class ModelPicker(QComboBox):
    """Box with the models that come with the package and those that the user has added.

    Parameters
    ----------
    parent
        Qt parent.

    Attributes
    ----------
    chosen : Signal
        Another model is chosen, or more is known of the chosen one.
    file_added : Signal(str)
        The header of this file is wanted: :meth:`set_header` or :meth:`set_error`.
    """

    chosen = Signal()
    file_added = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._last = 0
        self._targets: dict[str, dict[str, str]] = {}
        self._headers: dict[str, CheckpointHeader] = {}
        self._errors: dict[str, Exception] = {}
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        ignore_wheel(self)
        for entry in list_checkpoints():
            self._targets[entry.name] = dict(zip(entry.modalities, entry.targets, strict=True))
            self._insert(entry.name, entry.name, entry.summary)
        self.addItem(_FROM_FILE, None)
        self.checkpoint = DEFAULT_CHECKPOINT
        self._last = self.currentIndex()
        self._read_bundled()
        self.activated.connect(self._on_activated)
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def checkpoint(self) -> str:
        """Name of the model, or path of its file."""
        return str(self.itemData(self.currentIndex()) or self.itemData(self._last))

    @checkpoint.setter
    def checkpoint(self, name: str) -> None:
        self.setCurrentIndex(max(self.findData(name), 0))

    @property
    def header(self) -> CheckpointHeader | None:
        """What the model says of itself; None while its file is read, or if it cannot be."""
        return self._headers.get(self.checkpoint)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the model; empty where there is no header."""
        return () if self.header is None else self.header.modalities

    def target(self, modality: str) -> str:
        """Return what the model finds in a modality; empty for a file of the user."""
        return self._targets.get(self.checkpoint, {}).get(modality, "")

    def check(self) -> None:
        """Check what is known of the chosen file.

        Raises
        ------
        EspMedSamError
            If the file cannot be used, or is still being read.
        """
        name = self.checkpoint
        if name in self._errors:
            raise self._errors[name]
        if name not in self._headers:
            raise CheckpointError(f"Reading {Path(name).name} …")
        resolve_checkpoint(name)

    def add_file(self, path: str | Path) -> None:
        """Add a weight file and choose it."""
        name = str(path)
        if self.findData(name) < 0:
            self._insert(Path(name).name, name, name)
        self._errors.pop(name, None)
        self._headers.pop(name, None)
        self.checkpoint = name
        self.file_added.emit(name)
        self.chosen.emit()

    def choose(self, name: str) -> None:
        """Choose a model, or add its file; one that is not there any more is passed over."""
        if self.findData(name) >= 0:
            self.checkpoint = name
        elif Path(name).is_file():
            self.add_file(name)

    def set_header(self, name: str, header: CheckpointHeader) -> None:
        """Set what a file says of itself."""
        self._headers[name] = header
        self.chosen.emit()

    def set_error(self, name: str, error: Exception) -> None:
        """Set why a file cannot be used."""
        self._errors[name] = error
        self.chosen.emit()

    def _read_bundled(self) -> None:
        """Read the header of a model of the package: a local file of known size."""
        name = self.checkpoint
        if name not in self._targets or name in self._headers:
            return
        self._errors.pop(name, None)
        try:
            self._headers[name] = read_header(resolve_checkpoint(name))
        except EspMedSamError as error:  # said by check(); another model can still be chosen
            self._errors[name] = error

    def _insert(self, text: str, name: str, tooltip: str) -> None:
        last = self.findText(_FROM_FILE)
        index = self.count() if last < 0 else last
        self.insertItem(index, text, name)
        self.setItemData(index, tooltip, Qt.ItemDataRole.ToolTipRole)

    def _on_changed(self, index: int) -> None:
        if self.itemData(index) is not None:
            self._last = index
            self._read_bundled()
            self.chosen.emit()

    def _on_activated(self, index: int) -> None:
        if self.itemData(index) is not None:
            return
        self.setCurrentIndex(self._last)
        path, _filter = QFileDialog.getOpenFileName(
            self, "Choose a model", "", "Weights (*.safetensors);;All files (*)"
        )
        if path:
            self.add_file(path)

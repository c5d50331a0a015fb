"""A box with the labels layers of a viewer, and a watch over the one that is chosen."""

from __future__ import annotations

from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import QStyle, QStyleOptionComboBox, QStylePainter

from napari_espmedsam.widgets.objects_source import is_tool, our_record
from napari_espmedsam.widgets.pickers import ImagePicker

# What changes the objects or their measurements. A slider changes nothing, so "set_data" is out.
_CONTENT = ("data", "paint", "labels_update", "metadata", "scale", "affine", "units", "axis_labels")


class LabelsPicker(ImagePicker):
    """Box with the labels layers of a viewer; our newest result comes first to mind."""

    _nothing = "no labels layer"

    def choose(self, layer: Any) -> bool:
        """Choose a layer, unless it has left the viewer; returns whether it could be."""
        if layer not in self._layers:
            return False
        self.layer = layer
        return True

    def _offers(self, layer: Any) -> bool:
        return isinstance(layer, Labels) and not is_tool(layer)

    def _first_choice(self) -> int:
        ours = [i for i, layer in enumerate(self._layers) if our_record(layer) is not None]
        return ours[-1] if ours else super()._first_choice()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Cut a long name in its middle: names of results differ at the end."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        room = self.style().subControlRect(  # type: ignore[union-attr]
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        name = option.currentText or self.placeholderText()
        option.currentText = self.fontMetrics().elidedText(
            name, Qt.TextElideMode.ElideMiddle, room.width() - 4
        )
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class LayerWatch(QObject):
    """Tells what happens to one labels layer.

    Attributes
    ----------
    changed : Signal()
        Its objects, or what they measure in the world, may be others.
    label_chosen : Signal(int)
        The user has chosen a label in the viewer.
    """

    changed = Signal()
    label_chosen = Signal(int)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._layer: Any = None

    @property
    def layer(self) -> Any | None:
        """The layer; None where there is none."""
        return self._layer

    def set_layer(self, layer: Any | None) -> None:
        """Watch another layer, or none."""
        for name, slot in self._slots():
            getattr(self._layer.events, name).disconnect(slot)
        self._layer = layer
        for name, slot in self._slots():
            getattr(layer.events, name).connect(slot)  # type: ignore[union-attr]

    def _slots(self) -> list[tuple[str, Any]]:
        if self._layer is None:
            return []
        names = [name for name in _CONTENT if hasattr(self._layer.events, name)]
        return [*((name, self._on_content) for name in names), ("selected_label", self._on_label)]

    def _on_content(self, _event: Any = None) -> None:
        self.changed.emit()

    def _on_label(self, _event: Any = None) -> None:
        if self._layer is not None:
            self.label_chosen.emit(int(self._layer.selected_label))

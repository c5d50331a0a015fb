"""Sliders for what can change while one looks on: prompts and post-processing, nothing encoded.

Each is made from its declaration in ``inference.request``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QSizePolicy, QSlider, QToolButton, QWidget

from napari_espmedsam.inference.options import OptionInfo
from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.widgets.fields import ChoiceField, Field, NumberField, ignore_wheel
from napari_espmedsam.widgets.rows import form_layout

LIVE = (
    "prompt_threshold",
    "threshold",
    "output",
    "min_size",
    "max_hole",
    "smoothing",
    "split_neck",
)
"""Settings that have a live control, in their order."""

_STEPS = 1000
_TOPS = {"min_size": 10_000, "max_hole": 10_000}  # px; the box beside the slider goes further
_NAMES = {"mask": "mask", "objects": "objects", "split": "split objects"}
_BOX_WIDTH = 54  # px: six digits; what is longer scrolls


class SliderField(Field):
    """A number as a slider and a box, and a button that goes back to the default.

    A slider over sizes is fine at its small end. While an optional number is left alone, the
    slider stands at what the model takes.

    Parameters
    ----------
    info
        The option.
    own
        What the model takes where an optional number is None.
    """

    def __init__(self, info: OptionInfo, own: float = 0.5) -> None:
        self._number = NumberField(info)
        self._own, self._is_dragged = own, False
        self._low = float(info.minimum or 0)
        self._high = float(_TOPS.get(info.name, info.maximum or 1))
        self._power = 1.0 if self._high <= 1 else 3.0
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setMinimumWidth(36)
        ignore_wheel(self.slider)
        self.box = self._number.editor
        self.reset_button = QToolButton()
        self.reset_button.setText("↺")
        self.reset_button.setAutoRaise(True)
        super().__init__(info, self._lay_out())
        self.reset_button.setToolTip("Back to the default.")
        self.slider.valueChanged.connect(self._on_slider)
        self._number.on_change(self._on_number)
        self.reset_button.clicked.connect(self.reset)
        self._on_number()

    @property
    def value(self) -> Any:
        """Number, or None where the model decides."""
        return self._number.value

    @value.setter
    def value(self, value: Any) -> None:
        self._number.value = value

    def on_change(self, slot: Callable[..., object]) -> None:
        """Call ``slot`` whenever the number changes."""
        self._number.on_change(slot)

    def set_own(self, own: float) -> None:
        """Set what the model takes where the number is None."""
        if own != self._own:
            self._own = own
            self._on_number()

    def reset(self, _checked: bool = False) -> None:
        """Return to the option's default."""
        self._number.reset()

    def _lay_out(self) -> QWidget:
        editor = QWidget()
        row = QHBoxLayout(editor)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.box.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._number.set_short(_BOX_WIDTH)
        row.addWidget(self.slider, stretch=1)
        row.addWidget(self.box)
        row.addWidget(self.reset_button)
        return editor

    def _on_slider(self, step: int) -> None:
        share = (step / _STEPS) ** self._power
        number = self._low + share * (self._high - self._low)
        self._is_dragged = True  # what is rounded must not move the slider under the hand
        self._number.value = round(number) if self.info.kind == "int" else round(number, 2)
        self._is_dragged = False

    def _on_number(self, _value: Any = None) -> None:
        if self._is_dragged:
            return
        number = self._own if self.value is None else float(self.value)
        share = min(max((number - self._low) / (self._high - self._low), 0.0), 1.0)
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(_STEPS * share ** (1 / self._power)))


class LiveControls(QWidget):
    """The controls of :data:`LIVE`.

    Attributes
    ----------
    fields
        By name.
    changed : Signal(str, object)
        The user has changed a setting: its name and value. What :meth:`show_settings` changes is
        not told.
    """

    changed = Signal(str, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        options = {info.name: info for info in request_options()}
        self.fields = {name: _make(options[name]) for name in LIVE}
        self._shown: dict[str, Any] = {name: each.value for name, each in self.fields.items()}
        layout = form_layout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        for field in self.fields.values():
            layout.addRow(field.label, field.editor)
            field.on_change(self._on_change)
        self._enable()

    def show_settings(self, settings: SegmentRequest, threshold: float = 0.5) -> None:
        """Show what holds now.

        Parameters
        ----------
        settings
            The settings of the session.
        threshold
            Threshold that the model takes by itself.
        """
        for name, field in self.fields.items():
            self._shown[name] = value = getattr(settings, name)
            if field.value != value:
                field.value = value
        own = self.fields["threshold"]
        if isinstance(own, SliderField):
            own.set_own(threshold)
        self._enable()

    def _on_change(self, _value: Any = None) -> None:
        """Tell what is different from what was shown or told last."""
        for name, field in self.fields.items():
            if field.value != self._shown[name]:
                self._shown[name] = field.value
                self.changed.emit(name, field.value)
        self._enable()

    def _enable(self) -> None:
        self.fields["split_neck"].editor.setEnabled(self.fields["output"].value == "split")


def _make(info: OptionInfo) -> Field:
    return ChoiceField(info, names=_NAMES) if info.choices is not None else SliderField(info)

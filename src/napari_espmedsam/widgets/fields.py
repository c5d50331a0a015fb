"""Editors for the options that ``inference.request`` declares: one field, one option.

Nothing about an option is written here: caption, tooltip, range, unit and choices come from its
:class:`~napari_espmedsam.inference.options.OptionInfo`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from napari_espmedsam.inference.options import OptionInfo

# Wider choices than these make napari's side panel grow.
_MIN_EDITOR_WIDTH = 130
_PADDING = 4  # px on either side of a number beside a slider


class Field:
    """A caption and an editor of one option.

    Attributes
    ----------
    info : OptionInfo
        The option.
    label, editor : QWidget
        What a form lays out in one row.
    """

    info: OptionInfo
    label: QLabel
    editor: QWidget

    def __init__(self, info: OptionInfo, editor: QWidget) -> None:
        self.info = info
        self.editor = editor
        self.label = QLabel(info.label)
        editor.setMinimumWidth(_MIN_EDITOR_WIDTH)
        editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for widget in (self.label, editor):
            widget.setToolTip(tooltip(info))

    @property
    def value(self) -> Any:
        """Value as the request takes it; None where the model decides."""
        raise NotImplementedError

    @value.setter
    def value(self, value: Any) -> None:
        raise NotImplementedError

    @property
    def kept(self) -> Any:
        """Value that holds again when the editor is turned on, and else :attr:`value`."""
        return self.value

    def on_change(self, slot: Callable[..., object]) -> None:
        """Call ``slot`` whenever the value changes.

        The slot is a method of a Qt object, never a lambda: Qt holds a lambda, and all that it
        refers to, for ever, so that a closed form would keep its model in memory.
        """
        raise NotImplementedError

    def set_unused(self, reason: str) -> None:
        """Turn the editor off and say why in its tooltip; ``""`` turns it on again."""
        text = tooltip(self.info, unused=reason)
        for widget in (self.label, self.editor):
            widget.setEnabled(not reason)
            widget.setToolTip(text)

    def reset(self) -> None:
        """Return to the option's default."""
        self.value = self.info.default


class NumberField(Field):
    """A number; an optional one shows a word at 0, which stands for None.

    While it is turned off it gives None, and it keeps its number for when it is turned on again.
    """

    def __init__(self, info: OptionInfo) -> None:
        self._spin = _new_spin(info)
        self._word = "auto"
        self._kept: float | None = None  # the number, while the field is turned off
        self._spin.setSingleStep(_step(info))
        self._spin.setRange(0 if info.optional else _number(info, info.minimum or 0), _top(info))
        if info.optional:
            self._spin.setSpecialValueText(self._word)
        if info.unit:
            self._spin.setSuffix(f" {info.unit}")
        self._spin.setKeyboardTracking(True)
        self._spin.setStepType(QAbstractSpinBox.StepType.DefaultStepType)
        ignore_wheel(self._spin)
        super().__init__(info, self._spin)
        self.reset()

    @property
    def value(self) -> Any:
        """Number, or None at the word."""
        number = self._spin.value()
        return None if self.info.optional and number == 0 else number

    @value.setter
    def value(self, value: Any) -> None:
        number = 0 if value is None else _number(self.info, value)
        if self._kept is None:
            self._spin.setValue(number)
        else:
            self._kept = number

    @property
    def kept(self) -> Any:
        """Number that holds again when the editor is turned on; None at the word."""
        if self._kept is None:
            return self.value
        return _number(self.info, self._kept) or None

    def set_unused(self, reason: str) -> None:
        """Turn an optional number off and say why, or on again with the number that it had."""
        super().set_unused(reason)
        if bool(reason) == (self._kept is not None):
            return
        with QSignalBlocker(self._spin):
            number = self._spin.value() if self._kept is None else self._kept
            self._kept = number if reason else None
            self._spin.setSpecialValueText("not used" if reason else self._word)
            self._spin.setValue(0 if reason else number)

    def on_change(self, slot: Callable[..., object]) -> None:
        """Call ``slot`` whenever the number changes."""
        self._spin.valueChanged.connect(slot)

    def set_short(self, width: int) -> None:
        """Show at most two decimals, no unit (the tooltip has it) and no buttons: beside a slider.

        `width` is in px, without the space around the number.
        The arrow keys and the wheel go on counting.
        """
        self._spin.setSuffix("")
        # napari's own style asks for 90 px, whatever width is set.
        room = f"min-width: {width}px; max-width: {width}px; padding: 1px {_PADDING}px;"
        self._spin.setStyleSheet(f"QAbstractSpinBox {{ {room} }}")
        # For the layout, which may be asked before the style is.
        self._spin.setFixedWidth(width + 2 * _PADDING)
        self._spin.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self._spin.setAlignment(Qt.AlignmentFlag.AlignRight)
        if self.info.kind == "float":
            self._spin.setDecimals(2)

    def set_word(self, word: str) -> None:
        """Set the word that stands for None, e.g. ``"as trained"``; without None there is none."""
        self._word = word
        if self.info.optional:
            self._spin.setSpecialValueText(word)


class ChoiceField(Field):
    """One of a few words."""

    def __init__(
        self,
        info: OptionInfo,
        choices: tuple[str, ...] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._box = QComboBox()
        for choice in choices or info.choices or ():
            self._box.addItem((names or {}).get(choice, choice), choice)
        ignore_wheel(self._box)
        super().__init__(info, self._box)
        self.reset()

    @property
    def value(self) -> Any:
        """The chosen word."""
        return self._box.currentData()

    @value.setter
    def value(self, value: Any) -> None:
        index = self._box.findData(value)
        if index < 0:
            raise ValueError(f"{self.info.name} has no choice {value!r}")
        self._box.setCurrentIndex(index)

    def on_change(self, slot: Callable[..., object]) -> None:
        """Call ``slot`` whenever another word is chosen."""
        self._box.currentIndexChanged.connect(slot)


def tooltip(info: OptionInfo, *, unused: str = "") -> str:
    """Return the help of an option, with its range and what its default means.

    For an option that is turned off, ``unused`` is the reason and comes first.
    """
    parts = [f"Not used: {unused}.", info.help] if unused else [info.help]
    if info.minimum is not None and info.maximum is not None:
        unit = f" {info.unit}" if info.unit else ""
        parts.append(f"Range: {info.minimum:g} to {info.maximum:g}{unit}.")
    if info.optional:
        parts.append(f"Left alone: {info.auto}.")
    elif info.default not in (None, ""):
        parts.append(f"Default: {info.default}.")
    return f"<qt>{'<br>'.join(parts)}</qt>"  # rich text, so that Qt wraps it


def ignore_wheel(widget: QWidget) -> None:
    """Let a wheel turn scroll the form unless the editor has the focus."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_WheelGuard(widget))


class _WheelGuard(QObject):
    def eventFilter(  # noqa: N802 (Qt's name)
        self, watched: QObject | None, event: QEvent | None
    ) -> bool:
        """Refuse wheel events of an editor that does not have the focus."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget):
            return False
        if watched.hasFocus():
            return False
        event.ignore()
        return True


def _new_spin(info: OptionInfo) -> Any:
    if info.kind == "int":
        return QSpinBox()
    spin = QDoubleSpinBox()
    spin.setDecimals(_decimals(info))
    return spin


def _number(info: OptionInfo, value: float) -> float | int:
    return int(value) if info.kind == "int" else float(value)


def _top(info: OptionInfo) -> float | int:
    return _number(info, min(info.maximum if info.maximum is not None else 1e9, 1e9))


def _is_fraction(info: OptionInfo) -> bool:
    return info.maximum is not None and info.maximum <= 1


def _decimals(info: OptionInfo) -> int:
    """Return as many as tell the least number, which for a size in micrometres is many."""
    least = info.minimum or 0
    if _is_fraction(info) or least <= 0:
        return 2
    return 1 if least >= 1 else min(2 - math.floor(math.log10(least)), 4)


def _step(info: OptionInfo) -> float | int:
    if info.kind == "int":
        return 1
    if _is_fraction(info):
        return 0.05
    return 1.0 if (info.minimum or 0) >= 1 else 0.1

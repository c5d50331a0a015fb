"""The form of the Segment widget: from its editors to one frozen, checked request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QLabel, QLineEdit, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_espmedsam.errors import EspMedSamError, InputError
from napari_espmedsam.inference.image import PlaneStack, guess_axes
from napari_espmedsam.inference.options import OptionInfo
from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.inference.scale import SCALE_OPTIONS, unused_options
from napari_espmedsam.weights import describe_licence
from napari_espmedsam.widgets.fields import (
    ChoiceField,
    Field,
    NumberField,
    ignore_wheel,
    tooltip,
)
from napari_espmedsam.widgets.layers import (
    ImageDescription,
    ResultPlan,
    axes_from_labels,
    describe,
    level_zero,
    plan_result,
    plane_at,
)
from napari_espmedsam.widgets.pickers import ImagePicker, ModelPicker
from napari_espmedsam.widgets.rows import Rows, form_layout, new_note, tight

_OWN_EDITORS = ("checkpoint", "modality", "planes", "channel", "axes", "rgb")
_DEVICES = ("auto", "cpu", "cuda", "mps")
_NAMES = {"output": {"mask": "mask", "objects": "objects", "split": "split objects"}}
_WORDS = {"diameter": "as trained", "pixel_size": "as trained", "scale": "as trained"}
_COUNTED = {"T": "time points", "Z": "Z planes", "C": "channels"}
_THIS_PLANE, _ALL_PLANES = "this plane", "all planes"
_LEAST_WIDTH = 250  # px: the whole dock then fits into 320
_MORE = "More settings"
_COLOURS = -1  # data of the channel box that means: all three as the colours of one picture


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that a run needs, resolved from the form and frozen.

    Attributes
    ----------
    layer
        The image layer; only the GUI thread may touch it.
    image
        Its description.
    request
        The checked settings.
    plan
        Shape, axes and place of the labels.
    n_planes
        Number of planes of the run.
    plane
        Index along the leading axes of the one plane of a stack; None for all planes.
    """

    layer: Any
    image: ImageDescription
    request: SegmentRequest
    plan: ResultPlan
    n_planes: int
    plane: tuple[int, ...] | None


class SegmentForm(QWidget):
    """Editors of one run.

    Parameters
    ----------
    viewer
        The ``napari.Viewer`` whose images are offered.
    parent
        Qt parent.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._watched: Any = None
        self._wanted_modality = ""
        options = {info.name: info for info in request_options()}
        self.image = ImagePicker(viewer)
        self.axes = QLineEdit()
        self.axes_note = new_note()
        self.channel = QComboBox()
        self.modality = QComboBox()
        self.modality_note = new_note()
        self.model = ModelPicker()
        self.licence = new_note()
        self.licence.setToolTip("Licence of the model's weights. That of the code is another.")
        self.scope = QComboBox()
        self.scope.addItems([_ALL_PLANES, _THIS_PLANE])
        self.scope.setToolTip("Segment every plane of the stack, or the one on the screen.")
        self.image.setToolTip("The image layer to segment.")
        self.fields = {
            name: _make_field(info) for name, info in options.items() if name not in _OWN_EDITORS
        }
        self._more = QCollapsible(_MORE, self, expandedIcon="▾", collapsedIcon="▸")
        self._more.setToolTip("Settings that are seldom needed.")
        self._rows = _lay_out(self, options, self._more)
        self._connect()
        self._on_model()
        self._on_image()

    def reset(self) -> None:
        """Set everything but the image to its default."""
        for field in self.fields.values():
            field.reset()
        self._wanted_modality = ""
        self.model.checkpoint = SegmentRequest().checkpoint
        self.modality.setCurrentIndex(0)
        self._wanted_modality = ""  # the first one is no choice of the user's
        self.scope.setCurrentText(_ALL_PLANES)
        self._guess_axes()
        self.channel.setCurrentIndex(0)
        self.changed.emit()

    @property
    def settings(self) -> dict[str, Any]:
        """What does not belong to one image: values by the names of ``request_options``.

        A value is here also while the modality has no use for it.
        """
        values = {name: field.kept for name, field in self.fields.items()}
        modality = self._wanted_modality or None
        return {"checkpoint": self.model.checkpoint, "modality": modality, **values}

    def take(self, settings: Mapping[str, Any]) -> None:
        """Set some of :attr:`settings`. What is not offered here any more stays as it is."""
        checkpoint = settings.get("checkpoint")
        if checkpoint is not None:
            self.model.choose(checkpoint)
        if settings.get("modality"):
            self._wanted_modality = settings["modality"]
            self._on_model()
        for name in self.fields.keys() & settings.keys():
            with suppress(ValueError):  # a device that another machine has
                self.fields[name].value = settings[name]
        self._on_change()

    def prepare(self) -> Prepared:
        """Resolve and check everything that a run needs; no pixel is read.

        Raises
        ------
        EspMedSamError
            The first thing that stands in the way.
        """
        layer = self.image.layer
        if layer is None:
            raise InputError(
                "There is no image layer. Open an image, or a sample from "
                "File > Open Sample > ESP-MedSAM."
            )
        image = describe(layer)
        axes = self._axes_text()
        channel, rgb = self._channel(image, axes)
        self.model.check()
        axes_of_data = axes + "S" if image.rgb else axes
        request = self._request(channel=channel, axes=axes_of_data, rgb=rgb).validate()
        stack = PlaneStack.from_array(
            level_zero(layer), request.axes, channel=request.channel, rgb=request.rgb
        )
        plan = plan_result(image, axes, channel)
        if self.scope.currentText() == _ALL_PLANES or not stack.leading_axes:
            return Prepared(layer, image, request, plan, len(stack), None)
        where = plane_at(layer, self._viewer.dims.point, axes)
        index = tuple(where[letter] for letter in stack.leading_axes)
        flat = int(np.ravel_multi_index(index, stack.leading_shape))
        return Prepared(layer, image, replace(request, planes=(flat,)), plan, 1, index)

    def request_for_files(self) -> SegmentRequest:
        """Return the settings for images that are not open: all that belongs to no one image.

        Raises
        ------
        EspMedSamError
            If the model cannot be used, or the settings do not fit it.
        """
        self.model.check()
        return self._request().validate()

    def set_running(self, running: bool) -> None:
        """Lock the editors during a run, so that the form shows what is being computed."""
        self.setEnabled(not running)

    def _request(self, **of_image: Any) -> SegmentRequest:
        values = {name: field.value for name, field in self.fields.items()}
        return SegmentRequest(
            checkpoint=self.model.checkpoint,
            modality=self.modality.currentData(),
            **of_image,
            **values,
        )

    def _channel(self, image: ImageDescription, axes: str) -> tuple[int | None, bool]:
        """Return the channel to segment and whether all are colours of one picture."""
        if image.rgb:
            return None, True
        if "C" not in axes or len(axes) != image.ndim:
            return None, False
        chosen = self.channel.currentData()
        if chosen is None:
            count = image.shape[axes.index("C")]
            raise InputError(
                f"'{image.name}' has {count} channels, and the model takes one. Choose the channel."
            )
        return (None, True) if chosen == _COLOURS else (int(chosen), False)

    def _axes_text(self) -> str:
        return self.axes.text().strip().upper()

    def _connect(self) -> None:
        self.image.chosen.connect(self._on_image)
        self.axes.textEdited.connect(self._on_axes)
        self.channel.currentIndexChanged.connect(self._on_change)
        self.modality.currentIndexChanged.connect(self._on_modality)
        self.model.chosen.connect(self._on_model)
        self.scope.currentIndexChanged.connect(self._on_change)
        for field in self.fields.values():
            field.on_change(self._on_change)
        for box in (self.channel, self.modality, self.scope):
            ignore_wheel(box)
        self._viewer.dims.events.current_step.connect(self._on_slider)

    def _on_change(self, _value: Any = None) -> None:
        neck = self.fields["split_neck"]
        neck.editor.setEnabled(self.fields["output"].value == "split")
        self._count_hidden()
        self.changed.emit()

    def _count_hidden(self) -> None:
        """Say how many settings of the folded part are not the defaults: nobody sees them."""
        hidden = [field for field in self.fields.values() if field.info.advanced]
        count = sum(field.value != field.info.default for field in hidden)
        text = f"{_MORE} ({count} changed)" if count else _MORE
        if self._more.text() != text:
            self._more.setText(text)

    def _on_slider(self, _event: Any = None) -> None:
        if self.scope.currentText() == _THIS_PLANE:
            self.changed.emit()

    def _on_image(self) -> None:
        """Follow another image layer, or the changes of the one that is chosen."""
        if self._watched is not None:
            for name in ("data", "axis_labels"):
                getattr(self._watched.events, name).disconnect(self._on_image_event)
        self._watched = self.image.layer
        if self._watched is not None:
            for name in ("data", "axis_labels"):
                getattr(self._watched.events, name).connect(self._on_image_event)
        self._guess_axes()
        self.changed.emit()

    def _on_image_event(self, _event: Any = None) -> None:
        self._guess_axes()
        self.changed.emit()

    def _guess_axes(self) -> None:
        layer = self.image.layer
        if layer is None:
            self.axes.clear()
        else:
            self.axes.setText(_guess(layer))
        self._on_axes()

    def _on_axes(self, _text: str = "") -> None:
        """Show the rows that the axes ask for, and what was understood."""
        layer = self.image.layer
        image = None if layer is None else describe(layer)
        axes = self._axes_text()
        valid = image is not None and is_axes(axes, image.ndim)
        has_channels = image is not None and valid and "C" in axes
        self._fill_channels(image.shape[axes.index("C")] if image and has_channels else 0)
        self._rows.set_visible(self.channel, self.channel.count() > 0)
        self._rows.set_visible(self.scope, bool(valid and set(axes) & set("TZ")))
        self.axes.setStyleSheet("" if valid or image is None else "border: 1px solid #d9534f;")
        self.axes_note.setText("" if image is None else _note(image, axes if valid else ""))
        self.changed.emit()

    def _fill_channels(self, count: int) -> None:
        """Offer the channels; nothing is chosen for the user where there are several."""
        if self.channel.count() and self.channel.property("channels") == count:
            return
        with QSignalBlocker(self.channel):
            self.channel.clear()
            self.channel.setProperty("channels", count)
            if count > 1:
                self.channel.addItem("choose…", None)
            for index in range(count):
                self.channel.addItem(str(index), index)
            if count in (3, 4):
                self.channel.addItem("all, as RGB colours", _COLOURS)

    def _on_model(self) -> None:
        """Offer the modalities of a model; the one that the user chose last stays if it can."""
        with QSignalBlocker(self.modality):
            self.modality.clear()
            for name in self.model.modalities:
                self.modality.addItem(name, name)
            self.modality.setCurrentIndex(max(self.modality.findData(self._wanted_modality), 0))
        header = self.model.header
        self.licence.setText("" if header is None else describe_licence(header.licence))
        self._rows.set_visible(self.licence, header is not None)
        self._show_modality()
        self.changed.emit()

    def _on_modality(self, _index: int = 0) -> None:
        self._wanted_modality = self.modality.currentData()
        self._show_modality()
        self.changed.emit()

    def _show_modality(self) -> None:
        """Turn off the settings that the modality has no use for, and say what is found in it."""
        header, name = self.model.header, self.modality.currentData()
        spec = None if header is None else header.inputs.get(name)
        unused = {} if spec is None else unused_options(spec)
        for option in SCALE_OPTIONS:
            self.fields[option].set_unused(unused.get(option, ""))
        notes = [f"Finds {self.model.target(name)}."] if self.model.target(name) else []
        if spec is not None and spec.geometry == "whole":
            size = f"{spec.size} x {spec.size} px"
            notes.append(
                f"The model sees each plane as a whole, resized to {size}, so diameter, pixel "
                "size, scale and tiles are not used."
            )
        self.modality_note.setText(" ".join(notes))
        self.modality_note.setVisible(bool(notes))


def is_axes(axes: str, ndim: int) -> bool:
    """Whether a text names each axis of a layer once."""
    return (
        len(axes) == ndim == len(set(axes)) and set(axes) <= set("TZCYX") and set(axes) >= {*"YX"}
    )


def _guess(layer: Any) -> str:
    """Guess the axes from the labels of a layer, or else from its shape."""
    image = describe(layer)
    labelled = axes_from_labels(image.geometry.axis_labels)
    if labelled is not None:
        return labelled
    shape = tuple(level_zero(layer).shape)
    try:
        axes = guess_axes(shape, rgb=image.rgb)
    except EspMedSamError:
        return ""
    return axes[:-1] if image.rgb else axes


def _note(image: ImageDescription, axes: str) -> str:
    """Say in one line how the image is read, e.g. ``12 Z planes, 384 x 384 px, uint16``."""
    if not axes:
        return f"{image.ndim} axes: {' x '.join(map(str, image.shape))}, {image.dtype}"
    counts = zip(axes, image.shape, strict=True)
    leading = [f"{n} {_COUNTED[letter]}" for letter, n in counts if letter in _COUNTED]
    height, width = (image.shape[axes.index(letter)] for letter in "YX")
    colours = ["RGB"] if image.rgb else []
    return ", ".join([*leading, f"{height} x {width} px", *colours, image.dtype])


def _make_field(info: OptionInfo) -> Field:
    if info.name == "device":
        return ChoiceField(info, choices=_DEVICES)
    if info.choices is not None:
        return ChoiceField(info, names=_NAMES.get(info.name))
    number = NumberField(info)
    number.set_word(_WORDS.get(info.name, "auto"))
    return number


def _lay_out(form: SegmentForm, options: Mapping[str, OptionInfo], part: QCollapsible) -> Rows:
    """Put the editors into rows; what an option calls advanced goes into a folded part."""
    layout = QVBoxLayout(form)
    layout.setContentsMargins(0, 0, 4, 0)
    rows = Rows(form_layout(layout))
    for text, editor, name in (
        ("Image", form.image, ""),
        ("Axes", form.axes, "axes"),
        ("", form.axes_note, ""),
        ("Channel", form.channel, "channel"),
        ("Modality", form.modality, "modality"),
        ("", form.modality_note, ""),
        ("Model", form.model, "checkpoint"),
        ("Licence", form.licence, ""),
        ("Scope", form.scope, ""),
    ):
        if not text:
            rows.span(editor)
            continue
        label = QLabel(text)
        rows.add(label, editor)
        if name:
            label.setToolTip(tooltip(options[name]))
            editor.setToolTip(tooltip(options[name]))
    folded = QWidget()
    more = form_layout(folded)
    more.setContentsMargins(0, 0, 0, 0)
    for field in form.fields.values():
        if field.info.advanced:
            more.addRow(field.label, field.editor)
        else:
            rows.add(field.label, field.editor)
    part.addWidget(folded)
    part.setMinimumWidth(_LEAST_WIDTH)  # it asks for the width of its longest caption otherwise
    layout.addWidget(tight(part))
    layout.addStretch()
    return rows

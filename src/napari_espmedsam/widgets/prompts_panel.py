"""The editors of the tab "Prompts" and where they stand; usable from 320 px on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_espmedsam.widgets.fields import ignore_wheel
from napari_espmedsam.widgets.keys import KeysPart
from napari_espmedsam.widgets.live_controls import LiveControls
from napari_espmedsam.widgets.markers import TOOLS
from napari_espmedsam.widgets.regions import CHOICES
from napari_espmedsam.widgets.rows import form_layout, new_note
from napari_espmedsam.widgets.scroll import Scroll

_BAD = "color: #e8a33d;"  # as in the tab "Segment"
_NOTHING = "nothing"
_TOOL_TIPS = {
    "+ point": "Click on an object: the prompt cell under it is on.",
    "- point": "Click on the background: the prompt cell under it is off.",
    "+ box": "Drag a box around objects: all prompt cells that it touches are on.",
    "- box": "Drag a box around background: all prompt cells that it touches are off.",
}
_LEGEND = (
    "<span style='color:#38b6ff'>■</span> on by the model &nbsp;"
    "<span style='color:#2ee66b'>■</span> on by you &nbsp;"
    "<span style='color:#ff4d5e'>■</span> off by you"
)


class PromptsPanel(QWidget):
    """All that the tab shows; what it does is up to `PromptsTab`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.show_button = QPushButton()
        self.region = QComboBox()
        self.status = new_note()
        self.hint = new_note()
        self.hint_button = QPushButton()
        self.tool_buttons = {tool: QPushButton(tool) for tool in TOOLS}
        self.tool_group = _group(self, self.tool_buttons.values())
        self.undo_button = QPushButton("Undo")
        self.redo_button = QPushButton("Redo")
        self.copy_buttons = {letter: QPushButton() for letter in "ZT"}
        self.copy_group = _group(self, self.copy_buttons.values())
        self.run_button = QPushButton("All planes")
        self.stop_button = QPushButton("Stop")
        self.modality = QComboBox()
        self.compare = QComboBox()
        self.controls = LiveControls()
        self.confidence = QCheckBox("Show how sure the model is")
        self.save_button = QPushButton("Save prompts…")
        self.load_button = QPushButton("Load prompts…")
        self.keys_part = KeysPart()
        self.live_part = QWidget()
        self._explain()
        self._lay_out()

    def say(self, text: str, bad: bool = False) -> None:
        """Say how things are."""
        self.status.setText(text)
        self.status.setStyleSheet(_BAD if bad else "")

    def show_hint(self, text: str, button: str = "") -> None:
        """Show a sentence with a button, or nothing for ""."""
        self.hint.setText(text)
        self.hint.setVisible(bool(text))
        self.hint_button.setText(button)
        self.hint_button.setVisible(bool(text and button))

    def show_open(self, is_open: bool, is_live: bool) -> None:
        """Turn the parts on that a session needs.

        Parameters
        ----------
        is_open : bool
            Whether one is there or on its way.
        is_live : bool
            Whether it is there.
        """
        self.show_button.setText("Hide prompts" if is_open else "Show prompts")
        self.region.setEnabled(not is_open)
        self.live_part.setEnabled(is_live)

    def show_history(self, undo: str, redo: str) -> None:
        """Say what undo and redo would do; "" for nothing."""
        for button, word, what in (
            (self.undo_button, "Undo", undo),
            (self.redo_button, "Redo", redo),
        ):
            button.setEnabled(bool(what))
            button.setText(f"{word} {_short(what)}" if what else word)
            button.setToolTip(f"{word}: {what}" if what else f"There is nothing to {word.lower()}.")

    def show_modalities(self, modalities: Sequence[str], current: str, compared: str) -> None:
        """Offer modalities, and the others for a comparison."""
        others = [name for name in modalities if name != current]
        _fill(self.modality, list(modalities), current)
        _fill(self.compare, [_NOTHING, *others], compared or _NOTHING)
        self.compare.setEnabled(bool(others))

    @property
    def compared(self) -> str:
        """The modality to compare with; "" for none."""
        text = self.compare.currentText()
        return "" if text == _NOTHING else text

    def show_tool(self, tool: str) -> None:
        """Press the button of the tool in the user's hand; "" for none."""
        for name, button in self.tool_buttons.items():
            button.setChecked(name == tool)

    def show_planes(self, letters: str, ahead: str) -> None:
        """Offer what stacks need: axes of planes, and those along which there is a next one."""
        for letter, button in self.copy_buttons.items():
            button.setVisible(letter in letters)
            button.setEnabled(letter in ahead)
        for button in (self.run_button, self.stop_button):
            button.setVisible(bool(letters))

    def _explain(self) -> None:
        self.show_button.setToolTip(
            "Show where the model looks by itself, to correct it: the labels follow at once."
        )
        self.region.addItems(list(CHOICES))
        self.region.setToolTip("The part of each plane to work on.")
        self.hint_button.setToolTip("Do what the sentence above offers.")
        self.hint.setVisible(False)
        self.hint_button.setVisible(False)
        for tool, button in self.tool_buttons.items():
            button.setCheckable(True)
            button.setToolTip(_TOOL_TIPS[tool])
            button.setMinimumWidth(40)
        for letter, next_one in (("Z", "next plane"), ("T", "next time point")):
            self.copy_buttons[letter].setText(f"Copy edits to the {next_one}")
            self.copy_buttons[letter].setToolTip(
                f"Give the {next_one} the edited cells of this one, and go there."
            )
        self.run_button.setToolTip("Compute the labels of all planes, the nearest first.")
        self.stop_button.setToolTip("Keep up to date only the planes that have labels.")
        self.modality.setToolTip("Decode as another kind of image; edits are kept.")
        self.compare.setToolTip("Show what another modality would find, as outlines.")
        self.confidence.setToolTip(
            "Add a layer: pink where the model is in doubt, clear where it is sure."
        )
        self.save_button.setToolTip(
            "Write edits and settings into a small file; dropped into napari, or given to "
            "`napari-espmedsam segment --prompts`, it gives these very labels again."
        )
        self.load_button.setToolTip("Take over edits and settings from a file.")
        for box in (self.region, self.modality, self.compare):
            box.setMinimumWidth(80)
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            ignore_wheel(box)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 4, 0)
        top = form_layout(layout)
        top.addRow(QLabel("Region"), self.region)
        layout.addWidget(self.show_button)
        for widget in (self.status, self.hint, self.hint_button):
            layout.addWidget(widget)
        layout.addWidget(self.live_part)
        live = QVBoxLayout(self.live_part)
        live.setContentsMargins(0, 0, 0, 0)
        note = new_note()
        note.setText(f"Click a cell, or paint with napari's brush and eraser.<br>{_LEGEND}")
        live.addWidget(note)
        live.addLayout(_row(*self.tool_buttons.values()))
        live.addLayout(_row(self.undo_button, self.redo_button))
        for button in self.copy_buttons.values():
            live.addWidget(button)
        live.addLayout(_row(self.run_button, self.stop_button))
        choices = form_layout(live)
        choices.addRow(QLabel("Modality"), self.modality)
        choices.addRow(QLabel("Compare with"), self.compare)
        live.addWidget(self.controls)
        live.addWidget(self.confidence)
        live.addLayout(_row(self.save_button, self.load_button))
        layout.addWidget(self.keys_part)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.addWidget(Scroll(content))


def _group(parent: QWidget, buttons: Iterable[QPushButton]) -> QButtonGroup:
    group = QButtonGroup(parent)
    group.setExclusive(False)
    for button in buttons:
        group.addButton(button)
    return group


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        widget.setMinimumWidth(40)
        row.addWidget(widget)
    return row


def _fill(box: QComboBox, names: list[str], current: str) -> None:
    """Set the choices of a box without a word."""
    with QSignalBlocker(box):
        if [box.itemText(i) for i in range(box.count())] != names:
            box.clear()
            box.addItems(names)
        box.setCurrentText(current)


def _short(text: str, length: int = 16) -> str:
    text = text[:1].lower() + text[1:]
    return text if len(text) <= length else f"{text[: length - 1]}…"

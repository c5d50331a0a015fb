"""Rows of a form: a caption and an editor side by side, or a note across both."""

from __future__ import annotations

from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible


class Rows:
    """Rows of a form layout that can be hidden with their captions."""

    def __init__(self, layout: QFormLayout) -> None:
        self._layout = layout
        self._labels: dict[int, QLabel] = {}

    def add(self, label: QLabel, editor: QWidget) -> None:
        """Add one row."""
        self._layout.addRow(label, editor)
        self._labels[id(editor)] = label

    def span(self, widget: QWidget) -> None:
        """Add a row without a caption."""
        self._layout.addRow(widget)

    def set_visible(self, editor: QWidget, visible: bool) -> None:
        """Show or hide an editor with its caption."""
        editor.setVisible(visible)
        self._labels[id(editor)].setVisible(visible)


def form_layout(parent: QVBoxLayout | QWidget) -> QFormLayout:
    """Return a new form layout inside a widget or below what another layout holds."""
    layout = QFormLayout()
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    if isinstance(parent, QWidget):
        parent.setLayout(layout)
    else:
        parent.addLayout(layout)
    return layout


def new_note() -> QLabel:
    """Return a label for a sentence or two, which wraps."""
    note = QLabel()
    note.setWordWrap(True)
    return note


def tight(part: QCollapsible) -> QCollapsible:
    """Give a folded part the margins of the form."""
    inner = part.layout()
    if inner is not None:
        inner.setContentsMargins(0, 4, 0, 0)
    return part

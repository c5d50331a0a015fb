"""What the review can ask for beside the scores of the plane on the screen."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QPushButton, QVBoxLayout, QWidget

from napari_espmedsam.widgets.rows import new_note

_NO_SESSION = "Scores are given while the prompts of the image are shown (tab Prompts)."
_COMPARE = (
    "Let {other} segment the plane as well, in the background, and tell for each object which "
    "share of it that model marks too (column 'Other model'). What both find is less doubtful."
)
_ALL = (
    "Score the objects of every plane in the background, the one on the screen first. Planes that "
    "have no labels yet are segmented."
)


class ScorePart(QWidget):
    """A box and a button.

    Attributes
    ----------
    compare_wanted : Signal(bool)
        Ask another model as well, or no longer.
    all_wanted : Signal(bool)
        Score all planes, or stop that.
    """

    compare_wanted = Signal(bool)
    all_wanted = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.compare = QCheckBox()
        self.all_button = QPushButton()
        self.note = new_note()
        self._scores_all = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.compare, self.all_button, self.note):
            layout.addWidget(widget)
        self.compare.clicked.connect(self.compare_wanted)
        self.all_button.clicked.connect(self._on_all)
        self.say("")
        self.show_none()

    def show_none(self) -> None:
        """Turn all off: there is no live session on the labels."""
        self._show_compare("Compare with another model", _NO_SESSION, possible=False)
        self.all_button.setVisible(True)
        self.show_progress(None)
        self.all_button.setEnabled(False)
        self.all_button.setToolTip(_NO_SESSION)

    def show_session(
        self, other: str | None, modality: str, n_planes: int, *, compares: bool
    ) -> None:
        """Show what a session offers.

        Parameters
        ----------
        other : str or None
            The model to compare with; None where there is none.
        modality : str
            Modality of the session.
        n_planes : int
            Number of planes.
        compares : bool
            Whether the other model is asked.
        """
        if other is None:
            reason = f"No other model that comes with the plugin knows {modality}."
            self._show_compare("Compare: no other model", reason, possible=False)
        else:
            text = f"Compare with {other}"
            self._show_compare(text, _COMPARE.format(other=other), possible=True, on=compares)
        self.all_button.setVisible(n_planes > 1)
        self.all_button.setEnabled(True)

    def show_progress(self, progress: tuple[int, int] | None) -> None:
        """Show how many planes out of how many are scored; None while not all are wanted."""
        self._scores_all = progress is not None
        text = "Score all planes"
        if progress is not None:
            text = f"Stop scoring ({progress[0]} of {progress[1]} planes)"
        self.all_button.setText(text)
        self.all_button.setToolTip(_ALL if progress is None else "Keep the scores so far.")

    def say(self, text: str) -> None:
        """Say what stands in the way; "" for nothing."""
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _show_compare(self, text: str, tip: str, *, possible: bool, on: bool = False) -> None:
        with QSignalBlocker(self.compare):
            self.compare.setText(text)
            self.compare.setToolTip(tip)
            self.compare.setEnabled(possible)
            self.compare.setChecked(on)

    def _on_all(self) -> None:
        self.all_wanted.emit(not self._scores_all)

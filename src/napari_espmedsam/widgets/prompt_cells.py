"""What a layer of prompt cells means: from painted numbers to edits. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED
from napari_espmedsam.studio.events import PromptView
from napari_espmedsam.widgets.canvas_place import Box, CanvasPlace

MODEL_OFF, MODEL_ON, USER_ON, USER_OFF = 0, 1, 2, 3
"""Values of a cell in the layer, as ``PromptView.state`` gives them."""

States = npt.NDArray[np.uint8]
Edits = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Painting:
    """What was painted since the last look.

    Attributes
    ----------
    box
        Rows and columns that hold all of it.
    edits
        (rows, cols) int8 of the box: -1, 0 and 1, those that were there before included; None if
        nothing is different by it (an eraser went over a cell that was off by hand).
    corrected
        Whether cells had to be given the colour of what they mean now.
    """

    box: Box
    edits: Edits | None
    corrected: bool


class PromptCells:
    """The cells of the plane on the screen.

    Parameters
    ----------
    view
        As the session gave it.
    place
        Axes and place of the layer.

    Attributes
    ----------
    state
        (rows, cols) uint8: the view's cells, and what the user has painted on them since.
    """

    def __init__(self, view: PromptView, place: CanvasPlace) -> None:
        self.view, self.place, self.state = view, place, view.state.copy()

    def is_on_grid_of(self, other: PromptView) -> bool:
        """Whether another view has the same cells."""
        own = (self.view.state.shape, self.view.scale, self.view.translate)
        return own == (other.state.shape, other.scale, other.translate)

    def in_layer(self, data: Any) -> States | None:
        """Return the layer's data as (rows, cols), to be written to; None if it is another's."""
        if not isinstance(data, np.ndarray) or data.ndim != len(self.place.axes):
            return None
        picture = self.place.to_picture(data)
        return picture if picture.shape == self.state.shape else None

    def take(self, painted: States) -> Painting | None:
        """Find what was painted; None for nothing.

        0 and 3 (off by hand) mean off, any other number on. The painted cells are corrected in
        place to 2 and 3.
        """
        changed = painted != self.state
        if not changed.any():
            return None
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        part, state, changed = painted[box], self.state[box], changed[box]
        before = _edits_of(state)
        off = (part == MODEL_OFF) | (part == USER_OFF)
        edits = np.where(changed, np.where(off, OFF, ON), before).astype(np.int8)
        state[...] = np.where(changed, np.where(off, USER_OFF, USER_ON), state)
        corrected = not np.array_equal(part, state)
        part[...] = state
        return Painting(box, None if np.array_equal(before, edits) else edits, corrected)

    def toggled(self, cell: tuple[int, int]) -> int | None:
        """Return what a click makes of a cell: 2 or 3; None outside."""
        if not all(0 <= i < n for i, n in zip(cell, self.state.shape, strict=True)):
            return None
        return USER_OFF if self.state[cell] in (MODEL_ON, USER_ON) else USER_ON


def _edits_of(state: States) -> Edits:
    edits = np.full(state.shape, UNTOUCHED, np.int8)
    edits[state == USER_ON] = ON
    edits[state == USER_OFF] = OFF
    return edits

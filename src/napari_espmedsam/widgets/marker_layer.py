"""A points or shapes layer of napari as a list of markers that are on or off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Points, Shapes

from napari_espmedsam.inference.prompts import OFF, ON
from napari_espmedsam.widgets.canvas_place import set_place
from napari_espmedsam.widgets.layers import Geometry
from napari_espmedsam.widgets.undo_keys import unbind_undo

COLOURS = {ON: "#2ee66b", OFF: "#ff4d5e"}

_SIGN = "prompt"
_WORDS = {ON: "on", OFF: "off"}
_LEAST_SIZE = 5.0  # px of the image

Report = Callable[["MarkerLayer", list[int]], object]


def new_points(name: str, ndim: int, cell: float, **arguments: Any) -> Any:
    """Return an empty layer for points on cells of a size in px."""
    return Points(
        np.zeros((0, ndim)),
        name=name,
        features={_SIGN: np.array([], dtype=object)},
        size=max(cell / 2, _LEAST_SIZE),
        border_color="white",
        **arguments,
    )


def new_boxes(name: str, ndim: int, cell: float, **arguments: Any) -> Any:
    """Return an empty layer for rectangles on cells of a size in px."""
    return Shapes(
        ndim=ndim,
        name=name,
        features={_SIGN: np.array([], dtype=object)},
        edge_width=max(cell, _LEAST_SIZE) / 16,
        **arguments,
    )


class MarkerLayer:
    """What both kinds of layers have in common.

    Parameters
    ----------
    layer
        From :func:`new_points` or :func:`new_boxes`.

    Attributes
    ----------
    layer
        As given.
    sign
        What the next marker means: `ON` or `OFF`.
    added, removed
        Called with this object and the numbers of markers that were added, or that the user is
        about to remove.
    mode_changed
        Called when another tool of the layer was chosen.
    """

    added: Report | None = None
    removed: Report | None = None
    mode_changed: Callable[[], object] | None = None

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.sign = ON
        self._is_points = isinstance(layer, Points)
        self._count = 0
        self._own = False
        layer.events.data.connect(self._on_data)
        layer.events.mode.connect(self._on_mode)

    def __len__(self) -> int:
        """Count the markers."""
        return len(self.layer.data)

    @property
    def word(self) -> str:
        """What one marker is called."""
        return "point" if self._is_points else "box"

    @property
    def is_drawing(self) -> bool:
        """Whether the layer's tool makes markers."""
        return str(self.layer.mode) == ("add" if self._is_points else "add_rectangle")

    @property
    def is_growing(self) -> bool:
        """Whether a box is under the mouse that is not done yet: nothing is to be removed then."""
        return len(self) > self._count

    def draw(self, sign: int) -> None:
        """Choose the tool that makes markers of a sign."""
        self.sign, colour = sign, COLOURS[sign]
        self.layer.selected_data = set()  # a selected marker would change its colour with it
        self.layer.feature_defaults = {_SIGN: _WORDS[sign]}
        if self._is_points:
            self.layer.current_face_color = colour
        else:
            self.layer.current_edge_color = colour
            self.layer.current_face_color = colour + "30"  # nearly transparent
        self.layer.mode = "add" if self._is_points else "add_rectangle"

    def sign_of(self, i: int) -> int:
        """Return whether a marker is `ON` or `OFF`."""
        return OFF if self.layer.features[_SIGN].iloc[i] == _WORDS[OFF] else ON

    def corners(self, i: int, axes: str) -> npt.NDArray[np.float64]:
        """Return what a marker covers as (n, 2) rows and columns of its corners, or its point."""
        vertices = np.atleast_2d(np.asarray(self.layer.data[i], dtype=float))
        return vertices[:, [axes.index("Y"), axes.index("X")]]

    def index(self, i: int, axes: str) -> tuple[int, ...]:
        """Return the plane that a marker is on."""
        vertex = np.atleast_2d(np.asarray(self.layer.data[i], dtype=float))[0]
        return tuple(
            round(float(x)) for x, letter in zip(vertex, axes, strict=True) if letter in "TZ"
        )

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove markers without a word."""
        if not numbers:
            return
        self._own = True
        try:
            self.layer.remove(list(numbers))
        finally:
            self._own = False
            self._count = len(self)

    def place_on(self, geometry: Geometry) -> None:
        """Move the layer."""
        set_place(self.layer, geometry)

    def let_go(self) -> None:
        """Forget the layer: nothing is reported any more."""
        self.added = self.removed = self.mode_changed = None
        self.layer.events.data.disconnect(self._on_data)
        self.layer.events.mode.disconnect(self._on_mode)
        unbind_undo(self.layer)

    def _on_data(self, event: Any) -> None:
        if self._own:
            return
        action = str(getattr(event, "action", ""))
        if action == "removing" and self.removed is not None:
            self.removed(self, [int(i) for i in event.data_indices])
        # napari also says "added" where a drawing merely ends, so the count decides.
        before, self._count = self._count, len(self)
        if action == "added" and self._count > before and self.added is not None:
            self.added(self, list(range(before, self._count)))

    def _on_mode(self, _event: Any = None) -> None:
        if self.mode_changed is not None:
            self.mode_changed()

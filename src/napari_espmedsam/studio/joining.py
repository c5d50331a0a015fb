"""Joins the objects of a session through Z or T. For the worker thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.anchors import first_pixels
from napari_espmedsam.studio.tasks import Steps, Tasks

if TYPE_CHECKING:
    from napari_espmedsam.inference.image import PlaneStack
    from napari_espmedsam.studio.renderer import Renderer


class Joiner:
    """Gives objects that belong together one id.

    Parameters
    ----------
    stack : PlaneStack
        The image.
    renderer, tasks
        The parts of the session.
    """

    def __init__(self, stack: PlaneStack, renderer: Renderer, tasks: Tasks) -> None:
        self._stack = stack
        self._renderer, self._tasks = renderer, tasks

    def join(self, axis: str, min_overlap: float) -> Steps:
        """Join the objects of the planes that are shown, once all are up to date.

        An object keeps the id of its first part. Later edits keep these ids; joining is no step
        of the history.
        """
        from napari_espmedsam.inference.linking import link_stack

        yield from self._tasks.everything("link")
        shape = (*self._stack.leading_shape, *self._stack.plane_shape)
        labels = np.zeros(shape, np.uint32)
        planes = sorted(self._renderer.planes())
        for plane in planes:
            shown = self._renderer.shown(plane)
            if shown is not None:
                labels[self._stack.index(plane)] = shown.labels
                if shown.target.plan.post.output == "mask":
                    raise InputError(
                        "The output is a mask, which has no objects to link. Choose objects or "
                        "split."
                    )
        axes = self._stack.leading_axes + "YX"
        linked = link_stack(labels, axes, axis, min_overlap=min_overlap)
        yield None
        first: dict[int, int] = {}
        for plane in planes:
            index = self._stack.index(plane)
            table = {}
            for own, y, x in first_pixels(labels[index]).tolist():
                table[own] = first.setdefault(int(linked[index][y, x]), own)
            if any(old != new for old, new in table.items()):
                yield self._tasks.ready(plane, self._renderer.rename(plane, table))

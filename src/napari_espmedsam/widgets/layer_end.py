"""The end of layers of ours in a viewer, also where handlers of others fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any


class LayerEnd:
    """Calls a function once, when a layer is no longer in the viewer's list.

    A handler of the event ``removed`` is not called where an earlier handler raises, and
    ``viewer.layers[i] = other`` sends ``changed`` in its place. So :meth:`check` is to be called
    before the layer is worked on.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    layer
        A layer in it.
    call
        The function, called without arguments.
    """

    def __init__(self, viewer: Any, layer: Any, call: Callable[[], object]) -> None:
        self._viewer, self._layer = viewer, layer
        self._call: Callable[[], object] | None = call
        events = viewer.layers.events
        self._emitters = (events.removed, events.changed)
        for emitter in self._emitters:
            emitter.connect(self.check)

    def check(self, _event: Any = None) -> None:
        """Look whether the layer is there, and call the function where it is not."""
        call = self._call
        if call is not None and self._layer not in self._viewer.layers:
            self.close()
            call()

    def close(self) -> None:
        """Look no longer, and let go of the layer."""
        if self._call is None:
            return
        self._call = self._layer = None
        for emitter in self._emitters:
            emitter.disconnect(self.check)


def take_away(viewer: Any, layers: Iterable[Any]) -> None:
    """Remove those of some layers that are in a viewer.

    All of them go, also where somebody's handler of a removal raises; that is raised in the end.
    """
    with ExitStack() as stack:
        for layer in layers:
            if layer in viewer.layers:
                stack.callback(viewer.layers.remove, layer)

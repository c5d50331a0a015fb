"""The labels layers that a form has made: written plane by plane, in the GUI thread only."""

from __future__ import annotations

import time
import zlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_espmedsam.inference.results import PlaneResult
from napari_espmedsam.widgets.layers import METADATA_KEY, ResultPlan

_LEAST_PAUSE = 0.1  # s between two redraws
_PAUSE_PER_COST = 4.0  # redrawing takes at most a fifth of the GUI thread


@dataclass(eq=False)
class OwnLayer:
    """A labels layer of ours, and what we last wrote into it.

    Attributes
    ----------
    layer
        The ``napari.layers.Labels``.
    key
        Image and settings that it was made from.
    checksums
        CRC-32 of each plane as we left it, by its index along the leading axes.
    """

    layer: Any
    key: Hashable
    checksums: dict[tuple[int, ...], int] = field(default_factory=dict)


class ResultBook:
    """Our layers in one viewer.

    A run over all planes gets a new layer. A run over one plane goes on in the layer of the same
    image and settings, so that a stack can be done plane by plane, but never over a plane that
    somebody has edited.

    Parameters
    ----------
    viewer
        The ``napari.Viewer`` whose layers are looked at.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._own: list[OwnLayer] = []
        viewer.layers.events.removed.connect(self._forget)

    def find(self, key: Hashable, plan: ResultPlan, index: tuple[int, ...]) -> OwnLayer | None:
        """Return the layer that one more plane may be written into, if there is one."""
        return next(
            (own for own in self._own if own.key == key and _is_free(own, plan, index)), None
        )

    def add(self, key: Hashable, plan: ResultPlan, name: str) -> OwnLayer:
        """Add an empty labels layer at the place of the image and remember it."""
        layer = self._viewer.add_labels(
            np.zeros(plan.shape, dtype=np.uint32), name=name, **plan.geometry.layer_arguments()
        )
        own = OwnLayer(layer, key)
        self._own.append(own)
        return own

    def holds(self, own: OwnLayer) -> bool:
        """Whether the layer is still in the viewer."""
        return own.layer in self._viewer.layers

    def _forget(self, _event: Any = None) -> None:
        """Let go of layers that the user has deleted: they may be large."""
        self._own = [own for own in self._own if own.layer in self._viewer.layers]


class ResultWriter:
    """Writes the planes of one run into one layer, which is made when the first plane arrives.

    Parameters
    ----------
    book
        Our layers in the viewer.
    plan
        Shape, axes and place of the labels.
    key
        Image and settings of the run.
    name
        Name of a new layer.
    image_name
        Name of the image layer, for the record in the layer's metadata.
    is_mask
        Whether foreground is 1 everywhere rather than numbered objects.
    own
        A layer of an earlier run to go on in.
    """

    def __init__(
        self,
        book: ResultBook,
        plan: ResultPlan,
        key: Hashable,
        name: str,
        image_name: str,
        is_mask: bool,
        own: OwnLayer | None = None,
    ) -> None:
        self._book, self._plan, self._key, self._name = book, plan, key, name
        self._image_name, self._is_mask = image_name, is_mask
        self._own = own
        self._continues = own is not None
        self._provenance: dict[str, Any] = {}
        self._redraw_after = 0.0
        self.planes_done = 0
        self.n_planes = 0
        self.objects = 0

    @property
    def layer(self) -> Any | None:
        """The labels layer; None before the first plane, or when the user has deleted it."""
        if self._own is None or not self._book.holds(self._own):
            return None
        return self._own.layer

    @property
    def is_orphan(self) -> bool:
        """Whether the layer was deleted while the run went on."""
        return self._own is not None and self.layer is None

    def write(self, result: PlaneResult) -> None:
        """Write one plane and show it; makes the layer first where there is none."""
        if self._own is None:
            self._own = self._book.add(self._key, self._plan, self._name)
        layer = self.layer
        if layer is None:
            return
        labels = result.labels
        view = _plane(layer.data, self._plan, result.index)
        if self._continues and not self._is_mask:
            labels = _renumber(layer.data, view, labels)
        view[...] = labels
        self._own.checksums[result.index] = _checksum(view)
        self._provenance = result.provenance
        self.planes_done, self.n_planes = self.planes_done + 1, result.n_planes
        self.objects += int(np.count_nonzero(np.unique(labels)))
        self._record("running")
        self._redraw()

    def end(self, status: str) -> None:
        """Write how the run ended into the layer's metadata and show the last plane."""
        if self.layer is None:
            return
        self._record(status)
        self._redraw(now=True)

    def _record(self, status: str) -> None:
        layer = self.layer
        if layer is None or self._own is None:
            return
        record = {**self._provenance, "image": self._image_name, "status": status}
        record["planes_done"] = sorted(list(index) for index in self._own.checksums)
        layer.metadata = {**layer.metadata, METADATA_KEY: record}

    def _redraw(self, *, now: bool = False) -> None:
        """Refresh the layer, rarely enough to keep the window responsive (3D views are slow)."""
        start = time.monotonic()
        layer = self.layer
        if layer is None or (start < self._redraw_after and not now):
            return
        layer.refresh()
        end = time.monotonic()
        self._redraw_after = end + max(_LEAST_PAUSE, _PAUSE_PER_COST * (end - start))


def _plane(data: Any, plan: ResultPlan, index: tuple[int, ...]) -> Any:
    letters = [letter for letter in plan.axes if letter not in "CYX"]
    return plan.plane_of(data, dict(zip(letters, index, strict=True)))


def _is_free(own: OwnLayer, plan: ResultPlan, index: tuple[int, ...]) -> bool:
    """Whether a plane is as we left it: empty, or with our own result."""
    layer = own.layer
    if layer.data.shape != plan.shape or not isinstance(layer.data, np.ndarray):
        return False
    view = _plane(layer.data, plan, index)
    if index in own.checksums:
        return _checksum(view) == own.checksums[index]
    return not view.any()


def _checksum(view: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(view).tobytes())


def _renumber(data: Any, view: Any, labels: Any) -> Any:
    """Number the objects of one more plane on from those in the other planes."""
    old = view.copy()
    view[...] = 0
    taken = data.max()
    view[...] = old
    return np.where(labels > 0, labels + taken, 0).astype(np.uint32)

"""From what the user decided to labels on the screen, plane by plane. For the worker thread.

Other threads may only read what is shown. Generators pause after each tile: they yield the number
of a tile that was encoded, and None after one that was decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_espmedsam.studio.document import Document, Labels, Target, encoding_key
from napari_espmedsam.studio.naming import Names, renumber

if TYPE_CHECKING:
    from napari_espmedsam.inference.live import LivePlane
    from napari_espmedsam.inference.plan import RunPlan
    from napari_espmedsam.studio.planes import PlaneCache


@dataclass(frozen=True, eq=False)
class Shown:
    """The labels of a plane, and what they came from.

    Attributes
    ----------
    labels : ndarray
        (H, W) uint32, read-only.
    target : Target
        Settings, edits and locked objects.
    """

    labels: Labels
    target: Target


class Renderer:
    """Brings planes to their targets.

    Parameters
    ----------
    document : Document
        Says what the targets are.
    cache : PlaneCache
        Encoded planes.
    """

    def __init__(self, document: Document, cache: PlaneCache) -> None:
        self.cache = cache
        self.names = Names()
        self._document = document
        self._lock = threading.Lock()
        self._shown: dict[int, Shown] = {}
        self._failed: dict[int, Target] = {}

    def shown(self, plane: int) -> Shown | None:
        """What is shown of a plane; None for nothing."""
        with self._lock:
            return self._shown.get(plane)

    def planes(self) -> set[int]:
        """Planes that have labels."""
        with self._lock:
            return set(self._shown)

    def is_current(self, plane: int) -> bool:
        """Whether the labels of a plane are what its user wants."""
        shown = self.shown(plane)
        return shown is not None and shown.target.is_same(self._document.target(plane))

    def has_failed(self, plane: int) -> bool:
        """Whether it was tried in vain to show what is wanted."""
        failed = self._failed.get(plane)
        return failed is not None and failed.is_same(self._document.target(plane))

    def note_failure(self, plane: int) -> None:
        """Do not try again before anything has changed."""
        self._failed[plane] = self._document.target(plane)

    def update(self, plane: int) -> Generator[int | None, None, Shown]:
        """Bring the labels of a plane up to date; those that are already stay as they are."""
        target = self._document.target(plane)
        shown = self.shown(plane)
        if shown is not None and shown.target.is_same(target):
            return Shown(shown.labels, target)  # these labels know of all revisions up to now
        decoded = self.cache.labels(target, plane)
        if decoded is None:
            live, target = yield from self.bring(plane)
            decoded = live.labels(target.plan.post)
        shown = Shown(self.names.settle(plane, target, decoded), target)
        self.put(plane, shown)
        return shown

    def bring(
        self, plane: int, plan: RunPlan | None = None
    ) -> Generator[int | None, None, tuple[LivePlane, Target]]:
        """Encode and decode a plane for what is wanted by then.

        Parameters
        ----------
        plane : int
            Number of the plane.
        plan : RunPlan, optional
            Settings to decode under, instead of those of the document.
        """
        while True:
            target = self._document.target(plane, plan)
            live = yield from self.cache.live(target.plan, plane)
            latest = self._document.target(plane, plan)
            if encoding_key(latest.plan) != encoding_key(target.plan):
                continue
            live.set_edits(live.canvas.empty() if latest.edits is None else latest.edits)
            live.set_prompt_threshold(latest.plan.prompt_threshold)
            if not live.stale:
                live.refresh()
                self.cache.note_decoded(latest, plane)
                return live, latest
            self.cache.note_change(latest.plan, plane)
            live.decode_next()
            yield None  # whatever was edited meanwhile is taken up

    def put(self, plane: int, shown: Shown) -> None:
        """Show labels."""
        with self._lock:
            self._shown[plane] = shown

    def rename(self, plane: int, table: dict[int, int]) -> Shown:
        """Give the objects of a plane other ids, locked ones among them."""
        shown = self._shown[plane]
        rename = renumber(table)
        before, after = self._document.rename(plane, rename)
        target = after if shown.target.is_same(before) else shown.target
        labels = rename(shown.labels)
        labels.flags.writeable = False
        self.names.rename(plane, target, labels)
        renamed = Shown(labels, target)
        self.put(plane, renamed)
        return renamed

    def forget(self) -> None:
        """Show nothing any more."""
        with self._lock:
            self._shown.clear()
        self._failed.clear()
        self.names = Names()

    def clear(self) -> None:
        """Free all memory."""
        self.forget()
        self.cache.clear()

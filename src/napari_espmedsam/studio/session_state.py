"""What a session is made of, what can be read of it at any time, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from napari_espmedsam.inference.prompts import Edits, PromptCanvas
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.document import Document, Labels
from napari_espmedsam.studio.events import Event
from napari_espmedsam.studio.planes import MAX_BYTES
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.settings import settle
from napari_espmedsam.studio.source import Source
from napari_espmedsam.studio.view import View
from napari_espmedsam.studio.workshop import Workshop

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.model.header import CheckpointHeader


class SessionState:
    """The parts of a session without what its user changes; see :class:`~.session.Session`."""

    def __init__(
        self,
        segmenter: Segmenter,
        image: Any,
        settings: SegmentRequest,
        on_event: Callable[[Event], object],
        *,
        region: Region | None = None,
        max_bytes: int = MAX_BYTES,
        advise: bool = True,
    ) -> None:
        self._source = Source(segmenter, image, settings.validate(), region)
        settled = settle(segmenter.header, settings, self._source.worked)
        self._document = Document(self._source.plan, settled)
        self._view = View(self._source.worked, self._source.offset)
        self._workshop = Workshop(
            self._source, self._document, self._view, on_event, max_bytes=max_bytes, advise=advise
        )

    @property
    def settings(self) -> SegmentRequest:
        """The settings that hold now."""
        return self._document.settings

    @property
    def header(self) -> CheckpointHeader:
        """What the model says of itself: its modalities, thresholds, licence."""
        return self._source.header

    @property
    def canvas(self) -> PromptCanvas:
        """The prompt cells of each plane under the settings; its pixels are those of the region."""
        return self._document.plan.canvas

    @property
    def region(self) -> Region | None:
        """Part of each plane that is worked on; None for all of it."""
        return self._source.region

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the image where the region begins."""
        return self._source.offset

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the axes over which planes are counted, in the image's order."""
        return self._source.worked.leading_shape

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(H, W) of the region, or of the planes."""
        return self._source.worked.plane_shape

    @property
    def n_planes(self) -> int:
        """How many planes there are; they are numbered from 0, the last axis runs fastest."""
        return len(self._source.worked)

    @property
    def visible(self) -> int | None:
        """The plane on the screen; None before the first :meth:`show`."""
        return self._view.visible

    @property
    def revision(self) -> int:
        """How many changes there were; compare with ``PlaneReady.revision``."""
        return self._document.revision

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do."""
        return self._workshop.engine.idle

    def labels(self, plane: int) -> Labels | None:
        """Return the labels of a plane as announced last, (H, W) uint32, read-only, or None."""
        shown = self._workshop.renderer.shown(plane)
        return None if shown is None else shown.labels

    def is_current(self, plane: int) -> bool:
        """Whether the labels of a plane are what settings and edits say by now."""
        return self._workshop.renderer.is_current(plane)

    def edits(self, plane: int) -> Edits:
        """Return the edits of a plane on the canvas, (rows, cols) int8, read-only."""
        edits = self._document.target(plane).edits
        return self.canvas.empty() if edits is None else edits

    def locked(self, plane: int) -> Labels | None:
        """Return the locked objects of a plane, (H, W) uint32, read-only; None for none."""
        return self._document.target(plane).locked

    def locked_planes(self) -> dict[int, Labels]:
        """Return what :meth:`locked` gives for each plane that has locked objects.

        An array stays the same object until its plane is locked otherwise.
        """
        return self._document.locked()

    @property
    def undo_text(self) -> str:
        """What :meth:`undo` would take back; "" for nothing."""
        return self._document.undo_text

    @property
    def redo_text(self) -> str:
        """What :meth:`redo` would do again; "" for nothing."""
        return self._document.redo_text

    # What to look at --------------------------------------------------------------------------

    def show(self, plane: int) -> None:
        """Put a plane on the screen: ``PlaneReady`` comes for it before all others.

        Raises
        ------
        InputError
            If there is no such plane.
        """
        self._view.show(plane)
        self._workshop.update(again=True)

    def run(self, planes: Iterable[int] | None = None) -> None:
        """Ask for the labels of planes, and keep them up to date.

        Parameters
        ----------
        planes : iterable of int, optional
            None for those of the settings, or all. Planes that were shown are always kept.

        Raises
        ------
        InputError
            If there is no such plane.
        """
        if planes is None:
            chosen = self.settings.planes
            planes = range(self.n_planes) if chosen is None else chosen
        self._view.want(planes)
        self._workshop.update()

    def stop(self) -> None:
        """Ask for no planes but those that have labels by now."""
        self._view.keep(self._workshop.renderer.planes())
        self._workshop.update()

    # The end ----------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do, for scripts and tests: a GUI must not.

        Returns
        -------
        bool
            Whether that came within so many seconds.
        """
        return self._workshop.engine.wait(timeout)

    def close(self, wait: bool = False) -> None:
        """End the session: no event comes any more, and its memory is freed.

        Parameters
        ----------
        wait : bool
            Wait until the tile that is being computed is done and the memory is free. Otherwise
            that happens by itself a moment later. The model itself goes with the last one who
            holds the segmenter: drop it before.
        """
        self._workshop.engine.close(wait)

"""One image under one model: edits and settings go in, labels come out by themselves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.linking import MIN_OVERLAP
from napari_espmedsam.inference.prompts import Box
from napari_espmedsam.studio.document import Labels
from napari_espmedsam.studio.locks import add_locks, remove_locks, take_painted
from napari_espmedsam.studio.session_state import SessionState
from napari_espmedsam.studio.settings import check_names, describe_changes, with_modality
from napari_espmedsam.studio.workshop import ADVICE, ASKED, LATER, VISIBLE

if TYPE_CHECKING:
    from napari_espmedsam.studio.record import PromptRecord


class Session(SessionState):
    """Live segmentation of an image.

    Every method returns at once: what has to be read, encoded or decoded is done in a thread of
    the session, and comes back as an event. After :meth:`close` no event comes.

    Parameters
    ----------
    segmenter : Segmenter
        The model. Two sessions may share one; their tiles take turns.
    image : array-like
        See ``Segmenter.segment``. It is read plane by plane and must not change.
    settings : SegmentRequest
        To begin with.
    on_event : callable
        Gets the events of :mod:`napari_espmedsam.studio.events`, in the session's thread. It must
        not wait for another thread.
    region : Region, optional
        Work on this part of each plane as if it were the image: labels, edits and painting are of
        the region then, and events carry its offset.
    max_bytes : int
        Memory for encoded planes.
    advise : bool
        Look, when there is nothing else to do and once for each modality chosen, whether another
        is clearly more confident; see ``ModalitySuggested``.

    Raises
    ------
    InputError, ModalityError
        If image, settings, region and model do not fit.
    """

    # What to change ---------------------------------------------------------------------------

    def edit(
        self,
        plane: int,
        box: Box,
        values: int | npt.ArrayLike,
        *,
        what: str = "Edit prompt",
        stroke: Hashable | None = None,
    ) -> None:
        """Set the edits of a box of prompt cells.

        Parameters
        ----------
        plane : int
            Number of the plane.
        box : tuple of slice
            Rows and columns of :attr:`canvas`; ``canvas.cells_of`` finds those of a rectangle.
        values : int or array-like
            -1 as the model proposes, 0 off, 1 on: one for all cells, or one for each.
        what : str
            Name of the step for an undo menu.
        stroke : hashable, optional
            Edits of the same stroke that follow quickly are one step; see :meth:`seal`.

        Raises
        ------
        InputError
            If plane, box or values do not fit; nothing is changed then.
        """
        self._view.check(plane)
        self._document.edit(plane, box, values, what, stroke)
        self._workshop.update()

    def clear_edits(self, plane: int) -> None:
        """Take away all edits of a plane."""
        self._view.check(plane)
        self._document.replace_edits(plane, None, "Clear prompt edits")
        self._workshop.update()

    def copy_edits(self, source: int, target: int) -> None:
        """Give a plane the edits of another one, in place of its own."""
        self._view.check(source)
        self._view.check(target)
        self._document.replace_edits(target, self.edits(source), "Copy prompt edits")
        self._workshop.update()

    def set(self, name: str, value: Any) -> None:
        """Change one setting; see :meth:`change`."""
        self.change({name: value})

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings as one step. Nothing but modality, channel and scale encodes anew.

        A modality takes settings with it that it has no use for (they become None).

        Raises
        ------
        InputError, ModalityError
            If a value does not fit, or says which model or image it is; nothing is changed then.
        """
        check_names(changes)
        wanted = dict(changes)
        if "modality" in changes:
            settings = replace(self.settings, **changes)
            wanted |= with_modality(self._source.header, settings, changes["modality"])
        if wanted:
            self._document.set(wanted, describe_changes(changes))
            self._workshop.update()

    def undo(self) -> str:
        """Take the last step back; returns what it was, "" if there is none."""
        what = self._document.undo()
        self._workshop.update()
        return what

    def redo(self) -> str:
        """Do the step again that was taken back last; returns what it was, "" if none."""
        what = self._document.redo()
        self._workshop.update()
        return what

    def seal(self) -> None:
        """End a step (the mouse button was released): what follows is undone on its own."""
        self._document.seal()

    # Locked objects ---------------------------------------------------------------------------

    def lock(self, plane: int, ids: Iterable[int] | None = None) -> None:
        """Keep objects as they are shown, pixels and ids, whatever is decoded; all when None.

        Raises
        ------
        InputError
            If the plane has no labels yet, or an id is none.
        """
        labels = self.labels(plane)
        if labels is None:
            raise InputError(f"Plane {plane} has no labels yet. Show it, and lock what comes.")
        chosen = np.unique(labels[labels > 0]) if ids is None else ids
        self._set_locked(plane, add_locks(labels, self.locked(plane), chosen), "Lock")

    def unlock(self, plane: int, ids: Iterable[int] | None = None) -> None:
        """Let decoding change objects again; all when None."""
        locked = self.locked(plane)
        if locked is not None:
            self._set_locked(plane, remove_locks(locked, ids), "Unlock")

    def paint(self, plane: int, before: Labels, after: Labels) -> None:
        """Take over what was painted on labels by hand: the objects it touched become locked.

        Parameters
        ----------
        plane : int
            Number of the plane.
        before, after : ndarray
            (H, W) of the region, the whole plane before and after.

        Raises
        ------
        InputError
            If plane or shapes do not fit.
        """
        self._view.check(plane)
        if after.shape != self.plane_shape:
            raise InputError(
                f"The painted plane has the shape {after.shape}; the session works on "
                f"{self.plane_shape}. Give the labels of that part of the plane."
            )
        output = self.settings.output
        locked = take_painted(before, after, self.locked(plane), output)
        self._set_locked(plane, locked, "Paint")

    def _set_locked(self, plane: int, locked: Labels, what: str) -> None:
        self._document.set_locked(plane, locked, what)
        self._workshop.update()

    # What to ask for --------------------------------------------------------------------------

    def confidence(self, plane: int) -> None:
        """Ask how sure the model is of each pixel: ``ConfidenceReady`` comes."""
        self._view.check(plane)
        work = partial(self._workshop.tasks.confidence, plane)
        self._workshop.ask("confidence", work, ASKED, plane)

    def score(self, plane: int, other: npt.NDArray[np.bool_] | None = None) -> None:
        """Ask for the scores of the objects of a plane: ``ScoresReady`` comes.

        Parameters
        ----------
        plane : int
            Number of the plane.
        other : ndarray, optional
            (H, W) bool of the region: what another model marks as foreground.
        """
        self._view.check(plane)
        work = partial(self._workshop.tasks.scores, plane, other)
        self._workshop.ask("scores", work, ASKED, plane)

    def compare(self, plane: int, modality: str) -> None:
        """Ask what a plane looks like under another modality: ``ComparisonReady`` comes.

        Raises
        ------
        InputError, ModalityError
            If the plane or the modality does not exist, or the image does not suit it.
        """
        self._view.check(plane)
        changes = with_modality(self._source.header, self.settings, modality)
        plan = self._source.plan(replace(self.settings, **changes))
        work = partial(self._workshop.tasks.compare, plane, plan)
        self._workshop.ask("compare", work, ASKED, plane, modality)

    def advise(self, plane: int) -> None:
        """Ask for a modality that is clearly more confident: ``ModalitySuggested`` comes."""
        self._view.check(plane)
        work = partial(self._workshop.adviser.advise, plane)
        self._workshop.ask("advice", work, ADVICE, plane)

    def link(self, axis: str, min_overlap: float = MIN_OVERLAP) -> None:
        """Give objects that overlap from plane to plane one id: ``PlaneReady`` comes for each.

        Parameters
        ----------
        axis : {"Z", "T"}
            Axis to link along.
        min_overlap : float
            Share of the smaller of two objects, 0 to 1, that has to lie on the other.

        Raises
        ------
        InputError
            If the image has no such axis.
        """
        axes = self._source.worked.leading_axes
        if len(axis) != 1 or axis not in axes:
            raise InputError(
                f"axis is {axis!r}, and the planes of this image are counted over {axes or 'none'}."
            )
        self._workshop.ask("link", partial(self._workshop.joiner.join, axis, min_overlap), LATER)

    def record(self, image_name: str = "") -> None:
        """Ask for the session as data, once all is up to date: ``RecordReady`` comes."""
        work = partial(self._workshop.recorder.record, image_name)
        self._workshop.ask("record", work, LATER)

    def restore(self, record: PromptRecord) -> None:
        """Take over a record, in place of all settings, edits and locked objects.

        ``Restored`` comes once the pixels are found to be those of the record; then its planes
        are shown again. Planes that it does not have are forgotten. This cannot be undone.

        Raises
        ------
        InputError
            If the record is of another image, region or model.
        """
        settings = self._workshop.recorder.check(record)
        work = partial(self._workshop.recorder.restore, record, settings)
        self._workshop.ask("restore", work, VISIBLE)

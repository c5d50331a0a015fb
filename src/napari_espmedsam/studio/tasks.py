"""What the worker thread of a session does, as generators that yield events.

A pause (a yield) comes after each tile, so that something more urgent can get in between.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.document import Document, Target
from napari_espmedsam.studio.events import (
    ComparisonReady,
    ConfidenceReady,
    Event,
    Failed,
    PlaneReady,
    Progress,
    PromptView,
    ScoresReady,
)
from napari_espmedsam.studio.renderer import Renderer, Shown
from napari_espmedsam.studio.view import View

if TYPE_CHECKING:
    from napari_espmedsam.inference.live import LivePlane
    from napari_espmedsam.inference.plan import RunPlan
    from napari_espmedsam.inference.prompts import PromptCanvas

AHEAD = 8
"""Planes around the visible one that are encoded before anybody asks for them."""

Steps = Generator[Event | None, None, None]
Result = TypeVar("Result")


class Tasks:
    """The work of a session. Each method is a task; the engine decides which one goes on.

    Parameters
    ----------
    document : Document
        What the user wants.
    view : View
        What the user looks at.
    renderer : Renderer
        Makes labels.
    """

    def __init__(self, document: Document, view: View, renderer: Renderer) -> None:
        self._document = document
        self._view = view
        self._renderer = renderer
        self._announced: tuple[int, Target] | None = None
        self._asked = self._answered = 0  # how often the visible plane was to be shown again

    def show_again(self) -> None:
        """Let the next :meth:`visible` show its plane in any case. From the user's thread."""
        self._asked += 1

    def visible(self) -> Steps:
        """Bring the visible plane up to date, and show it with its prompts.

        Unless it is to be shown again, nothing happens if nothing has changed.
        """
        plane, asked = self._view.visible, self._asked
        if plane is None or not (asked != self._answered or self._has_news(plane)):
            return
        try:
            yield from self._show_visible(plane)
        except Exception as error:
            failure = self._fail("visible", plane, error)
            self._answered = asked  # before it is told: from there on an update may take over
            yield failure
        self._answered = asked

    def others(self) -> Steps:
        """Bring the other planes up to date that have labels or shall have, nearest first.

        An error that comes twice in a row would come for all planes, and ends the task.
        """
        last = ""
        while (plane := self._next_stale()) is not None:
            try:
                yield from self._show("others", plane)
                last = ""
            except Exception as error:
                yield self._fail("others", plane, error)
                if repr(error) == last:
                    return
                last = repr(error)

    def everything(self, task: str) -> Steps:
        """Bring all planes up to date, the visible one first, until nobody changes them."""
        while True:
            plane = self._view.visible
            if plane is not None and not self._is_settled(plane):
                yield from self._show(task, plane)
            elif (stale := self._next_stale()) is not None:
                yield from self._show(task, stale)
            else:
                return

    def ahead(self) -> Steps:
        """Encode the neighbours of the visible plane, as far as there is room."""
        plan, cache = self._document.plan, self._renderer.cache
        for plane in self._view.outwards(range(len(plan.stack)))[1 : AHEAD + 1]:
            if cache.has(plan, plane):
                continue
            if not cache.has_room(plan, plane):
                return
            try:
                yield from self._progress("ahead", plane, cache.live(plan, plane))
            except InputError:
                continue  # nobody asked for it; it is told when it is shown
            except Exception:
                return  # nor is a disk or a device that fails: it may for all planes

    def confidence(self, plane: int) -> Steps:
        """Tell how sure the model is of each pixel of a plane."""
        from napari_espmedsam.inference.trust import confidence

        live, _ = yield from self._current("confidence", plane)
        yield ConfidenceReady(plane, self._view.offset, _frozen(confidence(live.probability)))

    def scores(self, plane: int, other: npt.NDArray[np.bool_] | None) -> Steps:
        """Score the objects of a plane."""
        from napari_espmedsam.inference.trust import object_scores

        live, shown = yield from self._current("scores", plane)
        on = cells_on_image(live.canvas, np.isin(live.prompt_shown, (1, 2)))
        yield ScoresReady(plane, object_scores(shown.labels, live.probability, on, other))

    def compare(self, plane: int, plan: RunPlan) -> Steps:
        """Decode a plane under the plan of another modality, without showing it."""
        yield from self._show("compare", plane)
        steps = self._renderer.bring(plane, plan)
        live, target = yield from self._progress("compare", plane, steps, plan)
        decoded = live.labels(target.plan.post)
        labels = _frozen(self._renderer.names.match(plane, decoded, plan.post.output))
        index = plan.stack.index(plane)
        yield ComparisonReady(plane, index, self._view.offset, plan.modality, labels)

    def _has_news(self, plane: int) -> bool:
        if self._renderer.has_failed(plane):
            return False
        target = self._document.target(plane)
        known = self._announced
        return known is None or known[0] != plane or not known[1].is_same(target)

    def _show_visible(self, plane: int) -> Steps:
        """Show labels and prompts; labels alone at first where features have to be made again."""
        before = self._renderer.shown(plane)
        shown = yield from self._progress("visible", plane, self._renderer.update(plane))
        has_features = self._renderer.cache.has(shown.target.plan, plane)
        if not has_features and (before is None or before.labels is not shown.labels):
            yield self.ready(plane, shown)
        live, target = yield from self._progress("visible", plane, self._renderer.bring(plane))
        if shown.target.is_same(target):  # else another task is on its way
            self._announced = plane, target
            yield self.ready(plane, shown, self._prompts(live))
            self._renderer.names.tidy()

    def _show(self, task: str, plane: int) -> Generator[Event | None, None, Shown]:
        """Bring a plane up to date; new labels are announced."""
        before = self._renderer.shown(plane)
        shown = yield from self._progress(task, plane, self._renderer.update(plane))
        if before is None or before.labels is not shown.labels:
            yield self.ready(plane, shown)
        return shown

    def _current(
        self, task: str, plane: int
    ) -> Generator[Event | None, None, tuple[LivePlane, Shown]]:
        """Bring a plane and its features up to date."""
        while True:
            shown = yield from self._show(task, plane)
            live, target = yield from self._progress(task, plane, self._renderer.bring(plane))
            if shown.target.is_same(target):
                return live, shown

    def _progress(
        self,
        task: str,
        plane: int,
        steps: Generator[int | None, None, Result],
        plan: RunPlan | None = None,
    ) -> Generator[Event | None, None, Result]:
        """Tell how far an encoding is."""
        while True:
            try:
                tile = next(steps)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            if tile is None:
                yield None
                continue
            wanted = self._wanted()
            done = sum(map(self._renderer.is_current, wanted))
            n_tiles = len((plan or self._document.plan).geometry.grid)
            yield Progress(task, plane, tile, n_tiles, done, len(wanted))

    def ready(self, plane: int, shown: Shown, prompts: PromptView | None = None) -> PlaneReady:
        """Make the event that shows a plane."""
        plan = shown.target.plan
        return PlaneReady(
            plane=plane,
            index=plan.stack.index(plane),
            offset=self._view.offset,
            labels=shown.labels,
            modality=plan.modality,
            revision=shown.target.revision,
            prompts=prompts,
        )

    def _prompts(self, live: LivePlane) -> PromptView:
        scale, shift = live.canvas.image_affine()
        top, left = self._view.offset
        translate = (shift[0] + top, shift[1] + left)
        return PromptView(live.proposal_shown, live.prompt_shown, scale, translate)

    def _fail(self, task: str, plane: int, error: Exception) -> Failed:
        self._renderer.note_failure(plane)
        return Failed(task, plane, error)

    def _next_stale(self) -> int | None:
        """Return the nearest plane that is not up to date, the visible one left out."""
        chosen = self._wanted() - {self._view.visible}
        stale = [plane for plane in chosen if not self._is_settled(plane)]
        return self._view.outwards(stale)[0] if stale else None

    def _wanted(self) -> set[int]:
        """Planes that shall be up to date."""
        return self._view.wanted() | self._renderer.planes()

    def _is_settled(self, plane: int) -> bool:
        return self._renderer.is_current(plane) or self._renderer.has_failed(plane)


def cells_on_image(canvas: PromptCanvas, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Spread the cells of a canvas over the pixels of the plane: (rows, cols) to (H, W)."""
    scales, _ = canvas.image_affine()
    rows, columns = (
        np.minimum(((np.arange(length) + 0.5) / scale).astype(np.intp), n - 1)
        for length, scale, n in zip(canvas.geometry.image_shape, scales, canvas.shape, strict=True)
    )
    return cells[np.ix_(rows, columns)]


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array

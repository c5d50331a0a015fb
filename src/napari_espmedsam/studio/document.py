"""What the user of a session has decided: settings, edits, locked objects, and their history.

Nothing here computes labels. The worker thread asks for the :class:`Target` of a plane and brings
the plane there, so the order in which things were done never matters. Arrays are never changed in
place: a change makes a new one, and whoever holds the old one still has what it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.plan import RunPlan
from napari_espmedsam.inference.prompts import UNTOUCHED, Box, Edits, check_states
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.history import Change, History
from napari_espmedsam.studio.patches import Patch, apply_patch, find_patch

Labels = npt.NDArray[np.uint32]
Planner = Callable[[SegmentRequest], RunPlan]


@dataclass(frozen=True, eq=False)
class Target:
    """What the labels of one plane shall come from.

    Attributes
    ----------
    plan : RunPlan
        Settings and geometry.
    edits : ndarray or None
        (rows, cols) int8, read-only; None for none.
    locked : ndarray or None
        (H, W) uint32, read-only; None for none.
    revision : int
        State of the document.
    """

    plan: RunPlan
    edits: Edits | None
    locked: Labels | None
    revision: int

    def is_same(self, other: Target) -> bool:
        """Whether both give the same labels."""
        if self.edits is not other.edits or self.locked is not other.locked:
            return False
        return self.plan is other.plan or state_key(self.plan) == state_key(other.plan)


def encoding_key(plan: RunPlan) -> tuple[Hashable, ...]:
    """Return what decides the features of a plane."""
    return plan.modality, plan.geometry, plan.stack.channel, plan.stack.rgb


def state_key(plan: RunPlan) -> tuple[Hashable, ...]:
    """Return what decides the labels of a plane beside its edits and locked objects."""
    return *encoding_key(plan), plan.prompt_threshold, plan.post


def canvas_key(plan: RunPlan) -> tuple[Hashable, ...]:
    """Return what decides the shape and the meaning of edits."""
    return plan.cell, plan.geometry.model_shape


class Document:
    """Settings, edits and locked objects of one image, with undo. Safe to share between threads.

    Edits belong to a canvas: a modality or scale with other cells starts without any, and finds
    its own again on the way back.

    Parameters
    ----------
    planner : callable
        Gives the plan of a request, and raises where there is none.
    settings : SegmentRequest
        To begin with.
    """

    def __init__(self, planner: Planner, settings: SegmentRequest) -> None:
        self._planner = planner
        self._lock = threading.RLock()
        self._settings = settings
        self._plan = planner(settings)
        self._edits: dict[tuple[Hashable, int], Edits] = {}
        self._locked: dict[int, Labels] = {}
        self._revision = 0
        self._history = History()

    @property
    def settings(self) -> SegmentRequest:
        """The settings that hold now."""
        with self._lock:
            return self._settings

    @property
    def plan(self) -> RunPlan:
        """The plan of these settings."""
        with self._lock:
            return self._plan

    @property
    def revision(self) -> int:
        """How many times anything was changed."""
        with self._lock:
            return self._revision

    @property
    def undo_text(self) -> str:
        """What :meth:`undo` would take back; "" for nothing."""
        with self._lock:
            return self._history.undo_text

    @property
    def redo_text(self) -> str:
        """What :meth:`redo` would do again; "" for nothing."""
        with self._lock:
            return self._history.redo_text

    def frozen(self) -> AbstractContextManager[Any]:
        """Keep others from changing anything while several things are read."""
        return self._lock

    def target(self, plane: int, plan: RunPlan | None = None) -> Target:
        """Say what a plane shall show, under the settings or another plan."""
        with self._lock:
            chosen = self._plan if plan is None else plan
            edits = self._edits.get((canvas_key(chosen), plane))
            return Target(chosen, edits, self._locked.get(plane), self._revision)

    def touched(self) -> set[int]:
        """Planes that have edits or locked objects."""
        with self._lock:
            key = canvas_key(self._plan)
            return {plane for canvas, plane in self._edits if canvas == key} | set(self._locked)

    def locked(self) -> dict[int, Labels]:
        """Return the locked objects of each plane that has any; see :class:`Target`."""
        with self._lock:
            return dict(self._locked)

    def set(self, changes: Mapping[str, Any], what: str) -> None:
        """Change settings; changes of the same ones that follow quickly are one step."""
        with self._lock:
            before = {name: getattr(self._settings, name) for name in changes}
            if before == dict(changes):
                return
            self._apply_settings(changes)  # raises before anything has changed
            change = Change(
                what, (dict(changes),), (before,), key=("settings", tuple(sorted(changes)))
            )
            self._history.push(change)

    def edit(
        self, plane: int, box: Box, values: npt.ArrayLike, what: str, stroke: Hashable | None
    ) -> None:
        """Change cells of the current canvas; see ``Session.edit``."""
        cells = np.asarray(values)
        check_states(cells)
        with self._lock:
            canvas = self._plan.canvas
            box = canvas.check_box(box)
            before = self._edits.get((canvas_key(self._plan), plane))
            after = canvas.empty() if before is None else before.copy()
            try:
                after[box] = cells
            except ValueError as error:
                raise InputError(
                    f"The values have the shape {cells.shape}, and the box holds "
                    f"{after[box].shape} cells. Give one value, or one for each cell."
                ) from error
            self._set_edits(plane, after, what, stroke)

    def replace_edits(self, plane: int, edits: Edits | None, what: str) -> None:
        """Set all edits of a plane; None takes them away."""
        with self._lock:
            canvas = self._plan.canvas
            self._set_edits(plane, canvas.empty() if edits is None else canvas.check(edits), what)

    def set_locked(self, plane: int, locked: Labels, what: str) -> None:
        """Set the locked objects of a plane, (H, W) uint32, 0 where nothing is locked."""
        with self._lock:
            patch = find_patch(("locked", plane), self._locked_or_empty(plane), locked)
            self._do(patch, what, None)

    def undo(self) -> str:
        """Take the last step back; returns what it was, "" if there is none."""
        return self._move(forward=False)

    def redo(self) -> str:
        """Do the step again that was taken back last; returns what it was, "" if none."""
        return self._move(forward=True)

    def seal(self) -> None:
        """End the step that is being made: the next change is one of its own."""
        with self._lock:
            self._history.seal()

    def install(
        self,
        settings: SegmentRequest,
        edits: Mapping[int, Edits],
        locked: Mapping[int, Labels],
    ) -> None:
        """Replace everything. Nothing of what was before can be undone."""
        with self._lock:
            plan = self._planner(settings)
            checked = {plane: plan.canvas.check(each) for plane, each in edits.items()}
            self._settings, self._plan = settings, plan
            self._edits.clear()
            self._locked.clear()
            for plane, each in checked.items():
                self._keep_edits(canvas_key(plan), plane, each.copy())
            for plane, labels in locked.items():
                self._keep_locked(plane, labels.copy())
            self._history.clear()
            self._revision += 1

    def rename(self, plane: int, rename: Callable[[Labels], Labels]) -> tuple[Target, Target]:
        """Give the locked objects of a plane other ids, also in all steps of the history.

        It is no step itself: undo and redo keep the new ids.

        Returns
        -------
        tuple of Target
            Before and after.
        """
        with self._lock:
            before = self.target(plane)
            if before.locked is not None:
                self._keep_locked(plane, rename(before.locked))
                self._revision += 1
            self._history.rewrite(partial(_renamed, ("locked", plane), rename))
            return before, self.target(plane)

    def _locked_or_empty(self, plane: int) -> Labels:
        return self._locked.get(plane, np.zeros(self._plan.geometry.image_shape, np.uint32))

    def _set_edits(
        self, plane: int, after: Edits, what: str, stroke: Hashable | None = None
    ) -> None:
        key = canvas_key(self._plan)
        before = self._edits.get((key, plane), self._plan.canvas.empty())
        self._do(find_patch(("edits", key, plane), before, after), what, stroke)

    def _do(self, patches: tuple[Patch, Patch] | None, what: str, stroke: Hashable | None) -> None:
        """Make a change and remember it; None changes nothing."""
        if patches is None:
            return
        forward, backward = patches
        self._apply(forward)
        key = None if stroke is None else (forward.key, what, stroke)
        self._history.push(Change(what, (forward,), (backward,), key=key, chained=True))

    def _move(self, *, forward: bool) -> str:
        with self._lock:
            change = self._history.redo() if forward else self._history.undo()
            if change is None:
                return ""
            for each in change.forward if forward else change.backward:
                self._apply(each)
            return change.what

    def _apply(self, step: Patch | Mapping[str, Any]) -> None:
        if isinstance(step, Patch):
            self._apply_patch(step)
        else:
            self._apply_settings(step)

    def _apply_settings(self, changes: Mapping[str, Any]) -> None:
        settings = replace(self._settings, **changes).validate()
        self._plan = self._planner(settings)
        self._settings = settings
        self._revision += 1

    def _apply_patch(self, patch: Patch) -> None:
        kind, *rest = patch.key
        plane = rest[-1]
        if kind == "locked":
            self._keep_locked(plane, apply_patch(self._locked_or_empty(plane), patch))
        else:
            key = rest[0]
            known = self._edits.get((key, plane))
            start = np.full(patch.shape, UNTOUCHED, np.int8) if known is None else known
            self._keep_edits(key, plane, apply_patch(start, patch))
        self._revision += 1

    def _keep_edits(self, key: Hashable, plane: int, edits: Edits) -> None:
        self._edits.pop((key, plane), None)
        if (edits != UNTOUCHED).any():
            edits.flags.writeable = False
            self._edits[key, plane] = edits

    def _keep_locked(self, plane: int, locked: Labels) -> None:
        self._locked.pop(plane, None)
        if locked.any():
            locked.flags.writeable = False
            self._locked[plane] = locked


def _renamed(key: tuple[Any, ...], rename: Callable[[Labels], Labels], step: Any) -> Any:
    """Give the ids in a patch of an array other names; any other step stays as it is."""
    if isinstance(step, Patch) and step.key == key:
        return replace(step, values=rename(step.values))
    return step

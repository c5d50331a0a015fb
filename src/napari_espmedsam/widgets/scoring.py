"""Asks a live session for scores: of the plane on the screen, or of all planes one by one.

Where it is wanted, another model is asked as well, in a thread of its own, so that neither the
window nor the strokes of the user wait for it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.events import Failed, ScoresReady
from napari_espmedsam.studio.second_opinion import (
    MaskCache,
    SecondOpinion,
    find_other,
    other_request,
)
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.layers import level_zero
from napari_espmedsam.widgets.studio_view import StudioView
from napari_espmedsam.widgets.worker import Loader

_HERE, _ALL = "mask of the visible plane", "mask of the next plane"


@dataclass(frozen=True, eq=False)
class _Answer:
    """What the other model says of a plane, or why it does not."""

    plane: int
    request: SegmentRequest
    mask: npt.NDArray[np.bool_] | None = None
    error: Exception | None = None


class Scoring(QObject):
    """Scores of one session.

    Parameters
    ----------
    studio
        The session with its layers; it is open.
    load
        Gives the other model; called in a thread.
    parent
        Qt parent.

    Attributes
    ----------
    changed : Signal()
        Another model is there to be compared with, or none; or scoring goes on.
    failed : Signal(str)
        Why the other model cannot be asked. Nothing is compared any more.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, studio: StudioView, load: Loader, parent: QObject) -> None:
        super().__init__(parent)
        self._studio = studio
        self._compares = False
        self._masks = MaskCache()
        self._queue: list[int] = []
        self._n_queued = 0
        self._settings = None if studio.session is None else studio.session.settings
        self._is_outdated = False
        self._opinion = _new_opinion(studio, load)
        self._background = Background(self, at_exit=self._opinion.release)
        self._background.done.connect(self._on_answer)
        studio.scored.connect(self._on_scored)
        studio.failed.connect(self._on_failed)
        studio.changed.connect(self._on_changed)

    @property
    def other(self) -> str | None:
        """Name of the model to compare with; None where no other knows the modality."""
        settings = self._studio.settings
        return find_other(settings.checkpoint, settings.modality)

    @property
    def compares(self) -> bool:
        """Whether the other model is asked."""
        return self._compares

    @property
    def progress(self) -> tuple[int, int] | None:
        """How many planes out of how many are scored; None unless all are wanted."""
        return (self._n_queued - len(self._queue), self._n_queued) if self._queue else None

    @property
    def n_planes(self) -> int:
        """Number of planes of the image."""
        return 0 if self._studio.session is None else self._studio.session.n_planes

    def compare(self, on: bool) -> None:
        """Ask the other model as well, or no longer."""
        self._compares, self._is_outdated = on, True
        if not on:
            self._background.close()  # and its memory is free again
        self.ask()
        if self._queue:
            self._ask_next()

    def ask(self) -> None:
        """Score the plane on the screen: at once, and again when the other model has answered."""
        plane = self._studio.plane
        if plane is not None and not self._score(plane):
            self._ask_other(_HERE, plane)

    def score_all(self) -> None:
        """Score all planes, the one on the screen first; those without labels get some."""
        first = self._studio.plane or 0
        self._queue = [first, *(plane for plane in range(self.n_planes) if plane != first)]
        self._n_queued = len(self._queue)
        self._ask_next()

    def begins_anew(self) -> bool:
        """Whether scores from before the ones that come now hold no longer; True only once.

        Those of planes that are not on the screen are of other settings then.
        """
        outdated, self._is_outdated = self._is_outdated, False
        return outdated

    def stop(self) -> None:
        """Score no more planes than those that are scored by now."""
        self._queue.clear()
        self._background.cancel(_ALL)
        self.changed.emit()

    def close(self) -> None:
        """End all work and let go of the other model."""
        self._queue.clear()
        self._background.close()
        self._studio.scored.disconnect(self._on_scored)
        self._studio.failed.disconnect(self._on_failed)
        self._studio.changed.disconnect(self._on_changed)
        self.deleteLater()

    def _request(self) -> SegmentRequest | None:
        """Return what to ask the other model; None where it is not to be asked."""
        session, other = self._studio.session, self.other
        if session is None or other is None or not self._compares:
            return None
        return other_request(other, session.settings)

    def _score(self, plane: int) -> bool:
        """Score a plane with all that is known; returns whether that is all that is wanted."""
        session, request = self._studio.session, self._request()
        mask = None if request is None else self._masks.get(plane, request)
        if session is not None:
            session.score(plane, mask)
        return request is None or mask is not None

    def _ask_other(self, key: str, plane: int) -> None:
        request = self._request()
        if request is not None:
            self._background.submit(key, partial(_answer, self._opinion, plane, request))

    def _ask_next(self) -> None:
        """Go on with the first plane of the queue."""
        if self._queue:
            plane, request = self._queue[0], self._request()
            if request is None or self._masks.get(plane, request) is not None:
                self._score(plane)
            else:
                self._ask_other(_ALL, plane)
        self.changed.emit()

    def _on_answer(self, key: object, answer: _Answer) -> None:
        if answer.request != self._request():
            return  # the modality is another by now
        if answer.mask is None:
            self._compares = False
            self.failed.emit(str(answer.error))
            self._ask_next()
            return
        self._masks.put(answer.plane, answer.request, answer.mask)
        self._score(answer.plane)

    def _on_scored(self, event: ScoresReady) -> None:
        request = self._request()
        whole = request is None or self._masks.get(event.plane, request) is not None
        if whole:
            self._done_with(event.plane)

    def _on_failed(self, event: Failed) -> None:
        if event.task == "scores" and event.plane is not None:
            self._done_with(event.plane)  # the tab "Prompts" says why

    def _done_with(self, plane: int) -> None:
        if self._queue and self._queue[0] == plane:
            del self._queue[0]
            self._ask_next()

    def _on_changed(self) -> None:
        session = self._studio.session
        if session is None or session.settings == self._settings:
            return
        self._settings = session.settings
        self._is_outdated = True
        if self._queue:
            self.score_all()
        self.changed.emit()


def _new_opinion(studio: StudioView, load: Loader) -> SecondOpinion:
    session, layer = studio.session, studio.prepared.layer
    if session is None:
        raise ValueError("the session is not open")
    made: Any = load
    return SecondOpinion(made, level_zero(layer), session.header, session.region)


def _answer(
    opinion: SecondOpinion, plane: int, request: SegmentRequest
) -> Generator[None, None, _Answer]:
    """Ask, in the worker thread; an error is an answer, so that it is clear to what."""
    try:
        mask = yield from opinion.mask(plane, request)
    except Exception as error:
        return _Answer(plane, request, error=error)
    return _Answer(plane, request, mask)

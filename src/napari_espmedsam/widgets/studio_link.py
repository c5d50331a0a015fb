"""Between a live session and the table of objects: scores and locks, to and fro."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from qtpy.QtCore import QObject

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.studio.events import ScoresReady
from napari_espmedsam.studio.locks import locked_ids
from napari_espmedsam.widgets.objects_tab import ObjectsTab
from napari_espmedsam.widgets.prompts_tab import PromptsTab
from napari_espmedsam.widgets.scoring import Scoring
from napari_espmedsam.widgets.studio_view import StudioView

Index = tuple[int, ...]


class StudioLink(QObject):
    """Lets the table show and lock what the session of the prompts finds.

    Parameters
    ----------
    prompts
        Opens and closes the session.
    objects
        The table.
    """

    def __init__(self, prompts: PromptsTab, objects: ObjectsTab) -> None:
        super().__init__(prompts)
        self._prompts, self._objects = prompts, objects
        self._shown: Any = None  # the live layer that the table knows
        self._scoring: Scoring | None = None
        self._ids: dict[int, tuple[Any, frozenset[int]]] = {}  # locked pixels of a plane, their ids
        prompts.opened.connect(self._on_opened)
        prompts.closed.connect(self._on_closed)
        objects.scores_wanted.connect(self._ask_scores)
        objects.lock_requested.connect(self._lock)
        objects.score_part.compare_wanted.connect(self._compare)
        objects.score_part.all_wanted.connect(self._score_all)

    def _on_opened(self, studio: StudioView) -> None:
        self._scoring = Scoring(studio, self._prompts.load, self)
        self._scoring.changed.connect(self._show_scoring)
        self._scoring.failed.connect(self._objects.score_part.say)
        self._objects.score_part.say("")
        self._show_scoring()
        studio.changed.connect(self._on_changed)
        studio.scored.connect(self._on_scored)

    def _on_changed(self) -> None:
        """Show the labels of the session, and which of them are locked."""
        layer = self._layer()
        if layer is None:
            return
        if layer is self._shown:
            self._objects.objects_changed(layer)
        else:
            self._shown = layer
            self._objects.show_layer(layer)
        self._objects.set_locked(layer, self._locked_ids())

    def _on_closed(self) -> None:
        """Without a session nothing can be locked and nothing be scored."""
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None
        self._ids = {}
        self._objects.score_part.say("")
        self._objects.score_part.show_none()
        if self._shown is not None:
            self._objects.set_locked(self._shown, None)
            self._shown = None

    def _locked_ids(self) -> frozenset[int]:
        studio = self._prompts.studio
        if studio is None or studio.session is None:
            return frozenset()
        known, self._ids = self._ids, {}
        for plane, locked in studio.session.locked_planes().items():
            is_known = plane in known and known[plane][0] is locked
            self._ids[plane] = known[plane] if is_known else (locked, locked_ids(locked))
        return frozenset().union(*(ids for _locked, ids in self._ids.values()))

    def _ask_scores(self, layer: Any) -> None:
        if self._scoring is not None and self._is_live(layer):
            self._scoring.ask()

    def _compare(self, on: bool) -> None:
        if self._scoring is not None:
            self._objects.score_part.say("")
            self._scoring.compare(on)

    def _score_all(self, on: bool) -> None:
        if self._scoring is not None and on:
            self._scoring.score_all()
        elif self._scoring is not None:
            self._scoring.stop()

    def _show_scoring(self) -> None:
        studio, scoring, part = self._prompts.studio, self._scoring, self._objects.score_part
        if studio is None or scoring is None:
            return
        modality = studio.settings.modality or ""
        part.show_session(scoring.other, modality, scoring.n_planes, compares=scoring.compares)
        part.show_progress(scoring.progress)

    def _on_scored(self, event: ScoresReady) -> None:
        layer, studio = self._layer(), self._prompts.studio
        if layer is None or studio is None or studio.session is None:
            return
        if self._scoring is not None and self._scoring.begins_anew():
            self._objects.forget_scores(layer)
        shape = studio.session.leading_shape
        index = np.unravel_index(event.plane, shape) if shape else ()
        self._objects.set_scores(layer, tuple(int(i) for i in index), event.scores)

    def _lock(self, layer: Any, planes: Mapping[Index, Iterable[int]], on: bool) -> None:
        studio = self._prompts.studio
        if studio is None or studio.session is None or not self._is_live(layer):
            return
        shape = studio.session.leading_shape
        act = studio.session.lock if on else studio.session.unlock
        try:
            for index, ids in planes.items():
                act(int(np.ravel_multi_index(index, shape)) if shape else 0, ids)
        except EspMedSamError as error:
            self._prompts.say(str(error), bad=True)
        self._on_changed()

    def _layer(self) -> Any | None:
        studio = self._prompts.studio
        return None if studio is None else studio.layers.labels.layer

    def _is_live(self, layer: Any) -> bool:
        own = self._layer()
        return own is not None and layer is not None and own.unique_id == layer.unique_id

"""One live session on an image layer: between what the viewer shows and what the session says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_espmedsam import __version__
from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio import events
from napari_espmedsam.widgets.bridge import Make, SessionBridge
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.live_settings import LiveSettings
from napari_espmedsam.widgets.studio_layers import StudioLayers

if TYPE_CHECKING:
    from napari_espmedsam.studio.record import PromptRecord
    from napari_espmedsam.studio.session import Session

Index = tuple[int, ...]


class StudioView(QObject):
    """A session, and the layers in which it is seen and edited.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    prepared
        Image layer, settings, and the place of its labels.
    make
        Opens the session; called in a thread.
    parent
        Qt parent: without one, Python's garbage collector might delete the object in any thread.

    Attributes
    ----------
    prepared
        As given.
    layers : StudioLayers
        The layers.
    changed : Signal()
        Settings, undo, plane or labels are others.
    said : Signal(str, bool)
        What goes on, in words, and whether it is bad news.
    suggested : Signal(object)
        Another modality that is clearly more confident, or None.
    recorded : Signal(object)
        The `PromptRecord` that :meth:`record` asked for.
    scored : Signal(object)
        A `ScoresReady` that ``session.score`` asked for.
    failed : Signal(object)
        An `events.Failed`; `said` has told the user.
    stepped : Signal()
        A step was taken back, or done again.
    ended : Signal(str)
        The session cannot go on; why. Call :meth:`close`.
    """

    changed = Signal()
    said = Signal(str, bool)
    suggested = Signal(object)
    recorded = Signal(object)
    scored = Signal(object)
    failed = Signal(object)
    stepped = Signal()
    ended = Signal(str)

    def __init__(self, viewer: Any, prepared: Prepared, make: Make, parent: QObject) -> None:
        super().__init__(parent)
        self.prepared = prepared
        self.layers = StudioLayers(viewer, prepared, self)
        self._settings = LiveSettings(self._send)
        self._edited: dict[int, int] = {}  # plane -> revision that knows what was painted last
        self._is_closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.PlaneReady: self._on_ready,
            events.Progress: self._on_progress,
            events.Failed: self._on_failed,
            events.ConfidenceReady: self._on_confidence,
            events.ComparisonReady: self._on_comparison,
            events.ModalitySuggested: self._on_suggestion,
            events.RecordReady: self._on_record,
            events.Restored: self._on_restored,
            events.ScoresReady: self._on_scores,
            events.Idle: self._on_idle,
        }
        self.layers.edited.connect(self._on_edited)
        self.layers.painted.connect(self._on_painted)
        self.layers.plane_changed.connect(self._on_plane)
        self.layers.undo_wanted.connect(self.undo)
        self.layers.redo_wanted.connect(self.redo)
        self.layers.gone.connect(self.ended)
        self.bridge = SessionBridge(make, self)
        self.bridge.opened.connect(self._on_opened)
        self.bridge.failed.connect(self._on_not_opened)
        self.bridge.event.connect(self._on_event)

    @property
    def session(self) -> Session | None:
        """The session; None until it is open and after :meth:`close`."""
        return self.bridge.session

    @property
    def plane(self) -> int | None:
        """Number of the plane on the screen."""
        return None if self.session is None else self.session.visible

    @property
    def settings(self) -> SegmentRequest:
        """The settings as the user has them, those included that wait for their turn."""
        if self.session is None:
            return self.prepared.request
        return replace(self.session.settings, **self._settings.waiting)

    @property
    def letters_ahead(self) -> str:
        """Axes, out of T and Z, along which there is a next plane."""
        session, index = self.session, self.layers.watch.index
        if session is None or index is None:
            return ""
        steps = zip(self.layers.watch.letters, index, session.leading_shape, strict=True)
        return "".join(letter for letter, i, n in steps if i + 1 < n)

    # What the user wants ----------------------------------------------------------------------

    def set(self, name: str, value: Any) -> None:
        """Change a setting; while one change is on its way, the latest waits for it."""
        if self.session is not None:
            self._settings.change(name, value)

    def undo(self) -> None:
        """Take the last step back."""
        self._move_in_history(forward=False)

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        self._move_in_history(forward=True)

    def copy_edits(self, letter: str) -> None:
        """Give the next plane along an axis the edits of this one, and go there."""
        session, index = self.session, self.layers.watch.index
        if session is None or index is None or letter not in self.letters_ahead:
            return
        position = self.layers.watch.letters.index(letter)
        target = (*index[:position], index[position] + 1, *index[position + 1 :])
        self.layers.collect()
        with self._told():
            session.copy_edits(self._flat(index), self._flat(target))
            self.layers.watch.go_to(target)
        self.changed.emit()

    def run(self) -> None:
        """Ask for the labels of all planes."""
        if self.session is not None:
            self.session.run()

    def stop(self) -> None:
        """Ask for no planes but those that are there."""
        if self.session is not None:
            self.session.stop()

    def show_confidence(self, wanted: bool) -> None:
        """Show a layer of how sure the model is, or no longer."""
        self.layers.side.show_confidence(wanted)
        self._ask_side()

    def compare(self, modality: str) -> None:
        """Show a layer of what another modality finds; "" takes it away."""
        self.layers.side.compare(modality)
        self._ask_side()

    def record(self) -> None:
        """Ask for the session as data; `recorded` comes."""
        if self.session is not None:
            self.layers.collect(everywhere=True)
            self.session.record(self.prepared.image.name)

    def restore(self, record: PromptRecord) -> None:
        """Take over a record in place of all settings, edits and locked objects."""
        if self.session is not None:
            with self._told():
                self.session.restore(record)

    def close(self) -> None:
        """End the session. The labels stay with the user; all other layers go."""
        if not self._is_closed:
            self._is_closed = True
            self.bridge.close()
            try:
                self.layers.close()
            finally:  # whatever others do when a layer goes
                self.deleteLater()

    # What the layers say ----------------------------------------------------------------------

    def _on_edited(self, index: Index, box: Any, values: Any, what: str, stroke: Any) -> None:
        session = self.session
        if session is None:
            return
        if not self._shows_cells_of(session):
            self.said.emit(
                "The new settings have other cells. Edit them once they are shown.",
                True,
            )
            return
        plane, before = self._flat(index), session.revision
        with self._told():
            session.edit(plane, box, values, what=what, stroke=stroke)
        if session.revision != before:
            self._edited[plane] = session.revision
            self.changed.emit()

    def _on_painted(self, index: Index, before: Any, after: Any) -> None:
        session = self.session
        if session is None:
            return
        revision = session.revision
        with self._told():
            session.paint(self._flat(index), before, after)
        if session.revision != revision:
            self.layers.labels.hold(index, session.revision)
            self.changed.emit()

    def _on_plane(self, index: Index) -> None:
        if self.session is not None:
            self.session.show(self._flat(index))
            self.changed.emit()

    # What the session says --------------------------------------------------------------------

    def _on_opened(self) -> None:
        if self.session is None:
            return
        index = self.layers.watch.index
        start = (0,) * len(self.session.leading_shape) if index is None else index
        self.layers.begin(start)
        self.session.show(self._flat(start))
        self.said.emit("Encoding …", False)
        self.changed.emit()

    def _on_not_opened(self, error: Exception) -> None:
        self.ended.emit(error_text(error))

    def _on_event(self, event: Any) -> None:
        if self.session is not None:
            self._handlers[type(event)](event)

    def _on_ready(self, event: events.PlaneReady) -> None:
        try:
            self.layers.write(event)
        except EspMedSamError as error:  # without labels there is nothing to work on
            self.ended.emit(str(error))
            return
        if event.plane != self.plane:
            return
        if event.prompts is not None and event.revision >= self._edited.get(event.plane, 0):
            self.layers.show_prompts(event.index, event.prompts)
            self.said.emit("The labels of this plane are up to date.", False)
        self._settings.note_result(event.revision)
        self._ask_side()
        self.changed.emit()

    def _on_progress(self, event: events.Progress) -> None:
        tile = f"tile {event.tile + 1} of {event.n_tiles}"
        where = f"plane {event.plane + 1}, {tile}" if event.n_planes > 1 else tile
        if event.task != "ahead":
            self.said.emit(f"Encoding {where} …", False)

    def _on_failed(self, event: events.Failed) -> None:
        self._settings.note_end()
        self.said.emit(error_text(event.error), True)
        self.failed.emit(event)

    def _on_confidence(self, event: events.ConfidenceReady) -> None:
        if event.plane == self.plane:
            self.layers.side.take_confidence(event)

    def _on_comparison(self, event: events.ComparisonReady) -> None:
        if event.plane == self.plane:
            self.layers.side.take_comparison(event)

    def _on_suggestion(self, event: events.ModalitySuggested) -> None:
        self.suggested.emit(event.modality)

    def _on_record(self, event: events.RecordReady) -> None:
        self.recorded.emit(event.record)

    def _on_scores(self, event: events.ScoresReady) -> None:
        self.scored.emit(event)

    def _on_restored(self, _event: events.Restored) -> None:
        self._accept_all()
        self.layers.labels.clear()
        self.said.emit("The prompts of the file hold now.", False)
        self.changed.emit()

    def _on_idle(self, _event: events.Idle) -> None:
        session, labels = self.session, self.layers.labels
        self._settings.note_end()
        if session is None or self.plane is None:
            return
        labels.look()
        if not session.is_current(self.plane):
            return  # something was changed meanwhile, or has failed and was told
        for index in labels.planes:
            final = session.labels(self._flat(index))
            if final is not None and session.is_current(self._flat(index)):
                labels.settle(index, final)
        labels.note(self._provenance(session))
        self.said.emit("Up to date.", False)
        self.changed.emit()

    # Small things -----------------------------------------------------------------------------

    def _send(self, changes: Mapping[str, Any]) -> int | None:
        """Change settings; see `LiveSettings`."""
        session = self.session
        if session is None:
            return None
        self.layers.prompts.collect()  # of the cells as they are: those to come may be others
        before = session.revision
        with self._told():
            session.change(changes)
        if session.revision == before:
            return None
        self.changed.emit()
        return session.revision

    def _move_in_history(self, *, forward: bool) -> None:
        session = self.session
        if session is None:
            return
        self.layers.collect()
        self._accept_all()
        what = session.redo() if forward else session.undo()
        if what and session.visible is not None:
            session.show(session.visible)  # also if nothing of the step was on the screen yet
        self.changed.emit()
        self.stepped.emit()

    def _accept_all(self) -> None:
        """Take what the session says, even if it is from before the last painting."""
        self._settings.clear()
        self._edited.clear()
        self.layers.labels.accept_all()

    def _ask_side(self) -> None:
        session, side = self.session, self.layers.side
        if session is None or session.visible is None:
            return
        if side.compared == session.settings.modality:
            side.compare("")
        try:
            side.ask(session, session.visible)
        except EspMedSamError as error:  # the other modality has no use for such an image
            side.compare("")
            self.said.emit(str(error), True)
            self.changed.emit()

    def _shows_cells_of(self, session: Session) -> bool:
        """Whether the cells on the screen are those that edits are counted in by now."""
        view, canvas = self.layers.prompts.view, session.canvas
        if view is None or view.state.shape != canvas.shape:
            return False
        return view.scale == canvas.image_affine()[0]

    def _flat(self, index: Index) -> int:
        shape = () if self.session is None else self.session.leading_shape
        return int(np.ravel_multi_index(index, shape)) if shape else 0

    def _provenance(self, session: Session) -> dict[str, Any]:
        """Say in the layer's metadata how its labels are made."""
        settings, image = session.settings, self.prepared.image
        return {
            "software": "napari-espmedsam",
            "version": __version__,
            "status": "live",
            "image": image.name,
            "shape": list(image.shape),
            "dtype": image.dtype,
            "checkpoint": settings.checkpoint,
            "modality": settings.modality,
            "prompt_threshold": settings.prompt_threshold,
            "post": asdict(settings.post),
            "axes": self.layers.axes,
            "channel": settings.channel,
            "rgb": settings.rgb,
            "planes_done": sorted(list(index) for index in self.layers.labels.planes),
        }

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what the session refuses."""
        try:
            yield
        except EspMedSamError as error:
            self.said.emit(str(error), True)


def error_text(error: BaseException) -> str:
    """Return what is said of an error: those that are not ours are named."""
    if isinstance(error, EspMedSamError):
        return str(error)
    return f"Unexpected {type(error).__name__}: {error}"

"""The tab "Prompts": shows what the model looks at, and lets the user correct it live."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.studio.events import Failed
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.studio.record_file import SUFFIX, read_record, write_record
from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.bridge import opener
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.live_controls import LIVE
from napari_espmedsam.widgets.prompt_files import PROMPTS_KEY
from napari_espmedsam.widgets.prompts_panel import PromptsPanel
from napari_espmedsam.widgets.regions import find_region
from napari_espmedsam.widgets.studio_view import StudioView, error_text
from napari_espmedsam.widgets.worker import Loader, load_segmenter

_FILTER = f"Prompts (*{SUFFIX})"


class PromptsTab(PromptsPanel):
    """Opens and closes a live session on the image of the form, and shows its controls.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    prepare
        Gives image layer and settings, or raises what stands in the way: ``SegmentForm.prepare``.
    load
        Gives the model of a request; called in a thread.
    parent
        Qt parent.

    Attributes
    ----------
    opened : Signal(object)
        A session is there: its `StudioView`.
    closed : Signal()
        It is over.
    tuned : Signal(object)
        The user has changed live settings: a dict of those in `live_controls.LIVE`.
    """

    opened = Signal(object)
    closed = Signal()
    tuned = Signal(object)

    def __init__(
        self,
        viewer: Any,
        prepare: Callable[[], Prepared],
        load: Loader = load_segmenter,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._prepare, self.load = viewer, prepare, load
        self._studio: StudioView | None = None
        self._suggestion = ""
        self._offered: PromptRecord | None = None
        self._wanted: PromptRecord | None = None  # to be taken over when the session is there
        self._listens = False
        self._on_record: list[tuple[Callable[[PromptRecord], None], Callable[[str], object]]] = []
        self._background = Background(self)
        self._connect()
        self._refresh()
        self.say("Show where the model looks in the chosen image.")

    @property
    def studio(self) -> StudioView | None:
        """The live session with its layers; None while prompts are hidden."""
        return self._studio

    def show_prompts(self) -> None:
        """Open a session on the image and the settings of the form."""
        if self._studio is not None:
            return
        try:
            prepared = self._prepare()
            axes = (prepared.request.axes or "").replace("S", "")
            region = find_region(self._viewer, prepared.layer, axes, self.region.currentText())
        except EspMedSamError as error:
            self.say(str(error), bad=True)
            return
        studio = StudioView(self._viewer, prepared, opener(prepared, self.load, region), self)
        self._studio = studio
        studio.changed.connect(self._refresh)
        studio.said.connect(self.say)
        studio.suggested.connect(self._on_suggested)
        studio.recorded.connect(self._on_recorded)
        studio.failed.connect(self._on_not_recorded)
        studio.stepped.connect(self._on_stepped)
        # Queued: layers must not go while napari is in the middle of removing some.
        studio.ended.connect(self._on_ended, Qt.ConnectionType.QueuedConnection)
        studio.bridge.opened.connect(self._on_opened)
        studio.layers.markers.tool_changed.connect(self.show_tool)
        self.say(f"Opening the model for '{prepared.image.name}' …")
        self._refresh()

    def hide_prompts(self) -> None:
        """Close the session. Its labels stay; all other layers of it go."""
        if self._studio is None:
            return
        studio, self._studio = self._studio, None
        studio.ended.disconnect(self._on_ended)  # what is under way is not about the next one
        try:
            studio.close()
        finally:  # whatever others do when a layer goes
            self._show_end()

    def close_session(self) -> None:
        """End all work: the dock or the window is being closed."""
        self.hide_prompts()
        self._background.close()
        self._listen(False)

    def reopen(self) -> None:
        """Offer dropped prompts again: a dock that was closed is shown again."""
        self._listen(True)

    def save_prompts(self, path: str | Path) -> None:
        """Write edits and settings into a file, once all is up to date."""
        if self._studio is not None:
            name = str(path)
            target = name if name.lower().endswith(SUFFIX) else name + SUFFIX
            self.record(partial(self._write, target), partial(self.say, bad=True))
            self.say("Saving once all is up to date …")

    def record(
        self,
        then: Callable[[PromptRecord], None],
        otherwise: Callable[[str], object] = lambda reason: None,
    ) -> None:
        """Give edits and settings to a function, once all is up to date; or to another why not."""
        if self._studio is not None and self._studio.session is not None:
            self._on_record.append((then, otherwise))
            self._studio.record()

    def load_prompts(self, path: str | Path) -> None:
        """Take over edits and settings from a file."""
        self._background.submit("load", partial(read_record, path))

    def offer(self, record: PromptRecord) -> None:
        """Offer to take over a record that was dropped into the viewer."""
        self._offered = record
        name = f" for '{record.image_name}'" if record.image_name else ""
        self.show_hint(f"A file of prompts{name} is open.", "Use these prompts")

    def take_over(self, record: PromptRecord) -> None:
        """Take over a record; shows the prompts first if they are hidden."""
        if self._studio is None:
            self.show_prompts()
        if self._studio is not None and self._studio.session is not None:
            self._studio.restore(record)
        elif self._studio is not None:
            self._wanted = record

    def _connect(self) -> None:
        self.show_button.clicked.connect(self._on_show_button)
        self.hint_button.clicked.connect(self._on_hint)
        self.undo_button.clicked.connect(self._on_undo)
        self.redo_button.clicked.connect(self._on_redo)
        self.run_button.clicked.connect(self._on_run)
        self.stop_button.clicked.connect(self._on_stop)
        self.tool_group.buttonClicked.connect(self._on_tool)
        self.copy_group.buttonClicked.connect(self._on_copy)
        self.modality.activated.connect(self._on_modality)
        self.compare.activated.connect(self._on_compare)
        self.confidence.clicked.connect(self._on_confidence)
        self.controls.changed.connect(self._on_control)
        self.save_button.clicked.connect(self._ask_save)
        self.load_button.clicked.connect(self._ask_load)
        self._background.done.connect(self._on_done)
        self._background.failed.connect(self._on_failed)
        self._listen(True)

    def _listen(self, wanted: bool) -> None:
        """Hear of new layers, or no longer."""
        if wanted != self._listens:
            inserted = self._viewer.layers.events.inserted
            (inserted.connect if wanted else inserted.disconnect)(self._on_inserted)
            self._listens = wanted

    # What the user does -----------------------------------------------------------------------

    def _on_show_button(self) -> None:
        if self._studio is None:
            self.show_prompts()
        else:
            self.hide_prompts()

    def _on_hint(self) -> None:
        """Do what the hint offers."""
        self.show_hint("")
        if self._offered is not None:
            record, self._offered = self._offered, None
            self.take_over(record)
        elif self._suggestion and self._studio is not None:
            self._studio.set("modality", self._suggestion)

    def _on_tool(self, button: QPushButton) -> None:
        """Take a tool, or put it down; then a click toggles a cell again."""
        if self._studio is None:
            return
        layers, tool = self._studio.layers, button.text()
        if layers.markers.tool != tool:
            layers.markers.use(tool)
        else:
            layers.markers.put_down()
            if layers.prompts.cells is not None:
                self._viewer.layers.selection.active = layers.prompts.cells
        self.show_tool(layers.markers.tool)

    def _on_undo(self) -> None:
        if self._studio is not None:
            self._studio.undo()

    def _on_redo(self) -> None:
        if self._studio is not None:
            self._studio.redo()

    def _on_stepped(self) -> None:
        if self._studio is not None:
            self.tuned.emit({name: getattr(self._studio.settings, name) for name in LIVE})

    def _on_copy(self, button: QPushButton) -> None:
        if self._studio is not None:
            letter = next(each for each, own in self.copy_buttons.items() if own is button)
            self._studio.copy_edits(letter)

    def _on_run(self) -> None:
        if self._studio is not None:
            self._studio.run()

    def _on_stop(self) -> None:
        if self._studio is not None:
            self._studio.stop()

    def _on_setting(self, name: str, value: Any) -> None:
        if self._studio is not None:
            self._studio.set(name, value)

    def _on_control(self, name: str, value: Any) -> None:
        self._on_setting(name, value)
        self.tuned.emit({name: value})

    def _on_modality(self, _index: int) -> None:
        self._on_setting("modality", self.modality.currentText())

    def _on_compare(self, _index: int) -> None:
        if self._studio is not None:
            self._studio.compare(self.compared)

    def _on_confidence(self, wanted: bool) -> None:
        if self._studio is not None:
            self._studio.show_confidence(wanted)

    def _ask_save(self) -> None:
        if self._studio is None:
            return
        name = f"{self._studio.prepared.image.name}{SUFFIX}"
        path, _chosen = QFileDialog.getSaveFileName(self, "Save prompts", name, _FILTER)
        if path:
            self.save_prompts(path)

    def _ask_load(self) -> None:
        path, _chosen = QFileDialog.getOpenFileName(self, "Load prompts", "", _FILTER)
        if path:
            self.load_prompts(path)

    # What others say --------------------------------------------------------------------------

    def _on_opened(self) -> None:
        record, self._wanted = self._wanted, None
        if self._studio is not None:
            self.opened.emit(self._studio)
            if record is not None:
                self._studio.restore(record)

    def _on_ended(self, reason: str) -> None:
        if self._studio is None:
            return
        if self._studio.session is None:  # it never came to be
            show_error(reason)
        self.hide_prompts()
        self.say(reason, bad=True)

    def _on_suggested(self, modality: str | None) -> None:
        if self._offered is not None:
            return  # the user is being asked something else
        self._suggestion = modality or ""
        text = f"The decoder for {modality} is clearly more confident of this image."
        self.show_hint(text if modality else "", f"Switch to {modality}")

    def _on_recorded(self, record: PromptRecord) -> None:
        waiting, self._on_record = self._on_record, []
        for then, _ in waiting:
            then(record)

    def _on_not_recorded(self, event: Failed) -> None:
        if event.task == "record":
            self._give_up(error_text(event.error))

    def _give_up(self, reason: str) -> None:
        """Tell those who wait for a record why none comes."""
        waiting, self._on_record = self._on_record, []
        for _, otherwise in waiting:
            otherwise(reason)

    def _write(self, path: str, record: PromptRecord) -> None:
        self._background.submit(("save", path), partial(write_record, path, record))

    def _on_done(self, key: object, result: Any) -> None:
        if key == "load":
            self.take_over(result)
        else:
            self.say(f"Saved: {result}")

    def _on_failed(self, _key: object, error: BaseException) -> None:
        self.say(str(error), bad=True)
        show_error(str(error))

    def _on_inserted(self, event: Any) -> None:
        """Offer the prompts of a file that was dropped into the viewer."""
        record = event.value.metadata.get(PROMPTS_KEY)
        if isinstance(record, PromptRecord):
            self.offer(record)

    def _show_end(self) -> None:
        """Show that there is no session any more."""
        self._wanted, self._suggestion = None, ""
        if self._offered is None:  # a file can be used without a session, too
            self.show_hint("")
        self.show_tool("")
        self._refresh()
        self.say("The labels stay as they are.")
        self._give_up("The prompts were hidden before they were saved. Save them again.")
        self.closed.emit()

    def _refresh(self) -> None:
        """Show what the session is like now."""
        studio, session = self._studio, None if self._studio is None else self._studio.session
        self.show_open(studio is not None, session is not None)
        self.confidence.setChecked(studio is not None and studio.layers.side.wants_confidence)
        if studio is None or session is None:
            self.show_history("", "")
            self.show_planes("", "")
            return
        settings, header = studio.settings, session.header
        self.show_history(session.undo_text, session.redo_text)
        modality = settings.modality or ""
        if modality == self._suggestion:  # chosen in another way, by undo for example
            self._on_suggested(None)
        self.show_modalities(header.modalities, modality, studio.layers.side.compared)
        self.show_planes(studio.layers.watch.letters, studio.letters_ahead)
        self.controls.show_settings(settings, header.threshold_for(modality))

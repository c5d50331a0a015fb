"""The tab "Objects": a table of what was found, a review of it, and links through the stack."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_espmedsam.widgets.background import Background
from napari_espmedsam.widgets.farewell import Farewell
from napari_espmedsam.widgets.keys import KeyAction, ViewerKeys, add_shortcuts, key_of
from napari_espmedsam.widgets.linking import ways_to_link
from napari_espmedsam.widgets.objects_book import ObjectsBook
from napari_espmedsam.widgets.objects_features import write_features
from napari_espmedsam.widgets.objects_jobs import ObjectsJobs, report
from napari_espmedsam.widgets.objects_measurer import Measured, Measurer
from napari_espmedsam.widgets.objects_panel import ObjectsPanel
from napari_espmedsam.widgets.objects_pointer import ObjectPointer
from napari_espmedsam.widgets.objects_source import axes_of, our_record
from napari_espmedsam.widgets.objects_table import ObjectKey, ObjectTable


class ObjectsTab(ObjectsPanel):
    """Table of the objects of one labels layer, any of the viewer.

    It measures in a thread of its own, while it is on the screen. Nothing of a layer that the
    user has made is changed but which label is selected.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    parent
        Qt parent.

    Attributes
    ----------
    lock_requested : Signal(object, object, bool)
        Layer; a dict from planes, as indices along the leading axes, to tuples of ids; and
        whether to lock or to unlock them. Answer with :meth:`set_locked`.
    scores_wanted : Signal(object)
        The objects of a layer are shown anew. Answer with :meth:`set_scores`.
    """

    lock_requested = Signal(object, object, bool)
    scores_wanted = Signal(object)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self._viewer = viewer
        self._book = ObjectsBook()
        self._measured: Measured | None = None
        self._written: dict[str, set[str]] = {}  # columns of ours in the features of a layer
        self._open = False
        self._keys = ViewerKeys(viewer)
        self._background = Background(self)
        self._measurer = Measurer(viewer, self._background, self)
        self._jobs = ObjectsJobs(viewer, self._background, self)
        self._pointer = ObjectPointer(viewer, self.view, self.model, self)
        self._connect()
        self._on_picked()

    @property
    def layer(self) -> Any | None:
        """The chosen labels layer; None where the viewer has none."""
        return self.picker.layer

    @property
    def table(self) -> ObjectTable | None:
        """What is shown; None before the first measurement."""
        return self._book.table

    @property
    def is_busy(self) -> bool:
        """Whether anything is measured, linked or written, or is about to be."""
        return self._measurer.is_waiting or self._background.is_busy

    @property
    def key_actions(self) -> tuple[KeyAction, ...]:
        """The keys that are bound on the viewer while the dock is open."""
        slots = {
            "next": self.next_object,
            "previous": self.previous_object,
            "lock": self.toggle_lock,
        }
        return tuple(KeyAction(key_of(name), slot) for name, slot in slots.items())

    def set_open(self, is_open: bool) -> None:
        """Begin, or end everything: keys, watching the layer, and the thread.

        The tab begins by itself when it is shown.
        """
        if is_open == self._open:
            return
        self._open = is_open
        self.set_keys(is_open)
        if is_open:
            self._on_picked()
            return
        self._measurer.close()
        self._background.close()
        self.link_part.set_busy("")

    def set_keys(self, on: bool) -> None:
        """Take the keys of the viewer, or give them back: nobody sees the dock."""
        if on:
            self._keys.bind(self.key_actions)
        else:
            self._keys.release()

    def show_layer(self, layer: Any) -> None:
        """Choose a labels layer and measure it at once: for a new result."""
        if self.picker.choose(layer):
            self._measurer.measure()

    def objects_changed(self, layer: Any) -> None:
        """Measure again soon if this is the chosen layer: its pixels were written in place."""
        if self._is_chosen(layer):
            self._measurer.touch()

    def set_scores(self, layer: Any, index: tuple[int, ...], scores: Mapping[str, Any]) -> None:
        """Set how far the objects of a plane can be trusted.

        Parameters
        ----------
        layer
            Their labels layer.
        index : tuple of int
            Where the plane lies along the leading axes (T and Z, in the order of the layer).
        scores : Mapping
            Columns of `napari_espmedsam.inference.trust.object_scores`.
        """
        leading = [letter for letter in axes_of(layer) if letter in "TZ"]
        at = dict(zip(leading, index, strict=True)).get("T", 0)
        self._book.set_scores(layer.unique_id, index, at, scores)
        self._update(layer)

    def forget_scores(self, layer: Any) -> None:
        """Forget the scores of a layer; they are shown until the next ones come."""
        self._book.forget_scores(layer.unique_id)

    def set_locked(self, layer: Any, ids: Collection[int] | None) -> None:
        """Set which objects of a layer are locked; None where they cannot be, as at first."""
        if self._book.set_locks(layer.unique_id, ids):
            self._update(layer)

    def next_object(self) -> None:
        """Go to the next object of the review."""
        key = self._book.review.next()
        if key is not None:
            self._pointer.go(key)
        elif self._book.review.total:
            self.review_note.setText("All have been seen. Next begins again.")

    def previous_object(self) -> None:
        """Go back to the object that was looked at before."""
        key = self._book.review.previous()
        if key is not None:
            self._pointer.go(key)

    def toggle_lock(self) -> None:
        """Ask for the selected objects to be locked, or released if all of them are."""
        keys = self._pointer.selected()
        if keys and self._book.is_lockable:
            self._ask_lock(keys, on=not self._book.are_locked(keys))

    def save_csv(self, path: str | Path) -> None:
        """Write the table into a file, beside the GUI thread."""
        if self.table is not None:
            self._jobs.save(path, self.table)

    def link(self, along: str, min_overlap: float, tracks: bool = False) -> None:
        """Link the objects into a new layer, beside the GUI thread.

        Parameters
        ----------
        along : str
            "Z", "T", or "ZT" for both in turn.
        min_overlap : float
            Share of the smaller of two objects that has to lie on the other, 0 to 1.
        tracks : bool
            Whether to add a tracks layer as well.
        """
        if self.layer is not None:
            self.link_part.set_busy("Linking …")
            self._jobs.link(self.layer, along, min_overlap, tracks)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Catch up with what has changed while the tab was not on the screen."""
        super().showEvent(event)
        self.set_open(True)
        self._measurer.set_active(True)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Leave the processor to whoever is on the screen."""
        super().hideEvent(event)
        self._measurer.set_active(False)

    def _connect(self) -> None:
        self.picker.chosen.connect(self._on_picked)
        self.refresh_button.clicked.connect(self._measurer.measure)
        self._measurer.measured.connect(self._on_measured)
        self._measurer.failed.connect(self._on_unmeasured)
        self._measurer.label_chosen.connect(self._pointer.follow)
        self._jobs.said.connect(self._on_said)
        self._jobs.linked.connect(self._on_linked)
        self.model.lock_toggled.connect(self._on_ticked)
        self.model.layoutChanged.connect(self._on_sorted)
        self._pointer.visited.connect(self._on_visited)
        self.view.selection_changed.connect(self._show_lock)
        self.next_button.clicked.connect(self.next_object)
        self.previous_button.clicked.connect(self.previous_object)
        self.lock_button.clicked.connect(self.toggle_lock)
        self.save_button.clicked.connect(self._ask_path)
        self.link_part.wanted.connect(self.link)
        add_shortcuts(self, self.key_actions)
        # The viewer outlives the tab: it must not hold it, and gets its keys back.
        self._farewell = Farewell(self, self._keys.release)

    def _on_picked(self) -> None:
        """Show another layer."""
        layer = self.layer
        self._book.forget_others([each.unique_id for each in self._viewer.layers])
        self._measurer.set_layer(layer if self._open else None)
        if layer is None:
            self._clear("No labels layer yet: run a segmentation, or add labels.")
        elif self._measured is None or layer.unique_id != self._measured.layer:
            self._clear("Measuring …")

    def _clear(self, text: str, *, bad: bool = False) -> None:
        """Show no objects and why."""
        self._measured = None
        self._book.show("", None)
        self.link_part.set_ways({})
        self._show_table()
        self.say(text, bad=bad)

    def _on_measured(self, measured: Measured) -> None:
        self._measured = measured
        self._book.show(measured.layer, measured.table)
        self.link_part.set_ways(ways_to_link(measured.source))
        self._show_table()
        self.say(measured.summary(our_record(self.layer) if self.layer is not None else None))
        if measured.is_whole:
            self.scores_wanted.emit(self.layer)

    def _on_unmeasured(self, error: Exception) -> None:
        self._clear(report(error), bad=True)

    def _on_linked(self, layer: Any | None) -> None:
        self.link_part.set_busy("")
        if layer is not None:
            self.picker.choose(layer)

    def _on_said(self, text: str, bad: bool) -> None:
        self.say(text, bad=bad)

    def _update(self, layer: Any) -> None:
        """Show scores or locks that have changed."""
        if self._is_chosen(layer):
            self._book.update()
            self._show_table()

    def _show_table(self) -> None:
        """Put the table on the screen, and for layers of ours into their features."""
        table, layer, measured = self.table, self.layer, self._measured
        if table is None or layer is None or measured is None:
            self._pointer.clear()
        else:
            self._pointer.show(layer, measured.source, table, lockable=self._book.is_lockable)
            if our_record(layer) is not None:
                known = self._written.get(layer.unique_id, set())
                self._written[layer.unique_id] = write_features(layer, table, known)
        self.show_count(0 if table is None else len(table))
        self._show_lock()
        self._order_review()

    def _order_review(self) -> None:
        self._book.order_review(self.model.order.tolist())
        self._say_review()

    def _say_review(self) -> None:
        review = self._book.review
        order = "Most doubtful first" if self._book.has_scores else "In the order of the table"
        self.review_note.setText(f"{order}: {review.seen} of {review.total} seen.")
        self.review_note.setVisible(review.total > 0)

    def _on_sorted(self, *_: object) -> None:
        self._order_review()

    def _on_visited(self, key: ObjectKey) -> None:
        self._book.review.visit(key)
        self._say_review()

    def _show_lock(self, *_: object) -> None:
        keys = self._pointer.selected()
        locked = self._book.are_locked(keys)
        self.show_lock(possible=self._book.is_lockable, chosen=bool(keys), locked=locked)

    def _on_ticked(self, row: int, on: bool) -> None:
        if self.table is not None:
            self._ask_lock([self.table.key(row)], on=on)

    def _ask_lock(self, keys: Sequence[ObjectKey], *, on: bool) -> None:
        layer, measured, table = self.layer, self._measured, self.table
        if layer is None or measured is None or table is None:
            return
        planes = table.by_plane(keys, measured.source.leading_axes)
        self.lock_requested.emit(layer, planes, on)

    def _ask_path(self) -> None:
        name = "objects" if self.layer is None else str(self.layer.name)
        path, _filter = QFileDialog.getSaveFileName(
            self, "Save the table", f"{name}.csv", "Table (*.csv)"
        )
        if path:
            self.save_csv(path if Path(path).suffix else f"{path}.csv")

    def _is_chosen(self, layer: Any) -> bool:
        return self.layer is not None and layer.unique_id == self.layer.unique_id

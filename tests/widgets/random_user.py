"""What a user may do in a viewer with the dock, for `test_random_walk`."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from napari.utils import progress
from qtpy.QtCore import QEvent, QModelIndex, Qt
from qtpy.QtWidgets import QApplication, QComboBox, QVBoxLayout, QWidget

from napari_espmedsam.widgets.dock import Dock
from napari_espmedsam.widgets.prompt_files import read_prompts

PLUGIN = "napari-espmedsam"
SHOWN = ("scale", "translate", "rotate", "shear", "units", "axis_labels", "name", "visible")
LOOKS = ("opacity", "blending", "contrast_limits", "gamma", "rgb", "contour")


def state_of(layer: Any) -> dict[str, Any]:
    """Describe a layer of the user: what only the user may change."""
    data = layer.data if isinstance(layer.data, list) else [layer.data]
    found = {name: str(getattr(layer, name)) for name in SHOWN}
    found |= {name: str(getattr(layer, name)) for name in LOOKS if hasattr(layer, name)}
    found["data"] = [(zlib.crc32(np.ascontiguousarray(part)), part.shape) for part in data]
    return found | {"affine": str(layer.affine.affine_matrix), "metadata": str(layer.metadata)}


class Walk:
    """One viewer with the dock, and all that a user may do there.

    Each method whose name begins with `do_` is an action. It draws what it needs from
    :attr:`rng`, and does nothing where there is nothing to do.
    """

    def __init__(self, viewer: Any, folder: Path, clock: Any, qtbot: Any) -> None:
        self.viewer, self.folder, self.clock, self.qtbot = viewer, folder, clock, qtbot
        self.window = hasattr(viewer, "window")
        self.rng = random.Random(0)
        self.mine: dict[Any, dict[str, Any]] = {}
        self.actions = [name for name in dir(self) if name.startswith("do_")]
        layers, dims = viewer.layers.events, viewer.dims.events
        bars = progress._all_instances.events
        for emitter in (layers.inserted, layers.removed, dims.ndisplay, dims.order, bars.changed):
            emitter.connect(clock.note_change)
        self._open()

    def _open(self) -> None:
        self.clock.changes += 3  # three tabs
        if self.window:
            self.holder, self.dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
            return
        self.holder, self.dock = QWidget(), Dock(self.viewer)
        QVBoxLayout(self.holder).addWidget(self.dock)
        self.qtbot.addWidget(self.holder)
        self.holder.show()

    def shut(self) -> None:
        """Close the dock as napari does."""
        if self.window:
            self.viewer.window.remove_dock_widget(self.holder)
            return
        self.dock.setParent(None)
        self.dock.deleteLater()
        self.holder.hide()

    # What the actions are made of -------------------------------------------------------------

    @property
    def studio(self) -> Any:
        """The live session, once it is open."""
        studio = self.dock.prompts.studio
        return studio if studio is not None and studio.session is not None else None

    def add(self, layer: Any) -> None:
        """Add a layer of the user."""
        if len(self.mine) > 4:  # or the viewer fills with layers
            self.remove(self.rng.choice(list(self.mine)))
        with self.clock.measure(f"add {layer.name}"):
            self.viewer.add_layer(layer)
        self.mine[layer] = state_of(layer)

    def remove(self, layer: Any) -> None:
        self.mine.pop(layer, None)
        self.viewer.layers.remove(layer)

    def any_layer(self, kind: type = object, *, mine: bool = False) -> Any:
        layers = [
            each
            for each in self.viewer.layers
            if isinstance(each, kind) and (each in self.mine or not mine)
        ]
        return self.rng.choice(layers) if layers else None

    @contextmanager
    def changing(self, layer: Any) -> Iterator[Any]:
        """Let the user change a layer: only what changes in here is the user's doing."""
        if layer in self.mine:
            assert state_of(layer) == self.mine[layer]
        yield layer
        if layer in self.mine:
            self.mine[layer] = state_of(layer)

    def pixels(self, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
        """Draw some bright discs on noise."""
        noise = np.random.default_rng(self.rng.randrange(2**32))
        image = noise.integers(0, 60, shape)
        rows, columns = np.indices(shape[-2:])
        for _ in range(8):
            row, column = (noise.integers(0, side) for side in shape[-2:])
            image[..., np.hypot(rows - row, columns - column) < 8] += 150
        return image.astype(dtype)

    def pick(self, box: QComboBox) -> None:
        """Choose in a box, as with the mouse."""
        if box.isEnabled() and box.count():
            index = self.rng.randrange(box.count())
            box.setCurrentIndex(index)
            box.activated.emit(index)

    def cell(self, layer: Any) -> tuple[int, ...]:
        """Choose a place in the plane of a layer that is on the screen."""
        shape, dims = layer.data.shape[: layer.ndim], self.viewer.dims
        missing = dims.ndim - layer.ndim
        if missing < 0:
            return (0,) * layer.ndim
        place = layer.world_to_data(dims.point[missing:])
        shown = [axis - missing for axis in dims.displayed]
        return tuple(
            self.rng.randrange(n)
            if axis in shown
            else int(np.clip(np.round(place[axis]), 0, n - 1))
            for axis, n in enumerate(shape)
        )

    # Layers -----------------------------------------------------------------------------------

    def do_add_plane(self) -> None:
        self.add(Image(self.pixels(96, 128), name="plane"))

    def do_add_stack(self) -> None:
        shape = self.rng.choice([(3, 64, 96), (5, 80, 64), (2, 3, 64, 64)])
        self.add(Image(self.pixels(*shape), name="stack"))

    def do_add_colours(self) -> None:
        image = np.stack([self.pixels(64, 80)] * 3, axis=-1)
        self.add(Image(image, rgb=True, name="colours"))

    def do_add_big(self) -> None:
        self.add(Image(self.pixels(1200, 1000, dtype=np.uint16), name="big"))

    def do_add_float(self) -> None:
        image = self.pixels(70, 90, dtype=np.float32) / 255 - 0.2
        self.add(Image(image, name="float"))

    def do_add_scaled(self) -> None:
        place = {"scale": (2, 0.5, 0.4), "translate": (3, -5, 7), "units": ("micrometer",) * 3}
        self.add(Image(self.pixels(4, 64, 80), name="scaled", **place))

    def do_add_labels(self) -> None:
        labels = self.pixels(96, 128, dtype=np.uint16) // 100
        self.add(Labels(labels, name="my labels"))

    def do_add_shape(self) -> None:
        y, x = self.rng.randrange(40), self.rng.randrange(40)
        box = np.array([[y, x], [y, x + 40], [y + 40, x + 40], [y + 40, x]], float)
        self.add(Shapes([box], name="my box"))

    def do_add_points(self) -> None:
        self.add(Points(np.array([[3.0, 4.0], [20.0, 30.0]]), name="my points"))

    def do_remove(self) -> None:
        layer = self.any_layer()
        if layer is not None:
            self.remove(layer)

    def do_rename(self) -> None:
        layer = self.any_layer()
        if layer is not None:
            with self.changing(layer):
                layer.name = self.rng.choice(["plane", "a", "stack [1]", "ä <b>µ</b>"])

    def do_reorder(self) -> None:
        count = len(self.viewer.layers)
        if count > 1:
            self.viewer.layers.move(self.rng.randrange(count), self.rng.randrange(count))

    def do_select(self) -> None:
        layer = self.any_layer()
        if layer is not None:
            self.viewer.layers.selection.active = layer

    def do_hide(self) -> None:
        layer = self.any_layer()
        if layer is not None:
            with self.changing(layer):
                layer.visible = not layer.visible

    def do_place(self) -> None:
        layer = self.any_layer(Image, mine=True)
        if layer is not None:
            with self.changing(layer):
                if self.rng.random() < 0.5:
                    layer.scale = [self.rng.choice([0.5, 1, 2])] * layer.ndim
                else:
                    layer.translate = [self.rng.choice([0, 10, -20])] * layer.ndim

    def do_replace_pixels(self) -> None:
        layer = self.any_layer(Image, mine=True)
        if layer is not None:
            with self.changing(layer):
                layer.data = layer.data[..., ::-1, :].copy()

    def do_edit_my_labels(self) -> None:
        layer = self.any_layer(Labels, mine=True)
        if layer is not None:
            with self.changing(layer):
                layer.paint(self.cell(layer), self.rng.randrange(4))

    # The viewer -------------------------------------------------------------------------------

    def do_step(self) -> None:
        dims = self.viewer.dims
        for axis in range(dims.ndim - 2):
            dims.set_current_step(axis, self.rng.randrange(dims.nsteps[axis]))

    do_step_again = do_step

    def do_turn(self) -> None:
        if self.viewer.dims.ndisplay == 3 or self.rng.random() < 0.3:
            self.viewer.dims.ndisplay = 5 - self.viewer.dims.ndisplay

    def do_swap_axes(self) -> None:
        if self.rng.random() < 0.3:
            self.viewer.dims.roll()

    def do_zoom(self) -> None:
        self.viewer.scene.camera.zoom = self.rng.choice([0.5, 2, 6])
        self.viewer.scene.camera.center = (0, self.rng.randrange(90), self.rng.randrange(120))

    def do_tab(self) -> None:
        self.dock.tabs.setCurrentIndex(self.rng.randrange(3))

    def do_close_dock(self) -> None:
        if self.rng.random() < 0.2:
            self.shut()
            self._open()

    def do_hide_dock(self) -> None:
        self.holder.setVisible(not self.holder.isVisible())

    # Segment ----------------------------------------------------------------------------------

    def do_choose_image(self) -> None:
        if self.dock.segment.form.isEnabled():
            self.pick(self.dock.segment.form.image)

    def do_fill_form(self) -> None:
        form = self.dock.segment.form
        if form.isEnabled():
            self.pick(self.rng.choice([form.modality, form.scope, form.channel]))
            form.fields["output"].value = self.rng.choice(["mask", "objects", "split"])

    def do_axes(self) -> None:
        form = self.dock.segment.form
        if form.isEnabled() and self.rng.random() < 0.3:
            form.axes.setText(self.rng.choice(["YX", "ZYX", "XY", "YXZ", "??", ""]))
            form.axes.textEdited.emit(form.axes.text())

    def do_defaults(self) -> None:
        self.dock.segment.defaults_button.click()

    def do_run(self) -> None:
        self.dock.segment.run_button.click()

    def do_cancel(self) -> None:
        self.dock.segment.cancel_button.click()

    # Prompts ----------------------------------------------------------------------------------

    def do_show_prompts(self) -> None:
        if self.dock.prompts.studio is None or self.rng.random() < 0.1:
            self.dock.prompts.show_button.click()

    do_show_prompts_again = do_show_prompts_at_last = do_show_prompts

    def do_region(self) -> None:
        if self.rng.random() < 0.5:
            self.pick(self.dock.prompts.region)

    def do_paint_cells(self) -> None:
        cells = self.studio and self.studio.layers.prompts.cells
        if cells is not None:
            for _ in range(self.rng.randrange(1, 4)):
                cells.paint(self.cell(cells), self.rng.choice([0, 2, 3, 9]))

    do_paint_more_cells = do_paint_cells

    def do_fill_cells(self) -> None:
        cells = self.studio and self.studio.layers.prompts.cells
        if cells is not None:
            cells.fill(self.cell(cells), self.rng.choice([0, 2]))

    def do_click_cell(self) -> None:
        cells = self.studio and self.studio.layers.prompts.cells
        shown = cells in self.viewer.layers
        if shown and self.window and self.viewer.dims.ndisplay == 2:
            self.viewer.layers.selection.active = cells
            canvas = self.viewer.window._qt_viewer.canvas.native
            size = canvas.size()
            where = canvas.rect().topLeft()
            where.setX(self.rng.randrange(1, size.width()))
            where.setY(self.rng.randrange(1, size.height()))
            for press in (self.qtbot.mousePress, self.qtbot.mouseRelease):
                press(canvas, Qt.MouseButton.LeftButton, pos=where)

    def do_paint_labels(self) -> None:
        layer = self.studio and self.studio.layers.labels.layer
        if layer is not None:
            layer.paint(self.cell(layer), self.rng.randrange(5))

    def do_tool(self) -> None:
        self.rng.choice(list(self.dock.prompts.tool_buttons.values())).click()

    def do_mark(self) -> None:
        if self.studio is None or not self.studio.layers.markers.layers:
            return
        layer = self.rng.choice(self.studio.layers.markers.layers)
        place = np.array(self.cell(self.studio.prepared.layer), float)
        if hasattr(layer, "add_rectangles"):
            corners = np.tile(place, (4, 1))
            corners[:, [self.studio.layers.axes.index(each) for each in "YX"]] += [
                (0, 0),
                (0, 20),
                (20, 20),
                (20, 0),
            ]
            layer.add_rectangles(corners)
        else:
            layer.add(place)

    def do_unmark(self) -> None:
        for layer in () if self.studio is None else self.studio.layers.markers.layers:
            if len(layer.data):
                layer.selected_data = {self.rng.randrange(len(layer.data))}
                layer.remove_selected()

    def do_slide(self) -> None:
        field = self.rng.choice(list(self.dock.prompts.controls.fields.values()))
        if self.studio is None or not hasattr(field, "slider"):
            return
        start = self.rng.randrange(1000)
        for way in range(0, 50, 10):
            field.slider.setValue(start + way)

    def do_prompt_threshold(self) -> None:
        if self.studio is not None:
            self.dock.prompts.controls.fields["prompt_threshold"].slider.setValue(
                self.rng.randrange(1000)
            )

    def do_output(self) -> None:
        if self.studio is not None:
            editor = self.dock.prompts.controls.fields["output"].editor
            self.pick(editor)

    def do_modality(self) -> None:
        prompts = self.dock.prompts
        self.pick(self.rng.choice([prompts.modality, prompts.compare]))

    def do_confidence(self) -> None:
        self.dock.prompts.confidence.click()

    def do_history(self) -> None:
        self.rng.choice([self.dock.prompts.undo_button, self.dock.prompts.redo_button]).click()

    do_more_history = do_history

    def do_planes(self) -> None:
        prompts = self.dock.prompts
        choices = [prompts.run_button, prompts.stop_button, *prompts.copy_buttons.values()]
        self.rng.choice(choices).click()

    def do_hint(self) -> None:
        self.dock.prompts.hint_button.click()

    def do_save_prompts(self) -> None:
        self.dock.prompts.save_prompts(self.folder / f"{self.rng.randrange(3)}.espprompts.json")

    def do_load_prompts(self) -> None:
        files = sorted(self.folder.glob("*.espprompts.json"))
        if files:
            self.dock.prompts.load_prompts(self.rng.choice(files))

    def do_drop_prompts(self) -> None:
        files = sorted(self.folder.glob("*.espprompts.json"))
        if files:
            data, attributes, _kind = read_prompts(self.rng.choice(files))[0]
            self.viewer.add_labels(data, **attributes)

    # Objects ----------------------------------------------------------------------------------

    def do_pick_labels(self) -> None:
        self.pick(self.dock.objects.picker)

    def do_review(self) -> None:
        objects = self.dock.objects
        self.rng.choice([objects.next_button, objects.previous_button]).click()

    do_review_more = do_review

    def do_lock(self) -> None:
        view = self.dock.objects.view
        rows = view.model().rowCount(QModelIndex())
        if rows:
            view.selectRow(self.rng.randrange(rows))
        self.dock.objects.lock_button.click()

    do_lock_more = do_lock

    def do_sort(self) -> None:
        view = self.dock.objects.view
        columns = view.model().columnCount(QModelIndex())
        view.sortByColumn(self.rng.randrange(columns + 1) - 1, Qt.SortOrder.DescendingOrder)

    def do_measure(self) -> None:
        self.dock.objects.refresh_button.click()

    def do_link(self) -> None:
        part = self.dock.objects.link_part
        if part.isVisibleTo(self.dock.objects) and self.rng.random() < 0.5:
            self.pick(part.along)
            part.tracks.setChecked(self.rng.random() < 0.5)
            part.button.click()

    def do_choose_label(self) -> None:
        layer = self.dock.objects.layer
        if layer is not None:
            layer.selected_label = self.rng.randrange(6)

    def do_save_table(self) -> None:
        self.dock.objects.save_csv(self.folder / "objects.csv")

    # The walk ---------------------------------------------------------------------------------

    def is_busy(self) -> bool:
        session = self.dock.prompts.studio and self.dock.prompts.studio.session
        opening = self.dock.prompts.studio is not None and session is None
        return bool(
            opening
            or (session is not None and not session.idle)
            or self.dock.segment.is_running
            or self.dock.objects.is_busy
        )

    def do_wait(self) -> None:
        """Let all come to an end, or not quite."""
        end = time.monotonic() + 0.4
        while self.is_busy() and time.monotonic() < end:
            self.process("waiting")

    do_wait_more = do_wait_again = do_wait_once_more = do_wait

    def process(self, what: str) -> None:
        time.sleep(0.002)  # the threads want to work as well
        with self.clock.measure(f"events after {what}"):
            QApplication.processEvents()
            # What a running application does by itself, and this call does not.
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    def step(self, number: int, seed: int) -> str:
        """Do something, and let Qt work."""
        self.rng = random.Random(f"{seed} {number}")
        name = self.rng.choice(self.actions)
        what = name.removeprefix("do_")
        if what.startswith(("add", "wait")):
            getattr(self, name)()
        else:
            with self.clock.measure(what):
                getattr(self, name)()
        for _ in range(self.rng.choice([0, 1, 1, 3])):
            self.process(what)
        return what

    def wait_for_the_end(self) -> None:
        """Wait until no dock has a thread any more."""
        end = time.monotonic() + 20
        while any(each.name.startswith("espmedsam") for each in threading.enumerate()):
            assert time.monotonic() < end, threading.enumerate()
            self.process("closing")

    def check_mine(self) -> None:
        for layer, before in self.mine.items():
            assert layer in self.viewer.layers, f"'{before['name']}' is gone"
            assert state_of(layer) == before

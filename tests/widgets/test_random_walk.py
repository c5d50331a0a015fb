"""A user who does anything at any time: random actions in a real viewer, with a tiny random model.

Nothing may raise, hold the window up, or change a layer of the user. A longer walk by hand::

    WALK_SEED=7 WALK_STEPS=5000 python -m pytest tests/widgets/test_random_walk.py
"""

from __future__ import annotations

import gc
import importlib.util
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from napari.utils.colormaps import _accelerated_cmap
from napari.utils.notifications import ErrorNotification, notification_manager
from vispy.app.backends._qt import CanvasBackendDesktop

colormap_backend = pytest.importorskip("napari.utils.colormap_backend")  # not in napari 0.6.0

SEED = int(os.environ.get("WALK_SEED", 0))
LIMIT = 0.2  # s
# Other programs on the processor slow its caches down: of all that is measured, this share may take
# up to twice the limit.
SPARE = 0.005
# s of napari's own for each change of what is shown: without a window it draws nothing, with one
# it makes visuals and controls, and collects garbage for each removal.
PER_CHANGE = {False: 0.1, True: 1.5}

# The folders of the tests are no packages, so a file beside a test is loaded by its path.
_spec = importlib.util.spec_from_file_location(
    "random_user", Path(__file__).with_name("random_user.py")
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Walk = _module.Walk


class Clock:
    """Measures how long the GUI thread is held up by one thing that it does.

    Counted is the processor time of that thread alone. Time on the clock of the wall would be
    that of the machine, on which other programs and the threads of the plugin take turns. What it
    cannot see is a wait for another thread: that would show as a walk that takes for ever.

    Where a layer or a bar of progress comes or goes, or other axes are on the screen, napari itself
    makes or removes visuals and controls, which alone takes longer than what is asked of the
    plugin; :meth:`note_change` tells of that. Drawing is left out: without a graphics card it is
    done by the processor, shaders and all.
    """

    def __init__(self, window: bool) -> None:
        self.per_change = PER_CHANGE[window]
        self.slow: list[tuple[str, float]] = []
        self.hung: list[tuple[str, float]] = []
        self.measured = 0
        self.drawn = 0.0
        self.last = 0.0
        self.changes = self.changes_before = 0  # of what is in the window

    def note_change(self, _event: Any = None) -> None:
        """Note that napari has much to do itself."""
        self.changes += 1

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        start, drawn = time.thread_time(), self.drawn
        yield
        self.last = time.thread_time() - start - (self.drawn - drawn)
        changes, self.changes = self.changes, 0
        # What has come a moment ago is drawn for the first time now.
        ours = self.last - self.per_change * (changes + self.changes_before)
        if ours > LIMIT:
            (self.hung if ours > 2 * LIMIT else self.slow).append((what, self.last))
        self.measured += 1
        self.changes_before = changes


@pytest.fixture
def faults(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[], str]]:
    """Return a function that says what went wrong in a slot, a thread, or behind a message."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: found.append(repr(args)))

    def note(notification: Any) -> None:
        if isinstance(notification, ErrorNotification):
            found.append(notification.as_text())

    notification_manager.notification_ready.connect(note)
    yield lambda: "\n".join(
        found + [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    )
    notification_manager.notification_ready.disconnect(note)


@pytest.fixture
def start(
    make_napari_viewer: Any, checkpoint: Path, monkeypatch: Any, tmp_path: Path, qtbot: Any
) -> Iterator[Callable[[Clock, bool], Walk]]:
    """Return a function that opens a viewer on the screen, with the dock and a tiny model."""
    for module in ("widgets.pickers", "widgets.segment", "inference.segmenter"):
        name = f"napari_espmedsam.{module}.resolve_checkpoint"
        monkeypatch.setattr(name, lambda _name=None: checkpoint)

    # What napari compiles, loads or imports for the first layer of a kind is not measured.
    backend = _accelerated_cmap.COLORMAP_BACKEND
    _accelerated_cmap.set_colormap_backend(colormap_backend.ColormapBackend.pure_python)
    first = Walk(ViewerModel(), tmp_path, Clock(False), qtbot)
    for name in ("do_add_plane", "do_add_labels", "do_add_shape", "do_add_points"):
        getattr(first, name)()
    first.viewer.add_shapes()  # an empty layer loads more than one with shapes
    first.shut()
    first.wait_for_the_end()
    # A collection of all objects of torch and napari takes as long as the limit, at any time.
    gc.collect()
    gc.freeze()

    def open_(clock: Clock, window: bool) -> Walk:
        if not window:
            return Walk(ViewerModel(), tmp_path, clock, qtbot)

        def paint(canvas: Any) -> None:
            start = time.thread_time()
            original(canvas)
            clock.drawn += time.thread_time() - start

        original = CanvasBackendDesktop.paintGL
        monkeypatch.setattr(CanvasBackendDesktop, "paintGL", paint)
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(900, 700)
        return Walk(viewer, tmp_path, clock, qtbot)

    yield open_
    gc.unfreeze()
    qtbot.wait(50)  # what is to be deleted later is deleted
    gc.collect()  # here, and not in a thread of the next test: widgets belong to this one
    _accelerated_cmap.set_colormap_backend(backend)


@pytest.mark.parametrize(
    ("viewers", "window", "steps"),
    [
        pytest.param(2, False, 500, id="two-bare-viewers"),
        pytest.param(1, True, 60, id="window"),
        pytest.param(1, True, 500, id="window-for-long", marks=pytest.mark.long),
    ],
)
def test_anything_in_any_order(
    start: Any, faults: Callable[[], str], qtbot: Any, viewers: int, window: bool, steps: int
) -> None:
    clock, log = Clock(window), deque(maxlen=25)
    walks = [start(clock, window) for _ in range(viewers)]
    steps = int(os.environ.get("WALK_STEPS", steps))
    with qtbot.capture_exceptions() as raised:
        try:
            for number in range(steps):
                walk = walks[number // 10 % viewers]
                log.append(walk.step(number, SEED))
                assert not raised, raised
                assert not faults(), faults()
                walk.check_mine()
            for walk in walks:
                walk.shut()
            for walk in walks:
                walk.wait_for_the_end()
        except BaseException as error:
            error.add_note(f"seed {SEED}, step {number} of {steps}; the last steps: {list(log)}")
            raise
    assert not raised
    assert not faults(), faults()
    assert not clock.hung, clock.hung
    assert len(clock.slow) <= SPARE * clock.measured, clock.slow

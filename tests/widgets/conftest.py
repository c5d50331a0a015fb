"""A viewer with the widget opened through the manifest, and a segmenter that computes nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QObject, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication
from safetensors.numpy import save_file

from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.results import PlaneResult, TileDone
from napari_espmedsam.widgets.segment import SegmentWidget

PLUGIN = "napari-espmedsam"
THIRD_PARTY_NOISE = (
    # napari draws the colours of labels with scikit-image
    "ignore:Conversion from CIE-LAB:UserWarning",
    # napari says so itself when it shows a layer that is turned against the sliders
    "ignore:Non-orthogonal slicing:UserWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let warnings that napari raises in its own code pass, in this folder only."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for text in THIRD_PARTY_NOISE:
                item.add_marker(pytest.mark.filterwarnings(text))


@dataclass
class FakeSegmenter:
    """Labels every pixel above 0; each tile waits for a permit once `hold` was called."""

    permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    held: bool = False
    fail_at: int | None = None
    error: Exception | None = None
    n_tiles: int = 2
    tiles_started: int = 0
    closed: bool = False
    loads: int = 0
    library: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    device: Any = field(
        default_factory=lambda: SimpleNamespace(device="cpu", reason="The CPU: a test.")
    )

    def load(self, _request: SegmentRequest) -> FakeSegmenter:
        """Stand in for loading a model."""
        self.loads += 1
        return self

    def hold(self) -> None:
        """Stop before each tile from now on."""
        self.held = True

    def let(self, n: int) -> None:
        """Let n tiles through."""
        self.permits.release(n)

    def awaits(self, _modality: str | None = None) -> str:
        """Name what the first tile waits for."""
        return self.library

    def iter_segment(
        self,
        image: Any,
        modality: str | None = None,
        *,
        axes: str | None = None,
        channel: int | None = None,
        rgb: bool | None = None,
        planes: tuple[int, ...] | None = None,
        **rest: Any,
    ) -> Iterator[TileDone | PlaneResult]:
        self.calls.append({"modality": modality, "axes": axes, "channel": channel, "rgb": rgb})
        self.settings.append(rest)
        self.threads.add(threading.get_ident())
        stack = PlaneStack.from_array(image, axes, channel=channel, rgb=rgb)
        wanted = range(len(stack)) if planes is None else planes
        try:
            for number, i in enumerate(wanted):
                for tile in range(self.n_tiles):
                    self.tiles_started += 1
                    assert not self.held or self.permits.acquire(timeout=10)
                    if number == self.fail_at and self.error is not None:
                        raise self.error
                    yield TileDone(number, len(wanted), tile, self.n_tiles)
                plane = stack.plane(i)
                grey = plane[..., 0] if plane.ndim == 3 else plane
                labels = (grey > 0).astype(np.uint32) * (number + 1)
                yield PlaneResult(
                    number, len(wanted), stack.index(i), labels, {"model": {"name": "fake"}}
                )
        finally:
            self.closed = True


@pytest.fixture
def fake() -> FakeSegmenter:
    """Return a segmenter that runs through, or tile by tile."""
    return FakeSegmenter()


MODALITIES: dict[str, dict[str, Any]] = {
    "microscopy": {"geometry": "tiled", "size": 64, "diameter": 30.0, "pixel_size": 0.5},
    "dermoscopy": {"geometry": "whole", "size": 96},
    "fundus": {"geometry": "tiled", "size": 64, "scale": 2.0},
}


@pytest.fixture
def write_weights(tmp_path: Path) -> Callable[[str, Iterable[str], str], Path]:
    """Return a function that writes a file with a header and no model: all that a form reads."""

    def write(name: str, modalities: Iterable[str], licence: str) -> Path:
        names = list(modalities)
        header = {
            "format_version": 1,
            "name": name,
            "architecture": "esp_medsam_test",
            "config": {"modalities": names},
            "modalities": names,
            "inputs": {each: MODALITIES[each] for each in names},
            "licence": licence,
        }
        path = tmp_path / f"{name}.safetensors"
        save_file({"nothing": np.zeros(1)}, path, {"napari-espmedsam": json.dumps(header)})
        return path

    return write


@pytest.fixture
def weights(write_weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a file where the default weights are expected; a fake segmenter never reads it."""
    import napari_espmedsam.widgets.pickers as pickers
    import napari_espmedsam.widgets.segment as segment

    path = write_weights("default", MODALITIES, "CC-BY-NC-SA-4.0")
    for module in (pickers, segment):
        monkeypatch.setattr(module, "resolve_checkpoint", lambda _name: path)
    return path


@pytest.fixture
def open_widget(
    make_napari_viewer: Callable[..., Any], weights: Any, fake: FakeSegmenter
) -> Callable[..., tuple[Any, SegmentWidget]]:
    """Return a function that opens the widget through the manifest, with the fake inside."""

    def open_() -> tuple[Any, SegmentWidget]:
        viewer = make_napari_viewer()
        _dock, tabs = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
        tabs.segment._load = tabs.prompts.load = fake.load
        return viewer, tabs.segment

    return open_


@pytest.fixture
def checkpoint(tmp_path: Path, save_tiny: Callable[..., Path]) -> Path:
    """Return the file of a model with random weights that runs in milliseconds."""
    inputs = {
        "microscopy": {"geometry": "tiled", "size": 64, "diameter": 20.0},
        "dermoscopy": {"geometry": "whole", "size": 64},
    }
    return save_tiny(tmp_path / "tiny.safetensors", inputs)


@pytest.fixture
def bare_widget(qtbot: Any, weights: Any, fake: FakeSegmenter) -> tuple[Any, SegmentWidget]:
    """Return a viewer without a window and a widget on it: no OpenGL, a tenth of the time."""
    viewer = ViewerModel()
    widget = SegmentWidget(viewer, loader=fake.load)
    qtbot.addWidget(widget)
    return viewer, widget


@pytest.fixture
def finish(qtbot: Any) -> Callable[[SegmentWidget], None]:
    """Return a function that waits until the widget has nothing to do."""

    def wait(widget: SegmentWidget) -> None:
        qtbot.waitUntil(lambda: not widget.is_running, timeout=30_000)

    return wait


@pytest.fixture
def segmenter(make_segmenter: Callable[..., Any]) -> Any:
    """Return a model: foreground is brighter than a half and in a prompt cell that is on."""
    return make_segmenter()


@pytest.fixture
def make_segmenter() -> Callable[..., Any]:
    """Return a function that makes a model whose foreground is brighter than a level."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.model.header import CheckpointHeader, InputSpec
    from napari_espmedsam.model.output import Features

    class GateModel(nn.Module):
        prompt_kind = "grid"
        modalities = ("near", "far")

        def __init__(self, level: float) -> None:
            super().__init__()
            self.level = level
            self.gain = nn.Parameter(torch.tensor(20.0))

        def extract(self, images: Tensor, modality: Tensor, unnormalised: Any = None) -> Features:
            logits = self.gain * (F.avg_pool2d(images.mean(1, keepdim=True), 4) - self.level)
            return Features(logits, F.max_pool2d(logits, 8))

        def decode_features(
            self, features: Features, modality: Tensor, prompt: Tensor | None = None
        ) -> Tensor:
            on = (features.prompt >= 0).float() if prompt is None else prompt
            gate = F.interpolate(on, scale_factor=8.0, mode="nearest")
            logits = features.embedding * 0.1 ** modality.view(-1, 1, 1, 1).float()
            return torch.where(gate > 0, logits, torch.full_like(logits, -20.0))

    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "percentiles": (0.0, 100.0)}
    spec = InputSpec(geometry="tiled", size=64, **plain)
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config={"modalities": GateModel.modalities},
        modalities=GateModel.modalities,
        inputs=dict.fromkeys(GateModel.modalities, spec),
        licence="Apache-2.0",
    )

    def make(level: float = 0.5, far_scale: float | None = None) -> Any:
        far = spec if far_scale is None else spec.model_copy(update={"scale": far_scale})
        own = header.model_copy(update={"inputs": {"near": spec, "far": far}})
        return Segmenter(GateModel(level), own, "ab" * 32, device="cpu")

    return make


@pytest.fixture
def discs() -> Callable[..., np.ndarray]:
    """Return a function that draws bright discs of radius 8 on a dark plane."""

    def draw(shape: tuple[int, int], *centres: tuple[int, int]) -> np.ndarray:
        rows, columns = np.indices(shape)
        plane = np.full(shape, 20, np.uint8)
        for row, column in centres:
            plane[np.hypot(rows - row, columns - column) <= 8] = 200
        return plane

    return draw


@pytest.fixture
def idle(qtbot: Any) -> Callable[[Any], None]:
    """Return a function that waits until all that a live session has to say has been shown."""

    def wait(view: Any) -> None:
        def is_done() -> bool:
            session = view.session
            return session is not None and session.visible is not None and session.idle

        qtbot.wait(1)  # what was painted is noticed
        while True:
            qtbot.waitUntil(is_done, timeout=30_000)
            qtbot.wait(5)  # what was said arrives, and may lead to more
            if is_done():
                return

    return wait


@pytest.fixture
def parent(qtbot: Any) -> QObject:
    """Return a Qt parent that goes with the test, in the GUI thread."""
    return QObject()


class Mouse:
    """The left mouse button on a viewer's canvas, through Qt; places are in world units."""

    def __init__(self, viewer: Any, qtbot: Any) -> None:
        self._viewer, self._qtbot = viewer, qtbot
        self._canvas = viewer.window._qt_viewer.canvas

    def press(self, world: tuple[float, float]) -> None:
        """Press the button."""
        self._qtbot.mouseMove(self._canvas.native, self._point(world))
        self._qtbot.mousePress(
            self._canvas.native, Qt.MouseButton.LeftButton, pos=self._point(world)
        )

    def move(self, world: tuple[float, float]) -> None:
        """Move with the button down; QTest's own moves hold no button."""
        point = QPointF(self._point(world))
        event = QMouseEvent(
            QEvent.Type.MouseMove,
            point,
            QPointF(self._canvas.native.mapToGlobal(point.toPoint())),
            Qt.MouseButton.NoButton,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self._canvas.native, event)
        QApplication.processEvents()

    def release(self, world: tuple[float, float]) -> None:
        """Release the button."""
        self._qtbot.mouseRelease(
            self._canvas.native, Qt.MouseButton.LeftButton, pos=self._point(world)
        )
        QApplication.processEvents()

    def click(self, world: tuple[float, float]) -> None:
        """Press and release."""
        self.press(world)
        self.release(world)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first place, move over the others, release at the last."""
        self.press(places[0])
        for place in places[1:]:
            self._qtbot.wait(30)  # moves that follow too fast are dropped, as with a real mouse
            self.move(place)
        self._qtbot.wait(30)
        self.release(places[-1])

    def _point(self, world: tuple[float, float]) -> QPoint:
        """Find the point of the canvas: a camera of a plane only shifts and magnifies."""
        native, camera = self._canvas.native, self._viewer.scene.camera
        y = native.height() / 2 + (world[0] - camera.center[1]) * camera.zoom
        x = native.width() / 2 + (world[1] - camera.center[2]) * camera.zoom
        return QPoint(round(x), round(y))


@pytest.fixture
def mouse(qtbot: Any) -> Callable[[Any], Mouse]:
    """Return a function that gives the mouse on a viewer."""
    return lambda viewer: Mouse(viewer, qtbot)

"""Records of sessions that nobody had, and what sessions that somebody has need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.output import Features
from napari_espmedsam.model.registry import create_model
from napari_espmedsam.studio.events import PlaneReady
from napari_espmedsam.studio.plane_record import PlaneRecord
from napari_espmedsam.studio.record import PromptRecord, setting_names
from napari_espmedsam.studio.session import Session

Array = np.ndarray[Any, np.dtype[Any]]
MakeSegmenter = Callable[..., Segmenter]
MakeSession = Callable[..., Session]
MakeRecord = Callable[..., PromptRecord]


@pytest.fixture
def make_record() -> MakeRecord:
    """Build the record of a stack of 4 planes of 64 x 96 px with two planes edited."""

    def build(**changes: Any) -> PromptRecord:
        rng = np.random.default_rng(3)
        locked = np.zeros((64, 96), np.uint32)
        locked[10:20, 30:50] = 7
        locked[40:42, 0:9] = 2**32 - 1
        planes = (
            PlaneRecord((1,), "a" * 32, rng.integers(-1, 2, (2, 3)).astype(np.int8)),
            PlaneRecord(
                (3,),
                "b" * 32,
                rng.integers(-1, 2, (2, 3)).astype(np.int8),
                anchors=np.array([[9, 0, 5], [4, 63, 95]]),
                locked=locked,
            ),
        )
        request = SegmentRequest(modality="microscopy", threshold=0.4, planes=(1, 3))
        plain: dict[str, Any] = {
            "image_shape": (4, 64, 96),
            "image_dtype": "uint16",
            "axes": "ZYX",
            "checkpoint": "espmedsam",
            "weights_sha256": "c" * 64,
            "settings": {name: getattr(request, name) for name in setting_names()},
            "planes": planes,
            "version": "0.1.0",
            "created": "2025-01-01T00:00:00+00:00",
            "image_name": "Zellen ä 细胞",
            "cell_size": (32.0, 32.5),
        }
        return PromptRecord(**(plain | changes))

    return build


class GateModel(nn.Module):
    """Foreground is what is brighter than a half and lies in a prompt cell that is on.

    The modality "far" is less sure of everything. Tiles can be held up, to look at what happens
    meanwhile.
    """

    prompt_kind = "grid"

    def __init__(self, modalities: tuple[str, ...] = ("near", "far")) -> None:
        super().__init__()
        self.modalities = modalities
        self.gain = nn.Parameter(torch.tensor(20.0))
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.n_encoded = self.n_decoded = 0
        self.threads: set[str] = set()

    def extract(
        self, images: Tensor, modality: Tensor, unnormalised: Tensor | None = None
    ) -> Features:
        self.begun.set()
        assert self.open.wait(60)
        self.threads.add(threading.current_thread().name)
        self.n_encoded += 1
        logits = self.gain * (F.avg_pool2d(images.mean(1, keepdim=True), 4) - 0.5)
        return Features(logits, F.max_pool2d(logits, 8))

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        self.threads.add(threading.current_thread().name)
        self.n_decoded += 1
        on = (features.prompt >= 0).float() if prompt is None else prompt
        gate = F.interpolate(on, scale_factor=8.0, mode="nearest")
        logits = features.embedding * 0.1 ** modality.view(-1, 1, 1, 1).float()
        return torch.where(gate > 0, logits, torch.full_like(logits, -20.0))


class Log:
    """Keep the events of a session, and put its labels together as a layer would."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.threads: set[str] = set()

    def __call__(self, event: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        """Events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def labels(self, shape: tuple[int, ...]) -> Array:
        """All labels that were announced, the latest of each plane."""
        found = np.zeros(shape, np.uint32)
        for event in self.of(PlaneReady):
            height, width = event.labels.shape
            top, left = event.offset
            found[(*event.index, slice(top, top + height), slice(left, left + width))] = (
                event.labels
            )
        return found


@pytest.fixture
def log() -> Log:
    """Collect events."""
    return Log()


@pytest.fixture
def gate_model() -> GateModel:
    """Return a model whose answer is known."""
    return GateModel()


@pytest.fixture
def make_segmenter() -> MakeSegmenter:
    """Build a segmenter around a model, or a tiny one by name; cells of "far" are smaller."""

    def build(model: Any = "esp_medsam_test", *, far_scale: float = 1.0) -> Segmenter:
        torch.manual_seed(0)
        name = model if isinstance(model, str) else "esp_medsam_test"
        if isinstance(model, str):
            model = create_model(name, modalities=("near", "far"))
        plain: dict[str, Any] = {
            "geometry": "tiled",
            "size": 64,
            "percentiles": (0.0, 100.0),
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
        }
        header = CheckpointHeader(
            name="tiny",
            architecture=name,
            config={"modalities": model.modalities},
            modalities=model.modalities,
            inputs={m: InputSpec(**plain) for m in model.modalities}
            | {"far": InputSpec(**plain | {"scale": far_scale})},
            licence="Apache-2.0",
            thresholds={"far": 0.45},
        )
        return Segmenter(model, header, "ab" * 32, device="cpu")

    return build


@pytest.fixture
def make_session(log: Log) -> Iterator[MakeSession]:
    """Start sessions that report to the log; all are closed at the end."""
    sessions: list[Session] = []

    def start(segmenter: Segmenter, image: Any, **options: Any) -> Session:
        names = {info.name for info in request_options()}
        settings = {name: options.pop(name) for name in names & set(options)}
        request = SegmentRequest(**({"modality": "near"} | settings))
        sessions.append(Session(segmenter, image, request, **({"on_event": log} | options)))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close(wait=True)
    left = [thread.name for thread in threading.enumerate() if "espmedsam" in thread.name]
    assert left == []


@pytest.fixture
def discs() -> Callable[..., Array]:
    """Draw bright discs of radius 8 on a dark plane."""

    def draw(shape: tuple[int, int], centres: list[tuple[int, int]]) -> Array:
        rows, columns = np.indices(shape)
        plane = np.full(shape, 20, np.uint8)
        for row, column in centres:
            plane[np.hypot(rows - row, columns - column) <= 8] = 200
        return plane

    return draw

"""One run as a generator of events: what happens in the worker thread. No Qt, no layers.

superqt ends a generator worker that raises ``RuntimeError`` without any signal (it takes it for a
deleted Qt object), and torch raises just that when it runs out of memory. So the generator never
raises: how a run ended, errors included, is its last event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.results import PlaneResult, TileDone
from napari_espmedsam.model.header import CheckpointHeader, read_header
from napari_espmedsam.weights import resolve_checkpoint


class SegmenterLike(Protocol):
    """What a run needs of ``inference.segmenter.Segmenter``."""

    @property
    def device(self) -> Any:
        """The compute device: ``.device`` and ``.reason``."""

    def awaits(self, modality: str | None = None) -> str:
        """Name the library that the first tile has to wait for, or ""."""

    def iter_segment(
        self, image: Any, /, *args: Any, **options: Any
    ) -> Iterator[TileDone | PlaneResult]:
        """Segment plane by plane."""


Loader = Callable[[SegmentRequest], SegmenterLike]


@dataclass(frozen=True, eq=False)
class Job:
    """What the worker gets: plain data, no widget and no layer.

    Attributes
    ----------
    image
        Array-like of the layer, level 0; read plane by plane in the worker.
    request
        The frozen settings.
    segmenter
        The model of the run before, where it still fits; loaded otherwise.
    stop
        Set to cancel: the run ends after the tile that is being computed.
    ended
        Set when the run has let go of everything.
    """

    image: Any
    request: SegmentRequest
    segmenter: SegmenterLike | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, eq=False)
class Loading:
    """The model is being read."""


@dataclass(frozen=True, eq=False)
class Ready:
    """The model is on its device; the form keeps it for the next run.

    Attributes
    ----------
    segmenter
        The model.
    awaits
        Library that the first tile has to wait for, or "".
    """

    segmenter: SegmenterLike
    awaits: str = ""


@dataclass(frozen=True, eq=False)
class Ended:
    """Last event of a run.

    Attributes
    ----------
    cancelled
        Whether the run was stopped before its last plane.
    error
        The exception that ended it, if one did.
    """

    cancelled: bool = False
    error: Exception | None = None


Event = Loading | Ready | TileDone | PlaneResult | Ended


def load_segmenter(request: SegmentRequest) -> SegmenterLike:
    """Load the model of a request; this is where torch is imported."""
    from napari_espmedsam.inference.segmenter import Segmenter

    return Segmenter.from_checkpoint(**request.model_options())


def run(job: Job, load: Loader = load_segmenter) -> Iterator[Event]:
    """Run a job, yielding after each tile and each plane.

    Parameters
    ----------
    job
        What to do.
    load
        Gives the model of a request.

    Yields
    ------
    Loading, Ready, TileDone, PlaneResult
        Progress.
    Ended
        Once, as the last event.
    """
    try:
        yield from _steps(job, load)
    except Exception as error:  # whatever it is, the form has to hear of it
        yield Ended(error=error)
    finally:
        job.ended.set()


def _steps(job: Job, load: Loader) -> Iterator[Event]:
    segmenter = job.segmenter
    if segmenter is None:
        yield Loading()
        segmenter = load(job.request)
    yield Ready(segmenter, segmenter.awaits(job.request.modality))
    if job.stop.is_set():
        yield Ended(cancelled=True)
        return
    steps = segmenter.iter_segment(job.image, **job.request.segment_options())
    cancelled = False
    try:
        for step in steps:
            yield step
            if job.stop.is_set():
                cancelled = not _is_last(step)
                break
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()
    yield Ended(cancelled=cancelled)


def _is_last(step: TileDone | PlaneResult) -> bool:
    return isinstance(step, PlaneResult) and step.plane + 1 == step.n_planes


def read_file(path: str) -> tuple[str, CheckpointHeader | Exception]:
    """Read what a weight file says of itself: its path, and its header or what is wrong."""
    try:
        return path, read_header(resolve_checkpoint(path))
    except Exception as error:  # shown by the form, which stays alive
        return path, error

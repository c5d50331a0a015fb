"""What another bundled model marks on the planes of an image, to be compared with. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.request import MAX_SCALE, MIN_SCALE, SegmentRequest
from napari_espmedsam.studio.planes import PlaneCache
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.settings import with_modality
from napari_espmedsam.studio.source import Source
from napari_espmedsam.weights import list_checkpoints

if TYPE_CHECKING:
    from napari_espmedsam.inference.live import LivePlane
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.model.header import CheckpointHeader, InputSpec

Mask = npt.NDArray[np.bool_]

MAX_BYTES = 2**28
"""Memory for masks that are kept, in bytes: some 2000 of 1024 x 1024 px."""


def find_other(checkpoint: str, modality: str | None) -> str | None:
    """Name the bundled model to compare a model with.

    Parameters
    ----------
    checkpoint : str
        Name or path of the model in use.
    modality : str or None
        Modality of the image.

    Returns
    -------
    str or None
        The first bundled model that is another one and knows the modality; None where there is
        none.
    """
    return next(
        (
            entry.name
            for entry in list_checkpoints()
            if entry.name != checkpoint and modality in entry.modalities
        ),
        None,
    )


def other_request(name: str, settings: SegmentRequest) -> SegmentRequest:
    """Put the same question to another model: same image, same size of objects.

    Its prompt, threshold and tiles are its own, whatever the user has set for the first one.
    """
    return SegmentRequest(
        checkpoint=name,
        output="mask",
        min_size=0,
        **{each: getattr(settings, each) for each in _SAME},
    )


_SAME = (
    "modality",
    "channel",
    "axes",
    "rgb",
    "diameter",
    "pixel_size",
    "scale",
    "device",
    "precision",
    "backend",
)


class SecondOpinion:
    """Another model on the same image. For one worker thread.

    The model is loaded when it is first asked, and features of one plane are kept.

    Parameters
    ----------
    load : callable
        Gives the model of a request.
    image : array-like
        See ``Segmenter.segment``.
    own : CheckpointHeader
        What the first model says of itself.
    region : Region, optional
        Part of each plane to work on.
    """

    def __init__(
        self,
        load: Callable[[SegmentRequest], Segmenter],
        image: Any,
        own: CheckpointHeader,
        region: Region | None = None,
    ) -> None:
        self._load, self._image, self._own, self._region = load, image, own, region
        self._name = ""
        self._opened: tuple[Source, PlaneCache] | None = None

    def mask(self, plane: int, request: SegmentRequest) -> Generator[None, None, Mask]:
        """Find what the other model marks, with a pause after each tile.

        Parameters
        ----------
        plane : int
            Number of the plane.
        request : SegmentRequest
            From :func:`other_request`.

        Returns
        -------
        ndarray
            (H, W) bool of the region, or of the plane.

        Raises
        ------
        EspMedSamError
            If the model cannot be loaded or does not take the image.
        """
        source, cache = self._open(request)
        yield
        plan = source.plan(_adapt(source.header, request, self._own))
        cache.focus(plan, plane)
        live = yield from _silently(cache.live(plan, plane))
        while live.stale:
            live.decode_next()
            yield
        return live.labels(plan.post) > 0

    def release(self) -> None:
        """Let go of the model and give its memory back; the next question loads it again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            source, cache = opened
            cache.clear()
            source.release()

    def _open(self, request: SegmentRequest) -> tuple[Source, PlaneCache]:
        if self._opened is None or self._name != request.checkpoint:
            self.release()
            segmenter = self._load(request)
            adapted = _adapt(segmenter.header, request, self._own)
            source = Source(segmenter, self._image, adapted, self._region)
            self._opened = source, PlaneCache(source, max_bytes=0)
            self._name = request.checkpoint
        return self._opened


@dataclass(frozen=True)
class _Packed:
    bits: npt.NDArray[np.uint8]
    shape: tuple[int, ...]


class MaskCache:
    """Masks by what decides them, a bit for each pixel; the oldest go first.

    Parameters
    ----------
    max_bytes : int
        Memory for all of them.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._masks: dict[tuple[int, SegmentRequest], _Packed] = {}

    @property
    def nbytes(self) -> int:
        """Memory that is taken, in bytes."""
        return sum(each.bits.nbytes for each in self._masks.values())

    def get(self, plane: int, request: SegmentRequest) -> Mask | None:
        """Return the mask of a plane under a request, (H, W) bool; None where it is not known."""
        found = self._masks.get((plane, request))
        if found is None:
            return None
        count = int(np.prod(found.shape))
        return np.unpackbits(found.bits, count=count).reshape(found.shape).astype(bool)

    def put(self, plane: int, request: SegmentRequest, mask: Mask) -> None:
        """Keep a mask; that one is kept in any case."""
        key = plane, request
        self._masks.pop(key, None)
        self._masks[key] = _Packed(np.packbits(mask), mask.shape)
        while self.nbytes > self._max_bytes and len(self._masks) > 1:
            del self._masks[next(iter(self._masks))]


def _silently(
    steps: Generator[int, None, LivePlane],
) -> Generator[None, None, LivePlane]:
    """Pause after each tile without saying which."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            live: LivePlane = stop.value
            return live
        yield


def _adapt(
    theirs: CheckpointHeader, request: SegmentRequest, own: CheckpointHeader
) -> SegmentRequest:
    """Leave out what the other model has no use for, and show it objects as large as it knows."""
    adapted = replace(request, **with_modality(theirs, request, request.modality))
    modality = str(adapted.modality)
    if adapted.scale is None or modality not in own.inputs:
        return adapted
    return replace(adapted, scale=_scale(adapted.scale, own.inputs[modality], theirs, modality))


def _scale(scale: float, own: InputSpec, theirs: CheckpointHeader, modality: str) -> float:
    """Magnify for the other model as much more than in its training as for the first one."""
    wanted = scale / own.scale * theirs.inputs[modality].scale
    return min(max(wanted, MIN_SCALE), MAX_SCALE)

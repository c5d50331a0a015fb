"""Encoded planes within a budget of memory. For the worker thread alone.

What is farthest from the plane on the screen is forgotten first, and other modalities before the
current one. An encoding that was interrupted goes on where it was, whoever asks for it next.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import DeviceError
from napari_espmedsam.studio.document import Labels, Target, encoding_key
from napari_espmedsam.studio.view import distance

if TYPE_CHECKING:
    from napari_espmedsam.inference.encoding import Encoding
    from napari_espmedsam.inference.intensity import IntensityRange
    from napari_espmedsam.inference.live import LivePlane
    from napari_espmedsam.inference.plan import RunPlan
    from napari_espmedsam.studio.source import Source

MAX_BYTES = 2**30
"""Memory for encoded planes, on the device and beside it: some 50 planes of 1024 x 1024 px."""
_MAX_DECODED_BYTES = 2**28
"""Memory for what is left of planes whose features are gone: some 1000 of 1024 x 1024 px."""
_MAX_HALF_DONE = 2

Key = tuple[Hashable, int]


@dataclass(frozen=True, eq=False)
class Decoded:
    """What is left of a plane whose features are gone: enough for other post-processing.

    Attributes
    ----------
    target : Target
        Prompts that were decoded.
    blended : ndarray
        Logits on the model's grid, some 1/16 of the plane's pixels.
    """

    target: Target
    blended: npt.NDArray[np.float32]

    def labels(self, target: Target) -> Labels | None:
        """Labels for other settings; None if these need other prompts."""
        from napari_espmedsam.inference.postprocess import to_labels
        from napari_espmedsam.inference.results import sigmoid

        mine, plan = self.target, target.plan
        same = mine.edits is target.edits
        if not same or mine.plan.prompt_threshold != plan.prompt_threshold:
            return None
        return to_labels(sigmoid(plan.geometry.to_image(self.blended)), plan.post)


class PlaneCache:
    """Encoded planes by what decides their features.

    Parameters
    ----------
    source : Source
        Model and image.
    max_bytes : int
        Memory for encoded planes. The plane that was asked for last is kept in any case.
    """

    def __init__(self, source: Source, max_bytes: int = MAX_BYTES) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._live: dict[Key, LivePlane] = {}
        self._sizes: dict[Key, int] = {}
        self._targets: dict[Key, Target] = {}
        self._decoded: dict[Key, Decoded] = {}
        self._half_done: dict[Key, Generator[int, None, Encoding]] = {}
        self._ranges: dict[Hashable, IntensityRange] = {}
        self._focus: Key = (None, 0)

    @property
    def nbytes(self) -> int:
        """Memory that the encoded planes take, in bytes."""
        return sum(self._sizes.values())

    def focus(self, plan: RunPlan, plane: int) -> None:
        """Say which plane is on the screen: what is near it is kept longest."""
        self._focus = encoding_key(plan), plane

    def has(self, plan: RunPlan, plane: int) -> bool:
        """Whether a plane is encoded."""
        return (encoding_key(plan), plane) in self._live

    def has_room(self, plan: RunPlan, plane: int) -> bool:
        """Whether a plane can be encoded without forgetting one that is nearer to the screen."""
        if not self._sizes:
            return True
        if self.nbytes + max(self._sizes.values()) <= self._max_bytes:
            return True
        mine = self._rank((encoding_key(plan), plane))
        return any(self._rank(key) > mine for key in self._live)

    def live(self, plan: RunPlan, plane: int) -> Generator[int, None, LivePlane]:
        """Encode a plane unless it is encoded.

        Yields
        ------
        int
            Number of each tile that was encoded.

        Returns
        -------
        LivePlane
            To be edited and decoded.
        """
        key = (encoding_key(plan), plane)
        while key not in self._live:
            steps = self._half_done.get(key) or self._begin(key, plan, plane)
            try:
                yield from self._go_on(key, steps)
            except DeviceError:
                if not self._live:
                    raise
                self.clear()  # its memory may be what is missing
        return self._live[key]

    def note_decoded(self, target: Target, plane: int) -> None:
        """Say which prompts a live plane was decoded under."""
        self._targets[encoding_key(target.plan), plane] = target

    def note_change(self, plan: RunPlan, plane: int) -> None:
        """Say that a live plane is being decoded under other prompts than those noted last."""
        self._targets.pop((encoding_key(plan), plane), None)

    def labels(self, target: Target, plane: int) -> Labels | None:
        """Labels of a plane whose features are gone, if they can do without; None otherwise."""
        key = (encoding_key(target.plan), plane)
        known = self._decoded.get(key)
        return None if known is None or key in self._targets else known.labels(target)

    def intensity(self, plan: RunPlan) -> IntensityRange:
        """Grey values of the whole image that become 0 and 1; measured once."""
        from napari_espmedsam.inference.intensity import measure_intensity

        spec, stack = plan.spec, plan.stack
        key = (stack.channel, stack.rgb, spec.rescale, spec.percentiles)
        if key not in self._ranges:
            self._ranges[key] = measure_intensity(stack, spec)
        return self._ranges[key]

    def clear(self) -> None:
        """Forget all planes, half-done ones included."""
        for steps in self._half_done.values():
            steps.close()
        self._half_done.clear()
        stores: tuple[dict[Key, Any], ...]
        stores = (self._live, self._sizes, self._targets, self._decoded)
        for store in stores:
            store.clear()

    def _begin(self, key: Key, plan: RunPlan, plane: int) -> Generator[int, None, Encoding]:
        while len(self._half_done) >= _MAX_HALF_DONE:
            farthest = max(self._half_done, key=self._rank)
            self._half_done.pop(farthest).close()
        steps = self._source.segmenter.encode_steps(plan, plane, self.intensity(plan))
        self._half_done[key] = steps
        return steps

    def _go_on(self, key: Key, steps: Generator[int, None, Encoding]) -> Generator[int]:
        """Encode one tile more; the last one makes the plane a live one."""
        from napari_espmedsam.inference.live import LivePlane

        try:
            tile = next(steps)
        except StopIteration as stop:
            self._half_done.pop(key, None)
            self._add(key, LivePlane(self._source.segmenter, stop.value))
        except BaseException:
            self._half_done.pop(key, None)
            raise
        else:
            yield tile

    def _add(self, key: Key, live: LivePlane) -> None:
        height, width = live.encoding.geometry.image_shape
        self._live[key] = live
        self._sizes[key] = live.encoding.nbytes + 12 * height * width  # logits, labels and so on
        while self.nbytes > self._max_bytes and len(self._live) > 1:
            farthest = max((each for each in self._live if each != key), key=self._rank)
            self._forget(farthest)

    def _forget(self, key: Key) -> None:
        """Drop the features of a plane, and keep what they came to."""
        live, target = self._live.pop(key), self._targets.pop(key, None)
        del self._sizes[key]
        if target is not None and not live.stale:
            self._decoded[key] = Decoded(target, live.blended)
            self._forget_decoded()

    def _forget_decoded(self) -> None:
        while sum(each.blended.nbytes for each in self._decoded.values()) > _MAX_DECODED_BYTES:
            del self._decoded[max(self._decoded, key=self._rank)]

    def _rank(self, key: Key) -> tuple[bool, int]:
        features, plane = key
        return features != self._focus[0], distance(self._source.worked, plane, self._focus[1])

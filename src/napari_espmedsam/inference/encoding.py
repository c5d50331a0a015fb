"""Features of one plane, kept so that an edited prompt costs only a decoding."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import PlaneGeometry
from napari_espmedsam.inference.intensity import IntensityRange
from napari_espmedsam.model.output import Features

_MAX_ENTRIES = 8
_MAX_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class Encoding:
    """All that decoding needs of one plane.

    Attributes
    ----------
    key : str
        Hash of the plane, the settings and the weights: equal keys mean equal encodings.
    modality : str
        Modality that was used.
    geometry : PlaneGeometry
        How image, model and tiles lie on each other.
    intensity : IntensityRange
        Grey values that became 0 and 1.
    prompt_kind : {"grid", "mask"}
        Whether prompts are grids (ESP-MedSAM) or coarse masks in model px (Med-FastSAM).
    prompt_probability : ndarray
        (n_tiles, gh, gw) float32, 0 to 1: what the model proposes for each tile.
    features : tuple of Features
        One per tile, on the device; for ``Segmenter.decode`` alone.
    owner : str
        The segmenter that can decode it.
    """

    key: str
    modality: str
    geometry: PlaneGeometry
    intensity: IntensityRange
    prompt_kind: str
    prompt_probability: npt.NDArray[np.float32]
    features: tuple[Features, ...]
    owner: str

    @property
    def prompt(self) -> npt.NDArray[np.bool_]:
        """(n_tiles, gh, gw) bool: the model's own prompt, to be edited and given to decode."""
        return self.prompt_probability >= 0.5

    @property
    def nbytes(self) -> int:
        """Memory that the features take, in bytes."""
        tensors = [t for f in self.features for t in (f.embedding, f.prompt, *f.skips)]
        return sum(t.numel() * t.element_size() for t in tensors)


class EncodingCache:
    """The encodings used last, by key; safe to share between threads."""

    def __init__(self, max_entries: int = _MAX_ENTRIES, max_bytes: int = _MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, Encoding] = OrderedDict()
        self._lock = threading.Lock()

    def get_or_make(self, key: str, make: Callable[[], Encoding]) -> Encoding:
        """Return the encoding of a key; make it and forget the oldest ones where it is new."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        encoding = make()  # not under the lock: it may take seconds
        with self._lock:
            self._entries[key] = encoding
            self._shrink()
        return encoding

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def _shrink(self) -> None:
        while len(self._entries) > self._max_entries or (
            len(self._entries) > 1
            and sum(each.nbytes for each in self._entries.values()) > self._max_bytes
        ):
            self._entries.popitem(last=False)


def content_key(plane: npt.NDArray[Any], *settings: object) -> str:
    """Hash a plane and whatever else decides its encoding."""
    digest = blake2b(digest_size=16)
    digest.update(repr((plane.shape, plane.dtype.str, *settings)).encode())
    digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def check_prompt(prompt: npt.ArrayLike, encoding: Encoding) -> npt.NDArray[np.bool_]:
    """Bring a prompt to (n_tiles, gh, gw) bool; see ``Segmenter.decode``.

    Raises
    ------
    InputError
        If its shape or its values do not fit.
    """
    values = np.asarray(prompt)
    shape = encoding.prompt_probability.shape
    if values.ndim == 2 and shape[0] == 1:
        values = values[None]
    if values.shape != shape:
        raise InputError(
            f"The prompt has the shape {values.shape}, and the encoding needs {shape} (tiles, "
            "rows, columns). Start from a copy of encoding.prompt."
        )
    if values.dtype.kind not in "buif" or not bool(((values >= 0) & (values <= 1)).all()):
        raise InputError(
            f"The prompt holds values beyond 0 to 1 or no numbers (type {values.dtype}). Give True "
            "where the model shall look, and False elsewhere."
        )
    return np.asarray(values >= 0.5)

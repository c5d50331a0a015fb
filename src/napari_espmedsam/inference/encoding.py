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
from napari_espmedsam.inference.options import check_values
from napari_espmedsam.inference.prompts import Edits, Floats, Mask, PromptCanvas, tile_prompt
from napari_espmedsam.inference.request import SegmentRequest
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
    prompt_cell : int
        Side of a prompt cell in model px.
    correction_levels : tuple of float
        What the decoder sees where a user switched a cell off, and on.
    prompt : ndarray
        (n_tiles, gh, gw) bool, read-only: the model's own prompt for each tile.
    prompt_values : ndarray
        (n_tiles, gh, gw) float32, 0 to 1, read-only: what a prompt threshold cuts. The probability
        of each patch for a grid; for a mask the grey value that Otsu cuts.
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
    prompt_cell: int
    correction_levels: tuple[float, float]
    prompt: Mask
    prompt_values: npt.NDArray[np.float32]
    features: tuple[Features, ...]
    owner: str

    @property
    def prompt_probability(self) -> npt.NDArray[np.float32]:
        """(n_tiles, gh, gw) float32, 0 to 1: how sure the model is of its prompt.

        A coarse mask is certain: 0 or 1.
        """
        return self.prompt_values if self.prompt_kind == "grid" else self.prompt.astype(np.float32)

    @property
    def canvas(self) -> PromptCanvas:
        """The common grid of the prompt cells of all tiles.

        Raises
        ------
        InputError
            If the model's prompt cells do not fit the tiles.
        """
        return PromptCanvas(self.geometry, self.prompt_cell)

    @property
    def own_threshold(self) -> float:
        """The prompt threshold that comes nearest to the model's own prompt.

        0.5 for a grid. For a mask every tile has its own; this is their median (0.5 where no
        tile proposes anything).
        """
        if self.prompt_kind == "grid":
            return 0.5
        pairs = zip(self.prompt_values, self.prompt, strict=True)
        cuts = [float(values[on].min()) for values, on in pairs if on.any()]
        return float(np.median(cuts)) if cuts else 0.5

    def proposal(self, prompt_threshold: float | None = None) -> Mask:
        """(n_tiles, gh, gw) bool: what is proposed where nobody edits.

        Parameters
        ----------
        prompt_threshold : float, optional
            Cells are on where ``prompt_values`` reach it; None gives the model's own prompt.

        Returns
        -------
        ndarray
            Read-only where it is the model's own.
        """
        check_values(SegmentRequest, prompt_threshold=prompt_threshold)
        return self.prompt if prompt_threshold is None else self.prompt_values >= prompt_threshold

    def tile_prompt(
        self, i: int, edits: Edits | None = None, prompt_threshold: float | None = None
    ) -> Floats | None:
        """Prompt of tile i, (gh, gw) float32; None where it is the model's own.

        See :func:`~napari_espmedsam.inference.prompts.tile_prompt`.

        Parameters
        ----------
        i : int
            Number of the tile.
        edits : ndarray, optional
            Of the whole canvas, as ``canvas.check`` returns them.
        prompt_threshold : float, optional
            See :meth:`proposal`.
        """
        part = None if edits is None else self.canvas.tile_edits(i, edits)
        own, values = self.prompt[i], self.prompt_values[i]
        return tile_prompt(own, values, part, prompt_threshold, self.correction_levels)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes; nearly all of it on the device."""
        tensors = [t for f in self.features for t in (f.embedding, f.prompt, *f.skips)]
        on_device = sum(t.numel() * t.element_size() for t in tensors)
        return on_device + self.prompt.nbytes + self.prompt_values.nbytes


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
    shape = encoding.prompt.shape
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


def settle_prompts(
    encoding: Encoding,
    prompt: npt.ArrayLike | None,
    edits: npt.ArrayLike | None,
    prompt_threshold: float | None,
) -> list[Mask | Floats | None]:
    """Prompt of each tile, None where it is the model's own; see ``Segmenter.decode``.

    Raises
    ------
    InputError
        If a setting does not fit, or a prompt is given together with another.
    """
    if prompt is not None:
        if edits is not None or prompt_threshold is not None:
            raise InputError(
                "A prompt is given together with edits or a prompt_threshold, which change what "
                "the model proposes. Give the prompt alone, or leave it out."
            )
        return list(check_prompt(prompt, encoding))
    check_values(SegmentRequest, prompt_threshold=prompt_threshold)
    checked = None if edits is None else encoding.canvas.check(edits)
    n_tiles = len(encoding.features)
    return [encoding.tile_prompt(i, checked, prompt_threshold) for i in range(n_tiles)]

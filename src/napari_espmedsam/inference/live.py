"""One plane whose prompt is being edited: after a stroke only what it touched is decoded again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.encoding import Encoding
from napari_espmedsam.inference.options import check_values
from napari_espmedsam.inference.postprocess import PostProcess, to_labels
from napari_espmedsam.inference.prompts import (
    OFF,
    ON,
    Box,
    Edits,
    Floats,
    Mask,
    PromptCanvas,
    check_states,
)
from napari_espmedsam.inference.regions import Labels
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.results import sigmoid
from napari_espmedsam.inference.split import SplitMemory
from napari_espmedsam.inference.tiling import LogitBlender

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter

SHOWN_OFF, SHOWN_ON, SHOWN_ON_BY_USER, SHOWN_OFF_BY_USER = 0, 1, 2, 3
"""Values of :attr:`LivePlane.prompt_shown`."""

Value = TypeVar("Value", bound=np.generic)


class LivePlane:
    """A plane, its prompt edits and what comes of them.

    Whatever the order of edits, its labels are those of ``Segmenter.segment`` with the same edits,
    prompt threshold and post-processing, to the bit. Arrays that it gives out are read-only and
    are never changed afterwards. It may not be used from two threads at a time.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    encoding : Encoding
        The plane, from ``segmenter.encode``.
    edits : array-like, optional
        Edits to begin with; see ``Segmenter.decode``.
    prompt_threshold : float, optional
        Where the proposed prompt is cut, 0.01 to 1; None takes the model's own prompt.

    Raises
    ------
    InputError
        If the edits or the threshold do not fit, or the model's prompts cannot be edited.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        encoding: Encoding,
        *,
        edits: npt.ArrayLike | None = None,
        prompt_threshold: float | None = None,
    ) -> None:
        check_values(SegmentRequest, prompt_threshold=prompt_threshold)
        self._segmenter = segmenter
        self._encoding = encoding
        self._canvas = encoding.canvas
        self._edits = self._canvas.empty() if edits is None else self._canvas.check(edits).copy()
        self._threshold = prompt_threshold
        n_tiles = len(encoding.features)
        self._tiles: list[Floats | None] = [None] * n_tiles
        self._decoded: list[Floats | None] = [None] * n_tiles  # prompts that belong to the tiles
        self._wanted: list[Floats | None] = [None] * n_tiles
        self._stale: set[int] = set()
        self._blender = LogitBlender(encoding.geometry.grid)
        self._unblended: set[int] = set()
        self._logits: Floats | None = None
        self._probability: Floats | None = None
        self._labels: tuple[PostProcess, Labels] | None = None
        self._splits = SplitMemory()
        self._proposal: Mask | None = None
        self._values: Floats | None = None
        self._mark(range(n_tiles))

    @property
    def encoding(self) -> Encoding:
        """The plane's features."""
        return self._encoding

    @property
    def canvas(self) -> PromptCanvas:
        """The common grid of the prompt cells of all tiles."""
        return self._canvas

    @property
    def edits(self) -> Edits:
        """(rows, columns) int8 of -1, 0 and 1: a read-only view that follows later edits."""
        view = self._edits.view()
        view.flags.writeable = False
        return view

    @property
    def prompt_threshold(self) -> float | None:
        """Where the proposed prompt is cut; None takes the model's own prompt."""
        return self._threshold

    @property
    def stale(self) -> tuple[int, ...]:
        """Tiles whose prompt has changed since they were decoded."""
        return tuple(sorted(self._stale))

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes, the encoding included."""
        labels = None if self._labels is None else self._labels[1]
        planes = (self._logits, self._probability, labels, self._splits.labels)
        prompts = (self._proposal, self._values)
        held = (*self._tiles, *self._decoded, *self._wanted, *planes, *prompts, self._edits)
        own = {id(array): array.nbytes for array in held if array is not None}
        return self._encoding.nbytes + sum(own.values())

    def edit(self, box: Box, values: int | npt.ArrayLike) -> None:
        """Set the edits of a box of cells. Nothing is decoded yet.

        Parameters
        ----------
        box : tuple of slice
            Rows and columns of the canvas.
        values : int or array-like
            -1 as proposed, 0 off, 1 on: one for all cells, or one for each cell of the box.

        Raises
        ------
        InputError
            If the box does not lie on the canvas, or the values are others or do not fit it.
        """
        touched = self._canvas.tiles_of(box)
        states = np.asarray(values)
        check_states(states)
        shape = self._edits[box].shape
        if states.ndim and states.shape != shape:
            raise InputError(
                f"The values have the shape {states.shape}, and the box holds {shape[0]} x "
                f"{shape[1]} cells. Give one value for each cell, or a single one for all."
            )
        self._edits[box] = states
        self._mark(touched)

    def set_edits(self, edits: npt.ArrayLike) -> None:
        """Replace all edits. Tiles whose prompt stays the same are not decoded again.

        Raises
        ------
        InputError
            If they do not fit the canvas.
        """
        new = self._canvas.check(edits)
        rows, columns = (np.flatnonzero((new != self._edits).any(axis)) for axis in (1, 0))
        if rows.size:
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            self.edit(box, new[box])

    def set_prompt_threshold(self, value: float | None) -> None:
        """Cut the proposed prompt elsewhere, 0.01 to 1; None takes the model's own prompt.

        Raises
        ------
        InputError
            If the threshold is no number in that range.
        """
        check_values(SegmentRequest, prompt_threshold=value)
        if value != self._threshold:
            self._threshold = value
            self._proposal = None
            self._mark(range(len(self._tiles)))

    def refresh(self) -> bool:
        """Decode the tiles whose prompt has changed.

        Returns
        -------
        bool
            Whether there were any, so that the logits are others than before.

        Raises
        ------
        DeviceError
            If the device runs out of memory. What is decoded by then is kept.
        InputError
            If the model takes no prompt and the edits differ from what it proposes.
        """
        while self._stale:
            self.decode_next()
        if not self._unblended:
            return False
        self._blender.replace([t for t in self._tiles if t is not None], self._unblended)
        self._unblended.clear()
        self._logits = self._probability = self._labels = None
        return True

    def decode_next(self) -> None:
        """Decode one tile whose prompt has changed, if there is any.

        For those who do other things between tiles: once no tile is :attr:`stale`,
        :meth:`refresh` has nothing left to decode.

        Raises
        ------
        DeviceError, InputError
            See :meth:`refresh`.
        """
        if not self._stale:
            return
        i = min(self._stale)
        prompt = self._wanted[i]
        self._tiles[i] = self._segmenter.decode_tile(self._encoding, i, prompt)
        self._decoded[i] = prompt
        self._unblended.add(i)
        self._stale.discard(i)

    @property
    def blended(self) -> Floats:
        """Logits on the model's grid, of the edits as they are now: a copy.

        ``encoding.geometry.to_image`` makes :attr:`logits` of it, in some 1/16 of the memory.
        """
        self.refresh()
        return self._blender.result().copy()

    @property
    def logits(self) -> Floats:
        """(H, W) float32 on the pixels of the image, of the edits as they are now."""
        self.refresh()
        if self._logits is None:
            blended = self._blender.result()
            logits = self._encoding.geometry.to_image(blended)
            if np.may_share_memory(logits, blended):
                logits = logits.copy()  # the blender goes on writing into its own
            self._logits = _frozen(logits)
        return self._logits

    @property
    def probability(self) -> Floats:
        """(H, W) float32, 0 to 1, of the edits as they are now."""
        logits = self.logits
        if self._probability is None:
            self._probability = _frozen(sigmoid(logits))
        return self._probability

    def labels(self, post: PostProcess) -> Labels:
        """Labels of the edits as they are now: (H, W) uint32, numbered from 1.

        Parameters
        ----------
        post : PostProcess
            Settings. A threshold of None means the checkpoint's own. Those asked for last are
            kept until something changes.
        """
        if post.threshold is None:
            own = self._segmenter.header.threshold_for(self._encoding.modality)
            post = replace(post, threshold=own)
        probability = self.probability
        if self._labels is None or self._labels[0] != post:
            self._labels = post, _frozen(to_labels(probability, post, self._splits))
        return self._labels[1]

    @property
    def proposal_shown(self) -> Floats:
        """(rows, columns) float32, 0 to 1, for a heat map: ``prompt_values`` of all tiles."""
        if self._values is None:
            self._values = _frozen(self._canvas.combine(self._encoding.prompt_values))
        return self._values

    @property
    def prompt_shown(self) -> npt.NDArray[np.uint8]:
        """(rows, columns) uint8: 0 off, 1 on by the model, 2 on by the user, 3 off by the user."""
        if self._proposal is None:
            self._proposal = self._canvas.combine(self._encoding.proposal(self._threshold))
        shown = self._proposal.astype(np.uint8)
        shown[self._edits == ON] = SHOWN_ON_BY_USER
        shown[self._edits == OFF] = SHOWN_OFF_BY_USER
        return _frozen(shown)

    def _mark(self, tiles: range | tuple[int, ...]) -> None:
        """Settle prompts anew; those that are as they were decoded need no decoding."""
        for i in tiles:
            wanted = self._encoding.tile_prompt(i, self._edits, self._threshold)
            self._wanted[i] = wanted
            if self._tiles[i] is not None and _same(wanted, self._decoded[i]):
                self._stale.discard(i)
            else:
                self._stale.add(i)


def _same(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _frozen(array: npt.NDArray[Value]) -> npt.NDArray[Value]:
    array.flags.writeable = False
    return array

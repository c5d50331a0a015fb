"""What a segmentation hands back: progress, planes, and the whole."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_espmedsam.inference.image import PlaneStack


@dataclass(frozen=True)
class TileDone:
    """One tile has been segmented. All counts start at 0.

    Attributes
    ----------
    plane, n_planes : int
        Position of the plane among those asked for, and how many those are.
    tile, n_tiles : int
        Position of the tile in its plane, and how many tiles each plane has.
    """

    plane: int
    n_planes: int
    tile: int
    n_tiles: int

    @property
    def fraction(self) -> float:
        """Share of the whole run that is done, above 0 and up to 1."""
        return (self.plane + (self.tile + 1) / self.n_tiles) / self.n_planes


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """One plane is finished.

    Attributes
    ----------
    plane, n_planes : int
        Position of the plane among those asked for (from 0), and how many those are.
    index : tuple of int
        Where the plane lies along the leading axes of the image: ``labels[index]``. Empty for a
        2-D image.
    labels : ndarray
        (H, W) uint32, 0 is background. Objects are numbered on from plane to plane of one run, so
        that no two objects of a stack share a number; a mask is 1 in every plane.
    provenance : dict
        How the labels were made: the same JSON-ready dict for each plane of a run.
    """

    plane: int
    n_planes: int
    index: tuple[int, ...]
    labels: npt.NDArray[np.uint32]
    provenance: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of a whole image.

    Attributes
    ----------
    labels : ndarray
        uint32; the image's leading axes (T, Z), then Y, X. No channel axis.
    axes : str
        Letters of the axes of `labels`, e.g. "ZYX".
    provenance : dict
        How the labels were made, JSON-ready: software, version, model, weights hash, modality,
        scale, tile, post-processing, device, intensity range, input shape, dtype and axes, time.
    """

    labels: npt.NDArray[np.uint32]
    axes: str
    provenance: dict[str, Any]


def collect(stack: PlaneStack, events: Iterable[TileDone | PlaneResult]) -> Segmentation:
    """Put the planes of a run together.

    Parameters
    ----------
    stack : PlaneStack
        The image that was segmented.
    events : iterable of TileDone and PlaneResult
        What ``Segmenter.iter_segment`` yields. Planes that were not asked for stay 0.
    """
    steps = collect_steps(stack, events)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return cast(Segmentation, stop.value)


def collect_steps(
    stack: PlaneStack, events: Iterable[TileDone | PlaneResult]
) -> Generator[float, None, Segmentation]:
    """Put the planes of a run together, with a pause after each tile.

    Parameters
    ----------
    stack, events
        As in :func:`collect`.

    Yields
    ------
    float
        The share that is done, above 0 and up to 1.

    Returns
    -------
    Segmentation
        Once all events have come.
    """
    labels = np.zeros(stack.leading_shape + stack.plane_shape, np.uint32)
    provenance: dict[str, Any] = {}
    for event in events:
        if isinstance(event, PlaneResult):
            labels[event.index] = event.labels
            provenance = event.provenance
        else:
            yield event.fraction
    return Segmentation(labels, stack.leading_axes + "YX", provenance)


@dataclass(frozen=True, eq=False)
class Probability:
    """What the model says about one plane, on the pixels of the user's image.

    Attributes
    ----------
    logits : ndarray
        (H, W) float32.
    prompt : ndarray
        (n_tiles, gh, gw) bool: the prompt grids or coarse masks that were decoded.
    """

    logits: npt.NDArray[np.float32]
    prompt: npt.NDArray[np.bool_]

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """(H, W) float32 probability, 0 to 1."""
        return sigmoid(self.logits)


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn logits into probabilities, float32; no overflow for large logits of either sign."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)

"""The model as its users see it: numpy images in, numpy labels out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_espmedsam.inference.device import DeviceChoice, choose_device
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.results import PlaneResult, Probability, Segmentation, TileDone
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.weights import DEFAULT_CHECKPOINT

if TYPE_CHECKING:
    from torch import nn

    from napari_espmedsam.model.checkpoint import CheckpointHeader


class Encoding:
    """Features of one plane; see :meth:`Segmenter.encode`."""


class Segmenter:
    """A loaded model on a device.

    Parameters
    ----------
    model : nn.Module
        A model of ``napari_espmedsam.model``.
    header : CheckpointHeader
        Its description: modalities, input geometry and normalisation.
    sha256 : str
        Hash of the weights, for the provenance.
    device : str
        See :func:`napari_espmedsam.inference.device.choose_device`.
    precision : {"auto", "float32", "bfloat16"}
        "auto" is float32 everywhere; bfloat16 is faster and flips a few pixels in a thousand.
    """

    def __init__(
        self,
        model: nn.Module,
        header: CheckpointHeader,
        sha256: str = "",
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.header = header
        self.sha256 = sha256
        self.device: DeviceChoice = choose_device(device)

    @classmethod
    def from_checkpoint(
        cls,
        name_or_path: str | Path = DEFAULT_CHECKPOINT,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> Segmenter:
        """Load a model by its name or from a .safetensors file."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the checkpoint."""
        raise NotImplementedError

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the checkpoint was trained for."""
        raise NotImplementedError

    def encode(
        self,
        plane: npt.NDArray[Any],
        modality: str | None = None,
        *,
        scale: float | None = None,
        diameter: float | None = None,
        pixel_size: float | None = None,
        tile: TileSpec | None = None,
        intensity: Any = None,
    ) -> Encoding:
        """Compute the features of one plane, (H, W) or (H, W, 3); a repeated call is cached."""
        raise NotImplementedError

    def decode(self, encoding: Encoding, *, prompt: npt.ArrayLike | None = None) -> Probability:
        """Decode features, with the model's own prompt or with another; milliseconds."""
        raise NotImplementedError

    def segment(
        self,
        image: Any,
        modality: str | None = None,
        *,
        axes: str | None = None,
        channel: int | None = None,
        rgb: bool | None = None,
        scale: float | None = None,
        diameter: float | None = None,
        pixel_size: float | None = None,
        tile: TileSpec | None = None,
        post: PostProcess | None = None,
    ) -> Segmentation:
        """Segment a whole image or stack."""
        raise NotImplementedError

    def iter_segment(
        self,
        image: Any,
        modality: str | None = None,
        *,
        axes: str | None = None,
        channel: int | None = None,
        rgb: bool | None = None,
        scale: float | None = None,
        diameter: float | None = None,
        pixel_size: float | None = None,
        tile: TileSpec | None = None,
        post: PostProcess | None = None,
        planes: Sequence[int] | None = None,
    ) -> Iterator[TileDone | PlaneResult]:
        """Segment plane by plane; closing the generator cancels within one tile."""
        raise NotImplementedError

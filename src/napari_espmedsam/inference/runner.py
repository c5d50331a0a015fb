"""The one place where arrays become tensors: a model on a device, tile by tile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_espmedsam.errors import DeviceError, InputError
from napari_espmedsam.inference.backends.choice import choose_backend
from napari_espmedsam.inference.backends.encoder import GraphEncoder
from napari_espmedsam.inference.tiling import GRID
from napari_espmedsam.model.coarse_prompt import luma
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import Features

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

PRECISIONS = ("auto", "float32", "bfloat16")

Floats = npt.NDArray[np.float32]


class ModelRunner:
    """Runs a model on single tiles; safe to share between threads (one tile at a time).

    Parameters
    ----------
    model : nn.Module
        Of ESP-MedSAM and Med-FastSAM the inference form is used, a copy; any other is itself moved
        to the device and into evaluation mode.
    device : str
        Device as torch calls it.
    precision : {"auto", "float32", "bfloat16"}
        "auto" is float32. bfloat16 is approximate.
    backend : {"torch", "auto", "onnx", "openvino"}
        What computes the encoder; see :func:`choose_backend`. A model that is neither of the two is
        always computed by torch.
    graph_sizes : collection of int
        Sides of the square tiles that other backends than torch compute, in model px.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str,
        precision: str = "auto",
        backend: str = "torch",
        graph_sizes: Collection[int] = (),
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}. Choose one of: {', '.join(PRECISIONS)}.")
        self.precision = "float32" if precision == "auto" else precision
        self.device = device
        chosen = choose_backend(backend, device, self.precision)
        moved = to_inference(model).to(device=device)
        moved = moved.to(memory_format=torch.channels_last)
        if chosen.name != "torch" and isinstance(moved, ESPMedSAM | MedFastSAM):
            how = (chosen, graph_sizes, self.precision)
            encoder = GraphEncoder(moved.encoder, moved.config, *how)
            moved.encoder = encoder  # type: ignore[assignment]
        # Any: extract and decode_features are no methods of nn.Module
        self._model = cast(Any, moved.eval())
        self._lock = threading.Lock()
        self.identity = uuid.uuid4().hex  # features of one runner mean nothing to another

    @property
    def prompt_kind(self) -> str:
        """Kind of prompt that the model takes: "grid" or "mask"."""
        return str(self._model.prompt_kind)

    @property
    def prompt_cell(self) -> int:
        """Side of a prompt cell in model px."""
        return 1 if self.prompt_kind == "mask" else int(getattr(self._model, "prompt_cell", GRID))

    @property
    def correction_levels(self) -> tuple[float, float]:
        """What the decoder sees where a user switched a prompt cell off, and on."""
        config = getattr(self._model, "config", None)
        off, on = getattr(config, "correction_levels", (0.0, 1.0))
        return float(off), float(on)

    def computed_by(self, modality: int, shape: tuple[int, int]) -> str:
        """Name what computes tiles (h, w) of a modality, once it is ready to.

        Returns
        -------
        str
            "torch", or library and version.
        """
        encoder = getattr(self._model, "encoder", None)
        if not isinstance(encoder, GraphEncoder):
            return "torch"
        with self._lock:
            graph = encoder.graph(modality, shape)
        return "torch" if graph is None else encoder.backend.label

    def extract(self, tile: Floats, modality: int, spec: InputSpec) -> Features:
        """Encode one tile, (h, w) or (h, w, 3) float32 in [0, 1]: the expensive part."""
        with self._ready(tile.shape[:2]):
            rescaled = self._to_batch(tile)
            mean, std = (
                torch.tensor(value, device=self.device).view(1, 3, 1, 1)
                for value in (spec.mean, spec.std)
            )
            images = (rescaled * spec.value_range - mean) / std
            images = images.contiguous(memory_format=torch.channels_last)
            return cast(Features, self._model.extract(images, self._index(modality), rescaled))

    def propose(self, features: Features, tile: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Read the model's own prompt of a tile, and the values that a threshold would cut.

        Returns
        -------
        ndarray
            (gh, gw) bool, the model's own prompt.
        ndarray
            (gh, gw) float32 in [0, 1]: the probability of each patch of a grid; for a mask the
            grey value that Otsu cuts.
        """
        with self._ready(tile.shape[:2]):
            if self.prompt_kind == "mask":
                own, values = features.prompt >= 0.5, luma(self._to_batch(tile))
            else:
                # In the precision in which the model itself rounds its grid.
                values = features.prompt.sigmoid()
                own = values >= 0.5
            return own[0, 0].cpu().numpy(), _to_array(values.float())

    def decode(
        self, features: Features, modality: int, prompt: npt.NDArray[Any] | None = None
    ) -> Floats:
        """Decode one tile under a prompt, or its own: logits (h / 4, w / 4) float32.

        A prompt is (gh, gw), bool or what :func:`~napari_espmedsam.inference.prompts.tile_prompt`
        returns.
        """
        with self._ready(tuple(features.embedding.shape[-2:])):
            given = None
            if prompt is not None:
                given = torch.from_numpy(prompt.astype(np.float32))[None, None].to(self.device)
            return _to_array(
                self._model.decode_features(features, self._index(modality), given).float()
            )

    def _to_batch(self, tile: Floats) -> Tensor:
        """(1, 3, h, w); grey is repeated."""
        colours = tile if tile.ndim == 3 else np.broadcast_to(tile[..., None], (*tile.shape, 3))
        channels_first = np.ascontiguousarray(colours.transpose(2, 0, 1))
        return torch.from_numpy(channels_first)[None].to(self.device)

    def _index(self, modality: int) -> Tensor:
        return torch.tensor([modality], device=self.device)

    @contextmanager
    def _ready(self, shape: tuple[int, ...]) -> Iterator[None]:
        """One thread at a time, without gradients, in the chosen precision."""
        kind = self.device.split(":")[0]
        half = self.precision == "bfloat16"
        with (
            self._lock,
            torch.inference_mode(),
            torch.autocast(kind, torch.bfloat16, enabled=half),
        ):
            try:
                yield
            except torch.cuda.OutOfMemoryError as error:
                raise DeviceError(
                    f"{self.device} has too little free memory for one tile ({shape[0]} x "
                    f"{shape[1]}). Use a smaller tile, or device='cpu'."
                ) from error


def _to_array(tensor: Tensor) -> Floats:
    """(1, 1, h, w) on any device to (h, w) on the CPU."""
    return cast(Floats, tensor[0, 0].cpu().numpy())

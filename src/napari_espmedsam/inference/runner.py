"""The one place where arrays become tensors: a model on a device, tile by tile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.backends.choice import choose_backend
from napari_espmedsam.inference.backends.encoder import GraphEncoder
from napari_espmedsam.inference.batch_size import BatchSizer
from napari_espmedsam.inference.computation import (
    Computation,
    GraphedComputation,
    PlainComputation,
)
from napari_espmedsam.inference.device import free_memory
from napari_espmedsam.inference.mixed_precision import HALVES, check_half, halve_weights
from napari_espmedsam.inference.out_of_memory import in_halves
from napari_espmedsam.inference.tiling import GRID
from napari_espmedsam.model.coarse_prompt import luma
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import Features

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

T = TypeVar("T")
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
ChoosePrompt = Callable[[int, Bools, Floats], npt.NDArray[Any] | None]


class ModelRunner:
    """Runs a model on tiles; safe to share between threads, which take turns.

    Parameters
    ----------
    model : nn.Module
        Of ESP-MedSAM and Med-FastSAM the inference form is used, a copy; any other is itself moved
        to the device and into evaluation mode.
    device : str
        Device as torch calls it.
    precision : {"auto", "float32", "bfloat16", "float16"}
        "auto" is float32. bfloat16 is approximate; float16, for GPUs, too.
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
        check_half(self.precision, device)
        chosen = choose_backend(backend, device, self.precision)
        moved = to_inference(model).to(device=device)
        moved = moved.to(memory_format=torch.channels_last)
        if chosen.name != "torch" and isinstance(moved, ESPMedSAM | MedFastSAM):
            how = (chosen, graph_sizes, self.precision)
            encoder = GraphEncoder(moved.encoder, moved.config, *how)
            moved.encoder = encoder  # type: ignore[assignment]
        # Any: extract and decode_features are no methods of nn.Module
        self._model = cast(Any, moved.eval())
        self._half = HALVES.get(self.precision)
        self._computation = self._compute_with(moved)
        self._colours: dict[tuple[float, ...], Tensor] = {}
        self.batches = BatchSizer(device)
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

    def awaits(self, modality: int) -> str:
        """Name the library that is not ready yet for tiles of a modality; "" if none."""
        encoder = getattr(self._model, "encoder", None)
        if not isinstance(encoder, GraphEncoder) or not encoder.awaits_graph(modality):
            return ""
        return encoder.backend.label

    def extract(self, tile: Floats, modality: int, spec: InputSpec) -> Features:
        """Encode one tile, (h, w) or (h, w, 3) float32 in [0, 1]: the expensive part."""
        with self._ready():
            return self._alone(
                lambda: self._extract(self._to_batch(tile), modality, spec), tile.shape[:2]
            )

    def propose(self, features: Features, tile: Floats) -> tuple[Bools, Floats]:
        """Read the model's own prompt of a tile, and the values that a threshold would cut.

        Returns
        -------
        ndarray
            (gh, gw) bool, the model's own prompt.
        ndarray
            (gh, gw) float32 in [0, 1]: the probability of each patch of a grid; for a mask the
            grey value that Otsu cuts.
        """
        with self._ready():
            own, values = self._alone(
                lambda: self._propose(features, self._to_batch(tile)), tile.shape[:2]
            )
            return own[0], values[0]

    def decode(
        self, features: Features, modality: int, prompt: npt.NDArray[Any] | None = None
    ) -> Floats:
        """Decode one tile under a prompt, or its own: logits (h / 4, w / 4) float32.

        A prompt is (gh, gw), bool or what :func:`~napari_espmedsam.inference.prompts.tile_prompt`
        returns.
        """

        def compute() -> Floats:
            logits = self._computation.decode(features, modality, self._given(prompt)).float()
            return cast(Floats, logits[0, 0].cpu().numpy())

        height, width = features.embedding.shape[-2:]
        with self._ready():
            return self._alone(compute, (16 * height, 16 * width))

    def segment(
        self, tiles: Tensor, modality: int, spec: InputSpec, choose: ChoosePrompt | None = None
    ) -> list[Tensor]:
        """Segment several tiles at once, or in smaller parts where the memory does not suffice.

        Without `choose` this returns as soon as the device has its work.

        Parameters
        ----------
        tiles : Tensor
            (B, h, w) or (B, h, w, 3) float32 in [0, 1], on the device.
        modality : int
            Index of their modality.
        spec : InputSpec
            Their normalisation.
        choose : callable, optional
            Gives the prompt of a tile, as in :meth:`decode` (None is its own), from its number
            among `tiles` and what :meth:`propose` returns.

        Returns
        -------
        list of Tensor
            Logits on the device, part by part: (b, h / 4, w / 4) float32.

        Raises
        ------
        DeviceError
            If not even one tile fits.
        """
        shape = tuple(tiles.shape[1:3])

        def compute(start: int, stop: int) -> Tensor:
            with self.batches.measuring(shape, stop - start):
                images = self._as_images(tiles[start:stop])
                features = self._extract(images, modality, spec)
                if choose is None:
                    return self._computation.decode(features, modality, None).float()[:, 0]
                own, values = self._propose(features, images)
                rows = zip(range(start, stop), own, values, strict=True)
                prompts = [choose(*row) for row in rows]
                return self._decode_each(features, modality, prompts)

        def too_many(size: int) -> None:
            self.batches.shrink(shape, size)
            self.make_room()

        n = len(tiles)
        with self._ready():
            return in_halves(compute, n, n, too_many, device=self.device, shape=shape)

    def make_room(self) -> None:
        """Give up memory that only saves time."""
        self._computation.release()
        free_memory(self.device)

    def _compute_with(self, model: nn.Module) -> Computation:
        if self.device.startswith("cuda") and isinstance(model, ESPMedSAM | MedFastSAM):
            if self._half is not None:
                halve_weights(model.encoder, self._half)
            return GraphedComputation(model)
        return PlainComputation(model, self.device)

    def _extract(self, rescaled: Tensor, modality: int, spec: InputSpec) -> Features:
        """Encode (B, 3, h, w) in [0, 1]."""
        mean, std = self._on_device(spec.mean), self._on_device(spec.std)
        images = (rescaled * spec.value_range - mean) / std
        images = images.contiguous(memory_format=torch.channels_last)
        return self._computation.extract(images, rescaled, modality)

    def _on_device(self, values: tuple[float, ...]) -> Tensor:
        """(1, 3, 1, 1), copied once: a GPU would have to finish its work for each copy."""
        if values not in self._colours:
            tensor = torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            self._colours[values] = tensor
        return self._colours[values]

    def _propose(self, features: Features, rescaled: Tensor) -> tuple[Bools, Floats]:
        """See :meth:`propose`, for a batch: (B, gh, gw) each."""
        if self.prompt_kind == "mask":
            own, values = features.prompt >= 0.5, luma(rescaled)
        else:
            # In the precision in which the model itself rounds its grid.
            values = features.prompt.sigmoid()
            own = values >= 0.5
        return own[:, 0].cpu().numpy(), values[:, 0].float().cpu().numpy()

    def _decode_each(
        self, features: Features, modality: int, prompts: list[npt.NDArray[Any] | None]
    ) -> Tensor:
        """Decode the rows of a batch one by one: (B, h / 4, w / 4) float32."""
        logits = []
        for i, prompt in enumerate(prompts):
            embedding, own, *skips = (
                each[i : i + 1] for each in (features.embedding, features.prompt, *features.skips)
            )
            row = Features(embedding, own, tuple(skips))
            logits.append(self._computation.decode(row, modality, self._given(prompt))[:, 0])
        return torch.cat(logits).float()

    def _given(self, prompt: npt.NDArray[Any] | None) -> Tensor | None:
        """(gh, gw) to (1, 1, gh, gw) on the device."""
        if prompt is None:
            return None
        return torch.from_numpy(prompt.astype(np.float32))[None, None].to(self.device)

    def _to_batch(self, tile: Floats) -> Tensor:
        """(1, 3, h, w); grey is repeated."""
        if self.device != "cpu":  # which repeats and reorders faster than the processor
            tensor = torch.from_numpy(np.require(tile, requirements=["C", "W"]))
            return self._as_images(tensor[None].to(self.device))
        colours = tile if tile.ndim == 3 else np.broadcast_to(tile[..., None], (*tile.shape, 3))
        channels_first = np.ascontiguousarray(colours.transpose(2, 0, 1))
        return torch.from_numpy(channels_first)[None].to(self.device)

    def _as_images(self, tiles: Tensor) -> Tensor:
        """(B, h, w) or (B, h, w, 3) to (B, 3, h, w); grey is repeated."""
        if tiles.ndim == 3:
            return tiles[:, None].expand(-1, 3, -1, -1)
        return tiles.permute(0, 3, 1, 2)

    def _alone(self, compute: Callable[[], T], shape: tuple[int, ...]) -> T:
        """Do what cannot be split; what only saves time makes room for it."""
        (result,) = in_halves(
            lambda *_: compute(), 1, 1, lambda _: self.make_room(), device=self.device, shape=shape
        )
        return result

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """One thread at a time, without gradients, in the chosen precision."""
        kind = self.device.split(":")[0]
        # Without the cache, which would hand converted weights from one CUDA graph to another.
        autocast = torch.autocast(
            kind, self._half, enabled=self._half is not None, cache_enabled=False
        )
        with self._lock, self._on_card(), torch.inference_mode(), autocast:
            yield

    @contextmanager
    def _on_card(self) -> Iterator[None]:
        """Make the card of this runner the current one: streams and graphs belong to it."""
        if not self.device.startswith("cuda"):
            yield
            return
        with torch.cuda.device(self.device):
            yield

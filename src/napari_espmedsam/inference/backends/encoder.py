"""An encoder that runs as a graph where one exists and says the same, and in torch elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from napari_espmedsam.inference.backends.choice import Backend
from napari_espmedsam.inference.backends.graph_file import GraphFile
from napari_espmedsam.inference.backends.session import Run, open_session
from napari_espmedsam.model.config import ModelConfig
from napari_espmedsam.model.encoder import SemiParameterSharingEncoder

TOLERANCE = 1e-4
"""Largest difference from torch, over the largest value that torch computes, in float32."""

ROUGH_TOLERANCE = 0.05
"""In bfloat16: root mean square of the difference from torch in float32, over its spread.

Rounding makes it about 0.01; an encoding of something else, more than 0.5.
"""

_log = logging.getLogger(__name__)


class GraphEncoder(nn.Module):
    """Takes the place of the encoder of a model. For one thread at a time.

    A graph fits one modality and one tile size, and making it takes longer than many tiles, so only
    sizes that the model was trained with get one. That follows from the tile alone and not from
    what was computed before: the same image always gets the same numbers.

    Parameters
    ----------
    encoder : nn.Module
        In the inference form, float32, on the CPU.
    config : ModelConfig
        Of the model that it belongs to.
    backend : Backend
        What computes the graphs.
    sizes : collection of int
        Sides of the square tiles that get a graph.
    precision : {"float32", "bfloat16"}
        What the graphs compute in.
    """

    def __init__(
        self,
        encoder: nn.Module,
        config: ModelConfig,
        backend: Backend,
        sizes: Collection[int],
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.encoder, self.config, self.backend = encoder, config, backend
        self.precision = precision
        self._sizes = frozenset(sizes)
        self._has_bags = isinstance(encoder, SemiParameterSharingEncoder)
        self._graphs: dict[tuple[int, int], Run | None] = {}

    def forward(self, images: Tensor, *modality: Tensor) -> Tensor:
        """Embed (B, 3, H, W) images as the encoder does; several at once are left to torch."""
        graph = None
        if len(images) == 1:
            index = int(modality[0]) if modality else 0
            graph = self.graph(index, tuple(images.shape[-2:]))
        if graph is None:
            embedding: Tensor = self.encoder(images, *modality)
            return embedding
        return torch.from_numpy(graph(images.contiguous().numpy()))

    def graph(self, modality: int, shape: tuple[int, ...]) -> Run | None:
        """Return what computes tiles (H, W) of a modality, made at the first call; None: torch."""
        bag, size = (modality if self._has_bags else 0), shape[0]
        if size not in self._sizes or shape != (size, size):
            return None
        if (bag, size) not in self._graphs:
            self._graphs[bag, size] = self._make(bag, size)
        return self._graphs[bag, size]

    def awaits_graph(self, modality: int) -> bool:
        """Whether no graph of a modality was asked for: making the first one takes a while."""
        bag = modality if self._has_bags else 0
        return bool(self._sizes) and all(made != bag for made, _ in self._graphs)

    def _make(self, bag: int, size: int) -> Run | None:
        """Find or export a graph and check it; a file that is of no use is made once more."""
        file: GraphFile | None = None
        problem: Exception | None = None
        for export in (False, True):
            try:
                file = file or GraphFile(self.encoder, self.config, bag, size)
                if not (export or file.path.is_file()):
                    continue
                if export:
                    _log.info(
                        "Exporting the encoder for %s, once: %s", self.backend.name, file.path
                    )
                    file.write()
                threads = torch.get_num_threads()
                run = open_session(self.backend.name, file.path, threads, self.precision)
                self._check(run, bag, size)
                return run
            except Exception as error:  # both libraries raise kinds of their own
                problem = error
        _log.warning(
            "The backend %s (%s) cannot be used for tiles of %d px, so torch computes them in %s: "
            "%s",
            *(self.backend.name, self.backend.label, size, self.precision, problem),
        )
        return None

    def _check(self, run: Run, bag: int, size: int) -> None:
        """Compare with torch on a fixed tile.

        Raises
        ------
        ValueError
            If the results differ.
        """
        tile = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        modality = (torch.tensor([bag]),) if self._has_bags else ()
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            expected = self.encoder(tile.clone(), *modality).numpy()
        found = run(tile.numpy())
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ValueError(f"it returns {found.dtype} {found.shape}, not {expected.shape}")
        off = np.abs(found - expected)
        difference, limit = float(off.max() / np.abs(expected).max()), TOLERANCE
        if self.precision == "bfloat16":
            difference, limit = float(np.sqrt(np.mean(off**2)) / expected.std()), ROUGH_TOLERANCE
        if not difference <= limit:  # NaN too
            raise ValueError(f"it differs by {difference:.1e} from torch, more than {limit}")

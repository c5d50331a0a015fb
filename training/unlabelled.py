"""Images without labels, as a distillation reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.checkpoint import InputSpec
from napari_espmedsam.model.config import FrozenModel
from training.data import rescale
from training.embeddings import EmbeddingCache, View, pixel_hash, view_image

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

#: Decoded images are kept in memory up to this many bytes per source; the rest is read again.
MEMORY_BYTES = 2 * 2**30


class NaturalConfig(FrozenModel):
    """Natural images without labels."""

    #: Searched with all their subfolders.
    folders: tuple[Path, ...] = Field(min_length=1)
    #: Its ``rescale`` rule and normalisation are used.
    input: InputSpec = InputSpec(geometry="whole", size=1024, rescale="dtype")
    #: Every so many-th image, by name, is held back for validation.
    validate_every: int = Field(default=20, ge=2)
    #: Use the first so many images alone.
    limit: int | None = Field(default=None, ge=2)
    #: Read all images first and leave out those that cannot be used, instead of stopping at one.
    skip_damaged: bool = False


def read_image(path: Path, spec: InputSpec) -> Tensor:
    """Read an image and rescale it: (3, H, W) uint8.

    Raises
    ------
    InputError
        Naming the file, if it cannot be read, is too small, or is no image of one plane.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path} cannot be read as an image. Replace or remove it.")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2RGB)
    try:
        rescaled = rescale(pixels, spec)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    return torch.from_numpy((rescaled * 255).round().astype(np.uint8))


def usable(path: Path, spec: InputSpec, report: Callable[[str], None]) -> bool:
    """Tell whether an image can be read; if not, report why."""
    try:
        read_image(path, spec)
    except InputError as error:
        report(f"left out: {error}")
        return False
    return True


def natural_images(
    config: NaturalConfig, report: Callable[[str], None] = print
) -> tuple[list[Path], list[Path]]:
    """Training and validation images, by name.

    Raises
    ------
    InputError
        If there are fewer than two.
    """
    found = {path for folder in config.folders for path in folder.rglob("*")}
    paths = sorted(path for path in found if path.suffix.lower() in _SUFFIXES)[: config.limit]
    if config.skip_damaged:
        paths = [path for path in paths if usable(path, config.input, report)]
    if len(paths) < 2:
        raise InputError(
            f"{', '.join(map(str, config.folders))}: found {len(paths)} usable images ending in "
            f"one of {', '.join(sorted(_SUFFIXES))}; two are the least. Name folders of images."
        )
    val = set(paths[config.validate_every - 1 :: config.validate_every] or paths[-1:])
    return [p for p in paths if p not in val], sorted(val)


class ImageSet:
    """Images of one source, unlabelled, at their own size and as the student sees them.

    Parameters
    ----------
    paths : sequence of Path
        Image files.
    spec : InputSpec
        Rescaling rule.
    size : int
        Side of the student's input.
    """

    def __init__(self, paths: Sequence[Path], spec: InputSpec, size: int) -> None:
        self.paths, self.spec, self.size = list(paths), spec, size
        self._seen: dict[int, tuple[Tensor, str]] = {}
        self._free = MEMORY_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Image at its own size, (3, H, W) uint8.

        Raises
        ------
        InputError
            If the file cannot be used.
        """
        image = read_image(self.paths[index], self.spec)
        if index not in self._seen and self._free >= 3 * self.size**2:
            self._free -= 3 * self.size**2
            self._seen[index] = self._look(image)
        return image

    def pair(self, index: int, view: View, cache: EmbeddingCache) -> tuple[Tensor, Tensor]:
        """Student's input (3, size, size) in [0, 1] and the teacher's embedding (C, g, g)."""
        square, key = self._seen.get(index) or self._look(self[index])
        embedding = cache.find(key, view)
        if embedding is None:  # damaged since the cache was filled
            embedding = cache.get(self[index], view)
        return (square.flip(-1) if view == "flip" else square).float() / 255, embedding

    def _look(self, image: Tensor) -> tuple[Tensor, str]:
        """Student's square (3, size, size) uint8, and the key of the image in the cache."""
        square = view_image(image, "identity", self.size)
        return (square * 255).round().to(torch.uint8), pixel_hash(image)

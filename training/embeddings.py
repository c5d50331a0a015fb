"""Cache of what a teacher says about images: one file per image and view, computed once.

The teacher takes most of the time of a distillation, and its answers never change. A file is named
by what it depends on: the teacher's weights, the pixels, and how they are viewed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.teacher import Teacher

#: How an image is looked at: as it is, or mirrored left to right. A short list keeps the cache
#: finite.
View = Literal["identity", "flip"]


class Images(Protocol):
    """A sequence of (3, H, W) uint8 images, which may be read only when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def view_image(image: Tensor, view: View, size: int) -> Tensor:
    """Squeeze a whole image to a square, and mirror it if the view says so.

    Parameters
    ----------
    image : Tensor
        (3, H, W) uint8.
    view : {"identity", "flip"}
        "flip" mirrors left to right.
    size : int
        Side of the result in pixels.

    Returns
    -------
    Tensor
        (3, size, size) float32 in [0, 1].
    """
    x = F.interpolate(image[None].float() / 255, (size, size), mode="bilinear", antialias=True)[0]
    return x.clamp(0, 1).flip(-1) if view == "flip" else x.clamp(0, 1)


def to_grid(embedding: Tensor, grid: int) -> Tensor:
    """Bring (B, C, g, g) to (B, C, grid, grid): area mean downwards, bilinear upwards.

    Both models see the whole image, so the cells of the two grids lie over the same places.
    """
    if embedding.shape[-1] == grid:
        return embedding
    if embedding.shape[-1] > grid:
        return F.adaptive_avg_pool2d(embedding, grid)
    return F.interpolate(embedding, (grid, grid), mode="bilinear", align_corners=False)


def pixel_hash(image: Tensor) -> str:
    """sha256 over the shape and pixels of a uint8 image."""
    array = np.ascontiguousarray(image.numpy())
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


class EmbeddingCache:
    """Embeddings of one teacher on the grid of one student.

    Several processes may use the same folder: a file appears under its name only when it is
    complete, and whoever comes second replaces it by the same content.

    Parameters
    ----------
    folder : Path
        Root of the cache; made if absent. It may be deleted at any time.
    teacher : Teacher
        Asked for what the cache lacks.
    grid : int
        Side of the student's embedding; see :func:`to_grid`. Stored on this grid, an embedding
        takes 0.5 KB a cell.
    """

    def __init__(self, folder: Path, teacher: Teacher, grid: int) -> None:
        self.teacher = teacher
        self.grid = grid
        self.folder = folder / teacher.fingerprint[:20] / f"grid{grid}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str, view: View) -> Path:
        """File of the image with this :func:`pixel_hash` and of one view."""
        return self.folder / f"{key[:40]}-{view}.npz"

    def find(self, key: str, view: View = "identity") -> Tensor | None:
        """Embedding of the image with this :func:`pixel_hash`, or None if it is not stored."""
        return self._read(self.path(key, view))

    def get(self, image: Tensor, view: View = "identity") -> Tensor:
        """Embedding of an image.

        Parameters
        ----------
        image : Tensor
            (3, H, W) uint8.
        view : {"identity", "flip"}
            See :func:`view_image`.

        Returns
        -------
        Tensor
            (C, grid, grid) float32, rounded to float16.
        """
        path = self.path(pixel_hash(image), view)
        known = self._read(path)
        return self._compute([(path, image, view)])[0] if known is None else known

    def fill(
        self,
        images: Images,
        views: Sequence[View] = ("identity",),
        *,
        batch_size: int = 1,
        report: Callable[[str], None] = print,
    ) -> int:
        """Compute what is missing.

        Of several processes started by ``torchrun`` each begins at another place, so they share
        the work without talking to each other.

        Parameters
        ----------
        images : Images
            Training or validation images.
        views : sequence of str
            Views of each.
        batch_size : int
            Images per call of the teacher.
        report : callable
            Receives a line of progress about twice a minute.

        Returns
        -------
        int
            Number of embeddings computed here.
        """
        rank, world = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
        first = len(images) * rank // world
        pending: list[tuple[Path, Tensor, View]] = []
        done, started, told = 0, time.monotonic(), time.monotonic()
        for n in range(len(images)):
            image = images[(first + n) % len(images)]
            key = pixel_hash(image)
            wanted = ((self.path(key, view), image, view) for view in views)
            pending += [item for item in wanted if self._read(item[0]) is None]
            if len(pending) < batch_size and n + 1 < len(images):
                continue
            for i in range(0, len(pending), batch_size):
                done += len(self._compute(pending[i : i + batch_size]))
            pending = []
            if done and (time.monotonic() - told > 30 or n + 1 == len(images)):
                told = time.monotonic()
                left = (told - started) / (n + 1) * (len(images) - n - 1) / 60
                each = (told - started) / done
                text = f"teacher {self.teacher.name}: {n + 1}/{len(images)} images"
                report(f"{text}, {each:.2f} s each, {left:.0f} min left")
        return done

    def _compute(self, items: Sequence[tuple[Path, Tensor, View]]) -> Tensor:
        """Ask the teacher, write each answer to its file, and return (n, C, grid, grid)."""
        squares = [view_image(image, view, self.teacher.size) for _, image, view in items]
        answers = to_grid(self.teacher.embed(torch.stack(squares)), self.grid).cpu().half()
        for (path, _, _), answer in zip(items, answers, strict=True):
            # A name of its own for every writer: two processes may fill the same cache.
            temporary = path.with_name(f"{path.stem}.{uuid4().hex}.tmp")
            try:
                with temporary.open("wb") as file:
                    np.savez(file, embedding=answer.numpy())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return answers.float()

    def _read(self, path: Path) -> Tensor | None:
        """Stored embedding, or None if there is none that can be used."""
        try:
            # A zip archive, whose checksum is verified.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                embedding = torch.from_numpy(stored["embedding"]).float()
        except Exception:  # absent, or damaged in any of the ways a zip archive can be
            return None
        return embedding if embedding.shape[1:] == (self.grid, self.grid) else None

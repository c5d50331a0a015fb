"""The cache of teacher embeddings: asked once, missed when anything changed, never half a file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import IO

import numpy as np
import pytest
import torch
from torch import Tensor

from training.embeddings import EmbeddingCache, pixel_hash, to_grid, view_image


class MeanTeacher:
    """Answers with the local mean of the image times a weight, and counts the images."""

    name = "mean"
    size = 32

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.seen = 0

    @property
    def fingerprint(self) -> str:
        return f"{self.weight:020.3f}"

    def embed(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, self.size, self.size)
        self.seen += len(images)
        return self.weight * torch.nn.functional.avg_pool2d(images, 4)  # (B, 3, 8, 8)


@pytest.fixture
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, 40, 50 + i), dtype=torch.uint8, generator=generator)
        for i in range(5)
    ]


def silent(line: str) -> None:
    del line


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_teacher_is_asked_once_per_image_and_view(tmp_path: Path, images: list[Tensor]) -> None:
    teacher = MeanTeacher()
    cache = EmbeddingCache(tmp_path, teacher, grid=4)
    lines: list[str] = []
    assert cache.fill(images, ("identity", "flip"), batch_size=3, report=lines.append) == 10
    assert teacher.seen == 10
    assert lines[-1].startswith("teacher mean: 5/5 images")
    assert len(files(tmp_path)) == 10
    again = EmbeddingCache(tmp_path, teacher, grid=4)
    assert again.fill(images, ("identity", "flip"), report=silent) == 0
    got = again.get(images[2])
    assert teacher.seen == 10
    square = view_image(images[2], "identity", 32)
    expected = torch.nn.functional.avg_pool2d(square, 8)  # pooled by 4, then from 8 to 4 cells
    torch.testing.assert_close(got, expected, rtol=0, atol=5e-4)
    torch.testing.assert_close(again.get(images[2], "flip"), expected.flip(-1), rtol=0, atol=5e-4)


def test_computed_and_stored_answers_are_the_same(tmp_path: Path, images: list[Tensor]) -> None:
    cache = EmbeddingCache(tmp_path, MeanTeacher(1 / 3), grid=4)
    assert torch.equal(cache.get(images[0]), cache.get(images[0]))


def test_a_change_of_weight_pixel_or_grid_misses(tmp_path: Path, images: list[Tensor]) -> None:
    image = images[0]
    EmbeddingCache(tmp_path, MeanTeacher(), grid=4).get(image)
    other = MeanTeacher(2.0)
    assert EmbeddingCache(tmp_path, other, grid=4).get(image).mean() > 0.8
    changed = image.clone()
    changed[1, 2, 3] ^= 1
    teacher = MeanTeacher()
    EmbeddingCache(tmp_path, teacher, grid=4).get(changed)
    EmbeddingCache(tmp_path, teacher, grid=4).get(image.transpose(1, 2))
    EmbeddingCache(tmp_path, teacher, grid=8).get(image)
    assert (other.seen, teacher.seen) == (1, 3)
    EmbeddingCache(tmp_path, teacher, grid=4).get(image)
    assert teacher.seen == 3


def test_a_damaged_file_is_computed_again(tmp_path: Path, images: list[Tensor]) -> None:
    teacher = MeanTeacher()
    cache = EmbeddingCache(tmp_path, teacher, grid=4)
    expected = cache.get(images[0])
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    damages = [b"", whole[: len(whole) // 2]]
    for position in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[position] ^= 0xFF
        damages.append(bytes(flipped))
    for damage in damages:
        path.write_bytes(damage)
        assert torch.equal(cache.get(images[0]), expected)
    path.write_bytes(damages[1])
    before = teacher.seen
    assert cache.fill(images[:1], report=silent) == 1
    assert teacher.seen == before + 1
    assert path.read_bytes() == whole


def test_a_death_in_the_middle_of_writing_leaves_nothing_wrong(
    tmp_path: Path, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EmbeddingCache(tmp_path, MeanTeacher(), grid=4)
    save = np.savez

    def die(file: IO[bytes], embedding: np.ndarray) -> None:
        save(file, embedding=embedding[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        cache.get(images[0])
    monkeypatch.setattr(np, "savez", save)
    assert files(tmp_path) == []
    # SIGKILL leaves the temporary file behind; nobody takes it for an answer.
    cache.path(pixel_hash(images[0]), "identity").with_suffix(".0.tmp").write_bytes(b"half")
    assert cache.get(images[0]).shape == (3, 4, 4)
    assert cache.fill(images[:1], report=silent) == 0


def test_two_that_fill_the_same_cache_at_once(tmp_path: Path, images: list[Tensor]) -> None:
    barrier = Barrier(2)

    class Together(MeanTeacher):
        def embed(self, images: Tensor) -> Tensor:
            barrier.wait(timeout=20)  # both are about to write the same file
            return super().embed(images)

    caches = [EmbeddingCache(tmp_path, Together(), grid=4) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda cache: cache.get(images[0]), caches)
    assert torch.equal(first, second)
    assert [path.suffix for path in files(tmp_path)] == [".npz"]
    assert torch.equal(EmbeddingCache(tmp_path, MeanTeacher(), grid=4).get(images[0]), first)


def test_processes_share_the_work(
    tmp_path: Path, images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []

    class Noting(list[Tensor]):
        def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
            order.append(index)
            return super().__getitem__(index)

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert EmbeddingCache(tmp_path, MeanTeacher(), 4).fill(Noting(images), report=silent) == 5
    assert order == [2, 3, 4, 0, 1]


def test_grids_are_pooled_or_interpolated() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert torch.equal(to_grid(ramp, 8), ramp)
    assert to_grid(ramp, 4)[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert to_grid(ramp, 16).shape == (1, 1, 16, 16)
    assert to_grid(ramp, 3).shape == (1, 1, 3, 3)

"""How many threads compute must not show in the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_espmedsam.inference.segmenter import Segmenter


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_the_number_of_threads_changes_nothing(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    weights = save_tiny(tmp_path / "tiny.safetensors")
    image = np.random.default_rng(0).integers(0, 4000, (150, 170)).astype(np.uint16)
    found = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        segmenter = Segmenter.from_checkpoint(weights, device="cpu")
        found.append(segmenter.segment(image, "microscopy").labels)
    assert np.unique(found[0]).size > 1
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])

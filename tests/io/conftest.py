"""Labels that are hard to write: what every format has to bring through."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def shapes() -> np.ndarray:
    """Return (24, 30) labels: holes, parts, single pixels, borders, corners that touch."""
    labels = np.zeros((24, 30), np.uint32)
    labels[0:6, 0:7] = 1  # in the corner of the image, with a hole in which 2 lies
    labels[2:4, 2:5] = 0
    labels[3, 3] = 2  # one pixel
    labels[8:12, 2:6] = 70_000  # of two parts, far apart
    labels[18:22, 20:24] = 70_000
    labels[9:12, 9:12] = 4  # a ring that is closed by corners alone
    labels[10, 10] = labels[9, 9] = 0
    labels[14, 3] = labels[15, 4] = 5  # two pixels that meet at a corner
    labels[14:20, 9:15] = 6  # with holes that meet at a corner
    labels[16, 11] = labels[17, 12] = 0
    labels[0:24, 29] = 7  # along a border
    return labels


@pytest.fixture
def stack(shapes: np.ndarray) -> np.ndarray:
    """Return (2, 3, 24, 30) labels along T, Z, Y, X; planes differ, and one is empty."""
    planes = [np.roll(shapes, shift, axis=-1) for shift in range(6)]
    labels = np.stack(planes).reshape(2, 3, 24, 30)
    labels[1, 1] = 0
    return labels

"""Records of sessions that nobody had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.plane_record import PlaneRecord
from napari_espmedsam.studio.record import PromptRecord, setting_names

MakeRecord = Callable[..., PromptRecord]


@pytest.fixture
def make_record() -> MakeRecord:
    """Build the record of a stack of 4 planes of 64 x 96 px with two planes edited."""

    def build(**changes: Any) -> PromptRecord:
        rng = np.random.default_rng(3)
        locked = np.zeros((64, 96), np.uint32)
        locked[10:20, 30:50] = 7
        locked[40:42, 0:9] = 2**32 - 1
        planes = (
            PlaneRecord((1,), "a" * 32, rng.integers(-1, 2, (2, 3)).astype(np.int8)),
            PlaneRecord(
                (3,),
                "b" * 32,
                rng.integers(-1, 2, (2, 3)).astype(np.int8),
                anchors=np.array([[9, 0, 5], [4, 63, 95]]),
                locked=locked,
            ),
        )
        request = SegmentRequest(modality="microscopy", threshold=0.4, planes=(1, 3))
        plain: dict[str, Any] = {
            "image_shape": (4, 64, 96),
            "image_dtype": "uint16",
            "axes": "ZYX",
            "checkpoint": "espmedsam",
            "weights_sha256": "c" * 64,
            "settings": {name: getattr(request, name) for name in setting_names()},
            "planes": planes,
            "version": "0.1.0",
            "created": "2025-01-01T00:00:00+00:00",
            "image_name": "Zellen ä 细胞",
            "cell_size": (32.0, 32.5),
        }
        return PromptRecord(**(plain | changes))

    return build

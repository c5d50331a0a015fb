"""A small picture of a result, for the report."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.io.overlay import draw_overlay

SIDE = 256  # px, of the longer side


def draw_thumbnail(
    stack: PlaneStack, labels: NDArray[np.uint32], planes: Sequence[int] | None = None
) -> str:
    """Draw outlines on a small copy of an image: of a stack, the plane with most foreground.

    Parameters
    ----------
    stack : PlaneStack
        The image.
    labels : ndarray
        uint32, the leading axes of the image, then Y and X.
    planes : sequence of int, optional
        Those that were segmented; all when None.

    Returns
    -------
    str
        Data URL of a JPEG picture with at most 256 px on each side.
    """
    from PIL import Image

    each = labels.reshape(-1, *labels.shape[-2:])
    candidates = range(len(each)) if planes is None else planes
    best = max(candidates, key=lambda i: int(np.count_nonzero(each[i])))
    step = math.ceil(max(labels.shape[-2:]) / SIDE)
    plane = np.asarray(stack.plane(best))[::step, ::step]
    picture = draw_overlay(plane, each[best][::step, ::step], min_side=SIDE // 2)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""One image through the model, with a pause after each tile."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.io.image_file import ImageFile


def segment_steps(
    segmenter: Segmenter, array: NDArray[Any], options: dict[str, Any]
) -> Generator[float, None, Segmentation]:
    """Segment an image; closing the generator cancels.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    array : ndarray
        The image.
    options : dict
        Arguments of ``Segmenter.iter_segment``. Planes that are not asked for stay 0.

    Yields
    ------
    float
        The share that is done, above 0 and up to 1, after each tile.

    Returns
    -------
    Segmentation
        Labels, their axes and how they were made.
    """
    from napari_espmedsam.inference.image import PlaneStack
    from napari_espmedsam.inference.results import collect_steps

    stack = PlaneStack.from_array(
        array, options["axes"], channel=options.get("channel"), rgb=options.get("rgb")
    )
    return (yield from collect_steps(stack, segmenter.iter_segment(array, **options)))


def count_text(labels: NDArray[np.uint32], output: str) -> str:
    """Say how much was found: objects, or for a mask the share of the foreground."""
    if output == "mask":
        return f"{100 * float(np.mean(labels > 0)):.1f} % foreground"
    n = int(np.count_nonzero(np.bincount(labels.ravel())[1:]))
    return f"{n} object{'' if n == 1 else 's'}"


def shape_text(image: ImageFile) -> str:
    """Say what an image is: ``"ZYX 5 x 512 x 512"``."""
    text = f"{image.axes} {' x '.join(map(str, image.array.shape))}"
    return text if image.n_series == 1 else f"{text} (first of {image.n_series} images in the file)"

"""One intensity range for a whole image: never per plane, never per tile.

A range per tile would let one bright speck change the mask of its tile and draw the tile's border
into the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import PlaneStack

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

_SAMPLE_PLANES = 16
_FLOAT32 = (1e-36, 1e37)  # smallest span and largest value that float32 can rescale
_LARGEST = 1e300  # differences of larger values are beyond float64
_SAMPLE_PIXELS = 2**22  # of the whole image; a plane of 2048 x 2048 is read in full


@dataclass(frozen=True)
class IntensityRange:
    """Grey values that become 0 and 1; what lies beyond is clipped.

    Attributes
    ----------
    low, high : float
        In the units of the image, low < high. The same for all three colours of RGB.
    """

    low: float
    high: float

    def rescale(self, plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Map a plane, (H, W) or (H, W, 3), to float32 in [0, 1]."""
        # By kind and size: a float32 of the other byte order is one too.
        exact = plane.dtype.itemsize <= 2 or (plane.dtype.kind, plane.dtype.itemsize) == ("f", 4)
        span = self.high - self.low
        exact &= span > _FLOAT32[0] and max(abs(self.low), abs(self.high)) < _FLOAT32[1]
        values: npt.NDArray[Any] = plane.astype(np.float32 if exact else np.float64)
        with np.errstate(over="ignore", under="ignore"):  # it is clipped in the end
            np.subtract(values, self.low, out=values)
            np.divide(values, span, out=values)
        return np.asarray(np.clip(values, 0.0, 1.0, out=values), dtype=np.float32)


def measure_intensity(stack: PlaneStack, spec: InputSpec) -> IntensityRange:
    """Measure the range of a whole image as its checkpoint wants it.

    For ``spec.rescale == "dtype"``, uint8 means 0 to 255 and floats that lie in [0, 1] mean 0 to
    1. Everything else has no agreed range (a 12-bit camera writes uint16) and takes the
    percentiles, as ``"percentile"`` always does. Percentiles come from at most 16 planes, spread
    evenly, and about 4 million pixels on a regular grid: the same pixels every time.
    If the two percentiles are equal, which a few bright pixels on a flat background give, the
    minimum and maximum of all pixels are taken.

    Parameters
    ----------
    stack : PlaneStack
        The image.
    spec : InputSpec
        Its ``rescale`` and ``percentiles`` are used.

    Returns
    -------
    IntensityRange
        With low < high.

    Raises
    ------
    InputError
        If all pixels are equal, or a plane that was read holds NaN, infinite or absurdly large
        values.
    """
    sample = _sample(stack)
    if bool((sample == sample[0]).all()):
        _check_contrast(stack)
    _check_size(sample)
    if spec.rescale == "dtype" and stack.array.dtype == np.uint8:
        return IntensityRange(0.0, 255.0)
    if spec.rescale == "dtype" and stack.array.dtype.kind == "f" and _in_unit_range(sample):
        return IntensityRange(0.0, 1.0)
    low, high = (float(value) for value in np.percentile(sample, spec.percentiles))
    return IntensityRange(low, high) if low < high else _full_range(stack)


def _sample(stack: PlaneStack) -> npt.NDArray[np.float64]:
    """Read pixels from planes spread over the stack: (n, 1), or (n, 3) for RGB."""
    n_planes = min(len(stack), _SAMPLE_PLANES)
    chosen = np.unique(np.linspace(0, len(stack) - 1, n_planes).round().astype(int))
    height, width = stack.plane_shape
    stride = max(1, int(np.ceil(np.sqrt(height * width * len(chosen) / _SAMPLE_PIXELS))))
    width_of_pixel = 3 if stack.rgb else 1
    parts = [stack.plane(int(i))[::stride, ::stride].reshape(-1, width_of_pixel) for i in chosen]
    return np.concatenate(parts).astype(np.float64)


def _in_unit_range(sample: npt.NDArray[np.float64]) -> bool:
    return bool(sample.min() >= 0.0 and sample.max() <= 1.0)


def _check_contrast(stack: PlaneStack) -> None:
    """Look at every pixel before saying that they are all equal."""
    first = stack.plane(0)[0, 0]
    if all(bool((stack.plane(i) == first).all()) for i in range(len(stack))):
        raise InputError(
            f"All pixels of the image are {first.tolist()}: there is no contrast to segment by. "
            "Check the channel and the file."
        )


def _check_size(sample: npt.NDArray[np.float64]) -> None:
    largest = max(float(sample.max()), -float(sample.min()))
    if largest > _LARGEST:
        raise InputError(
            f"The image holds values of {largest:.3g}; the limit is {_LARGEST:g}. Divide it by a "
            "number, or check the file."
        )


def _full_range(stack: PlaneStack) -> IntensityRange:
    """Take the minimum and maximum of all pixels (of all colours)."""
    lows, highs = zip(
        *((stack.plane(i).min(), stack.plane(i).max()) for i in range(len(stack))), strict=True
    )
    return IntensityRange(float(min(lows)), float(max(highs)))

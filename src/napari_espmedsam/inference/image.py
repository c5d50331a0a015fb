"""An image of any supported axis order as a lazy stack of planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import InputError

LEADING = "TZ"
MIN_SIDE = 16  # px; smaller planes hold less than one cell of the model's prompt
_GUESSED = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}
_LIMIT = "Give 2 to 5 axes out of T, Z, C, Y and X (S: colour samples), each once, with Y and X."
_COLOURS = (3, 4)  # RGB and RGBA


def guess_axes(shape: tuple[int, ...], *, rgb: bool = False) -> str:
    """Guess the axes of an array from its shape alone.

    Two axes are YX, three ZYX, four TZYX, five TZCYX. A last axis that is too short for an image
    (under 16) after two that are long enough holds channels: YXC, ZYXC, TZYXC.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    rgb : bool
        The last axis holds colours, whatever its length.

    Returns
    -------
    str
        Axes, e.g. "ZYX".

    Raises
    ------
    InputError
        If there are fewer than 2 or more than 5 axes.
    """
    n = len(shape)
    if not 2 <= n <= 5:
        raise InputError(f"The image has {n} axes (shape {_shape_text(shape)}). {_LIMIT}")
    channels_last = n > 2 and shape[-1] < MIN_SIDE <= min(shape[-3:-1])
    if n > 2 and (rgb or channels_last):
        return _GUESSED[n - 1] + "C"
    return _GUESSED[n]


@dataclass(frozen=True, eq=False)
class PlaneStack:
    """Planes of one image, read one at a time. Make it with :meth:`from_array`.

    Attributes
    ----------
    array : array-like
        The image as given (numpy, dask, zarr or alike); never changed, never read as a whole.
    axes : str
        Its axes, letters of "TZCYX".
    channel : int or None
        The channel that is read, None without a channel axis and for RGB.
    rgb : bool
        Whether planes are (H, W, 3) colours.
    """

    array: Any
    axes: str
    channel: int | None
    rgb: bool

    @classmethod
    def from_array(
        cls,
        array: Any,
        axes: str | None = None,
        *,
        channel: int | None = None,
        rgb: bool | None = None,
    ) -> PlaneStack:
        """Check an image and its axes; no pixel is read.

        Parameters
        ----------
        array : array-like
            2 to 5 axes of integers or floats, at least 16 x 16 px a plane.
        axes : str, optional
            Letters for the axes in order, from T, Z, C, Y, X, and S for colour samples. Guessed
            by :func:`guess_axes` when None.
        channel : int, optional
            Channel to read, from 0. Needed where there are several that are no colours.
        rgb : bool, optional
            Whether the channel axis holds RGB or RGBA (alpha is dropped). None: yes for an S
            axis, and for uint8 with 3 or 4 channels in the last axis, unless a channel is given.

        Raises
        ------
        InputError
            With the value, the limit and the way to mend it.
        """
        array = _as_array(array)
        shape = tuple(int(n) for n in array.shape)
        _check_dtype(np.dtype(array.dtype))
        letters = guess_axes(shape, rgb=bool(rgb)) if axes is None else _check_axes(axes, shape)
        samples = "S" in letters
        letters = letters.replace("S", "C")
        _check_sides(shape, letters)
        n_channels = shape[letters.index("C")] if "C" in letters else 1
        if rgb is None and channel is None:
            eight_bit_last = array.dtype == np.uint8 and letters.endswith("C")
            rgb = n_channels in _COLOURS and (samples or eight_bit_last)
        if rgb:
            _check_colours(letters, n_channels, channel)
            return cls(array, letters, None, True)
        return cls(array, letters, _check_channel(letters, n_channels, channel), False)

    @property
    def leading_axes(self) -> str:
        """Axes over which planes are counted, in the order of the image, e.g. "TZ"."""
        return "".join(letter for letter in self.axes if letter in LEADING)

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the leading axes; () for one plane."""
        return tuple(self._length(letter) for letter in self.leading_axes)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(H, W) of each plane in px."""
        return self._length("Y"), self._length("X")

    def __len__(self) -> int:
        """Count the planes."""
        return math.prod(self.leading_shape)

    def index(self, i: int) -> tuple[int, ...]:
        """Say where plane i lies along the leading axes (the last one runs fastest)."""
        if not self.leading_shape:
            return ()
        return tuple(int(n) for n in np.unravel_index(i, self.leading_shape))

    def plane(self, i: int, window: tuple[slice, slice] | None = None) -> npt.NDArray[Any]:
        """Read plane i, or a part of it.

        Parameters
        ----------
        i : int
            Number of the plane.
        window : tuple of slice, optional
            Rows and columns to read; all when None.

        Returns
        -------
        ndarray
            (H, W), or (H, W, 3) for RGB, in the dtype of the image.

        Raises
        ------
        InputError
            If the plane holds NaN or infinite values.
        """
        where: dict[str, int | slice] = {}
        if window is not None:
            where.update(Y=window[0], X=window[1])
        where.update(zip(self.leading_axes, self.index(i), strict=True))
        if self.channel is not None:
            where["C"] = self.channel
        if self.rgb:
            where["C"] = slice(0, 3)
        key = tuple(where.get(letter, slice(None)) for letter in self.axes)
        left = [letter for letter in self.axes if not isinstance(where.get(letter), int)]
        wanted = "YXC" if self.rgb else "YX"
        plane = read_array(self.array[key]).transpose([left.index(letter) for letter in wanted])
        _check_finite(plane, i)
        return plane

    def _length(self, letter: str) -> int:
        return int(self.array.shape[self.axes.index(letter)])


def _as_array(array: Any) -> Any:
    """Keep what can be read piece by piece; make the rest (lists, tensors) a numpy array."""
    if array is None:
        raise InputError("The image is None. Give an array of 2 to 5 axes.")
    lazy = all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__"))
    if lazy and isinstance(array.dtype, np.dtype):
        return array
    try:
        return np.asarray(array)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A {type(array).__name__} is no image: {error}. Give a numeric array of 2 to 5 axes."
        ) from error


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind in "uif":
        return
    remedies = {
        "b": "A mask is no image; if it is one, convert it: image.astype('uint8') * 255.",
        "c": "Take one real quantity of it, e.g. numpy.abs(image).",
    }
    raise InputError(
        f"The image has the type {dtype}. The model takes integers and floats. "
        f"{remedies.get(dtype.kind, 'Give a numeric array of 2 to 5 axes.')}"
    )


def _check_axes(axes: str, shape: tuple[int, ...]) -> str:
    letters = axes.upper()
    valid = (
        2 <= len(letters) <= 5
        and set(letters) <= set("TZCSYX")
        and len(set(letters)) == len(letters)
        and {"Y", "X"} <= set(letters)
        and not {"C", "S"} <= set(letters)
    )
    if not valid:
        raise InputError(f"axes is {axes!r} (image shape {_shape_text(shape)}). {_LIMIT}")
    if len(letters) != len(shape):
        raise InputError(
            f"axes is {axes!r}, {len(letters)} letters, and the image has {len(shape)} axes "
            f"(shape {_shape_text(shape)}). Give one letter for each."
        )
    return letters


def _check_sides(shape: tuple[int, ...], axes: str) -> None:
    if 0 in shape:
        raise InputError(
            f"The image is empty (shape {_shape_text(shape)}). Every axis needs a length of 1 or "
            f"more, Y and X of {MIN_SIDE} or more."
        )
    height, width = (shape[axes.index(letter)] for letter in "YX")
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"A plane is {height} x {width} px (shape {_shape_text(shape)} read as {axes}); the "
            f"smallest side is {MIN_SIDE} px. Check axes=, or give a larger image."
        )


def _check_colours(axes: str, n_channels: int, channel: int | None) -> None:
    if channel is not None:
        raise InputError(
            f"rgb is True and channel is {channel}. Give the channel alone to segment one colour, "
            "or rgb alone to use all three."
        )
    if n_channels not in _COLOURS:
        raise InputError(
            f"rgb is True, and the image (axes {axes}) has {n_channels} channel(s); RGB has 3 and "
            "RGBA 4. Leave rgb out, and choose one with channel= where there are several."
        )


def _check_channel(axes: str, n_channels: int, channel: int | None) -> int | None:
    if channel is not None and not 0 <= channel < n_channels:
        raise InputError(
            f"channel is {channel}, and the image (axes {axes}) has {n_channels} channel(s). "
            f"Choose channel=0 to {n_channels - 1}."
        )
    if channel is None and n_channels > 1:
        colours = ", or rgb=True if they are colours" if n_channels in _COLOURS else ""
        raise InputError(
            f"The image (axes {axes}) has {n_channels} channels, and the model takes one. Choose "
            f"it with channel=0 to {n_channels - 1}{colours}."
        )
    return int(channel or 0) if "C" in axes else None


def _check_finite(plane: npt.NDArray[Any], i: int) -> None:
    if plane.dtype.kind != "f":
        return
    bad = plane.size - int(np.isfinite(plane).sum())
    if bad:
        raise InputError(
            f"Plane {i} holds {bad} NaN or infinite values among {plane.size}; the model needs "
            "finite ones. Replace them, e.g. image[~numpy.isfinite(image)] = 0."
        )


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "()"

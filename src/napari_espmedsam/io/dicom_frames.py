"""Frames of DICOM files as one array that is decoded frame by frame."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io import dicom_header
from napari_espmedsam.io.dicom_codecs import register
from napari_espmedsam.io.watch import FileWatch

# Silencing pydicom's remarks on loosely written files is not safe in several threads at once.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Frame:
    """One frame: its file, the header of that file, and its number in it."""

    watch: FileWatch
    header: Any
    number: int

    def decode(self) -> NDArray[Any]:
        """Return the pixels: (Y, X), bright where dense matter is, or (Y, X, 3) colours.

        Values are as :func:`dicom_header.rescale` has them: the stored type where that changes
        nothing, float32 elsewhere.

        Raises
        ------
        InputError
            If the file has changed or cannot be decoded.
        """
        self.watch.check()
        try:
            with _LOCK, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._decode(self.watch.path)
        except MemoryError:  # a file that is too large is not damaged
            raise
        except Exception as error:
            raise InputError(
                f"{self.watch.path} is damaged, cut short or compressed in a way that cannot be "
                f"read (frame {self.number}: {_reason(error)}); export it again uncompressed."
            ) from error

    def _decode(self, path: Path) -> NDArray[Any]:
        from pydicom.pixels.processing import apply_color_lut
        from pydicom.pixels.utils import pixel_array

        register()
        pixels: NDArray[Any] = pixel_array(path, index=self.number)
        if self.header.get("PhotometricInterpretation") == "PALETTE COLOR":
            colours: NDArray[Any] = apply_color_lut(pixels, self.header)[..., :3]
            # Palettes of 16 bits hold 8 bits, stretched.
            return (colours >> 8).astype(np.uint8) if colours.dtype.itemsize == 2 else colours
        if pixels.ndim == 3:
            return pixels
        whole = dicom_header.inversion(self.header)
        if whole is not None:
            pixels = (whole - pixels.astype(np.float64)).astype(pixels.dtype)
        slope, intercept = dicom_header.rescale(self.header, self.number)
        if (slope, intercept) == (1.0, 0.0):
            return pixels
        return (pixels * slope + intercept).astype(np.float32)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class FrameStack:
    """Frames as an array (frame, Y, X[, S]); each is decoded when it is asked for.

    Parameters
    ----------
    frames : sequence of Frame
        At least one. The first one is decoded at once: it says type and shape.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = list(frames)
        first = frames[0].decode()
        self._rescaled = first.ndim == 2 and any(
            dicom_header.rescale(each.header, each.number) != (1.0, 0.0) for each in frames
        )
        self.dtype = np.dtype(np.float32) if self._rescaled else first.dtype
        self.shape = (len(self._frames), *first.shape)
        self.chunks = (1, *first.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        which = np.arange(self.shape[0])[index[0]]
        stack = np.empty((which.size, *self.shape[1:]), self.dtype)
        for at, number in enumerate(np.atleast_1d(which)):
            stack[at] = self._decoded(int(number))
        part: NDArray[Any] = (stack if np.ndim(which) else stack[0])[
            (*([slice(None)] if np.ndim(which) else []), *index[1:])
        ]
        return part

    def _decoded(self, number: int) -> NDArray[Any]:
        frame = self._frames[number]
        pixels = frame.decode()
        fits = self._rescaled or np.can_cast(pixels.dtype, self.dtype)
        if pixels.shape != self.shape[1:] or not fits:
            raise InputError(
                f"{frame.watch.path}: frame {frame.number} has shape {pixels.shape} and type "
                f"{pixels.dtype}, the first of the series {self.shape[1:]} and {self.dtype}; move "
                "files of other images out of the folder."
            )
        return pixels

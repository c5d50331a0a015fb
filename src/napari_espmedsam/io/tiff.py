"""TIFF in: OME, ImageJ and plain files, with axes and physical sizes where the file states them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.image_file import ImageFile, micrometres

# From this size on an uncompressed file is mapped instead of read, so that memory stays bounded.
MEMMAP_FROM_BYTES = 512 * 2**20
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "µs": 1e-6, "min": 60.0, "h": 3600.0}


def read_tiff(path: Path) -> ImageFile:
    """Read the first image of a TIFF file.

    Parameters
    ----------
    path : Path
        OME-TIFF, ImageJ hyperstack, or plain TIFF with one or more pages. Pages whose meaning is
        not stated become Z.

    Returns
    -------
    ImageFile
        `array` with axes out of ``TZCYXS``; an alpha sample is dropped. Spacing in micrometres
        (T: seconds) from OME or ImageJ metadata; the resolution tag of a plain TIFF is about
        printing and is ignored.

    Raises
    ------
    InputError
        If the file is cut short, damaged, or compressed in a way that cannot be read.
    """
    with _page_errors() as page_errors:
        try:
            with tifffile.TiffFile(path) as tif:
                if not len(tif.series):
                    raise InputError(f"{path} holds no image (0 series, at least 1 is needed).")
                series = tif.series[0]
                kind, shape = _axes_kind(series), tuple(series.shape)
                spacing = _spacing(tif)
                array = _pixels(path, series)
                n_series = len(tif.series)
        except MemoryError as error:
            raise InputError(
                f"{path} does not fit into memory; save it uncompressed (it is then read plane by "
                "plane) or split it into smaller files."
            ) from error
        except InputError:
            raise
        except Exception as error:
            raise InputError(_damaged(path, str(error))) from error
    if page_errors:
        raise InputError(_damaged(path, "pages are missing at its end"))
    array, axes = _our_axes(path, array.reshape(shape), kind)
    return ImageFile(path, array, axes, {k: v for k, v in spacing.items() if k in axes}, n_series)


def _damaged(path: Path, reason: str) -> str:
    size = path.stat().st_size
    return (
        f"{path} is cut short or damaged ({size:,} bytes; {reason.strip() or 'unreadable'}); "
        "copy or export the file again."
    )


@contextmanager
def _page_errors() -> Iterator[list[str]]:
    """Collect what tifffile logs about broken page chains.

    A TIFF that was cut between two pages is a shorter stack to tifffile, which only logs the
    broken chain. A plane that silently goes missing is worse than an error.
    """
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.levelno >= logging.ERROR and message.startswith("<tifffile.TiffPages"):
                found.append(message)

    logger, handler = logging.getLogger("tifffile"), Collector()
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _pixels(path: Path, series: tifffile.TiffPageSeries) -> NDArray[Any]:
    if series.nbytes >= MEMMAP_FROM_BYTES and series.dataoffset is not None:
        mapped: NDArray[Any] = tifffile.memmap(path, series=0, mode="r")
        return mapped
    array: NDArray[Any] = np.asarray(series.asarray())
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _axes_kind(series: tifffile.TiffPageSeries) -> str:
    """Return tifffile's axes, with samples that are not colours named as channels."""
    colours = {"RGB", "YCBCR", "CIELAB", "ICCLAB"}
    photometric = getattr(series.keyframe.photometric, "name", "")
    axes = str(series.axes)
    if "S" in axes and "C" not in axes and photometric not in colours:
        return axes.replace("S", "C")
    return axes


def _our_axes(path: Path, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Drop axes of length one, name unnamed stacks, put colour samples last without alpha."""
    keep = [a in "YX" or n > 1 for a, n in zip(axes, array.shape, strict=True)]
    array = array.reshape([n for n, k in zip(array.shape, keep, strict=True) if k])
    axes = "".join(a for a, k in zip(axes, keep, strict=True) if k)
    for letter in axes:
        if letter in "IQ":
            name = next((free for free in "ZTC" if free not in axes), letter)
            axes = axes.replace(letter, name, 1)
    if "S" in axes:
        at = axes.index("S")
        array = np.moveaxis(array, at, -1)[..., :3]
        axes = axes[:at] + axes[at + 1 :] + "S"
        if array.shape[-1] == 2:  # grey and alpha
            array, axes = array[..., 0], axes[:-1]
    unknown = sorted(set(axes) - set("TZCYXS"))
    if unknown or len(set(axes)) != len(axes):
        raise InputError(
            f"{path} has axes {axes} with shape {array.shape}, but only T, Z, C, Y, X and colour "
            "samples (S), each once, can be read; name them with --axes or save the part that "
            "you need as its own file."
        )
    return array, axes


def _spacing(tif: tifffile.TiffFile) -> dict[str, float]:
    if tif.is_ome and tif.ome_metadata:
        return _ome_spacing(tif.ome_metadata)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_spacing(tif, tif.imagej_metadata)
    return {}


def _ome_spacing(xml: str) -> dict[str, float]:
    images = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    image = images[0] if isinstance(images, list | tuple) else images
    pixels: Mapping[str, Any] = image.get("Pixels", {})
    spacing = {}
    for axis in "ZYX":
        size = micrometres(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        )
        if size is not None:
            spacing[axis] = size
    return spacing | _seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))


def _imagej_spacing(tif: tifffile.TiffFile, metadata: Mapping[str, Any]) -> dict[str, float]:
    unit = metadata.get("unit")
    spacing = {}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        tag = tif.pages.first.tags.get(name)
        pixels, length = tag.value if tag is not None else (0, 0)
        size = micrometres(length / pixels, unit) if pixels else None
        if size is not None:
            spacing[axis] = size
    depth = micrometres(metadata.get("spacing"), unit)
    if depth is not None:
        spacing["Z"] = depth
    return spacing | _seconds(metadata.get("finterval"), metadata.get("tunit", "s"))


def _seconds(value: object, unit: object) -> dict[str, float]:
    try:
        seconds = float(value) * _SECONDS[str(unit).strip().lower()]  # type: ignore[arg-type]
    except (TypeError, ValueError, KeyError):
        return {}
    return {"T": seconds} if np.isfinite(seconds) and seconds > 0 else {}

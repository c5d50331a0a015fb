"""What DICOM headers say about an image: sizes, frames, places, windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_espmedsam.io.lazy_image import Range
from napari_espmedsam.units import micrometres, seconds

_MOVING = {"US", "XA", "RF", "ES", "IVUS", "ECG"}  # frames of these follow each other in time
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_CENTIMETRES = 3  # code of PhysicalUnitsXDirection in ultrasound regions


def frame_count(header: Any) -> int:
    """Return the number of frames in a file."""
    return max(1, int(header.get("NumberOfFrames") or 1))


def least_frame_bytes(header: Any) -> int:
    """Return how many bytes a frame takes in the file at least; 1 where it is compressed."""
    meta = getattr(header, "file_meta", {})
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or syntax.is_deflated:
        return 1
    # One sample of each pixel: the others may be shared by several.
    bits = int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated") or 1)
    return max(1, bits // 8)


def frame_axis(header: Any) -> str:
    """Tell whether the frames of a file are moments (T) or slices (Z)."""
    timed = any(header.get(name) for name in ("FrameTime", "FrameTimeVector", "CineRate"))
    return "T" if timed or header.get("Modality") in _MOVING else "Z"


def spacing(header: Any) -> dict[str, float]:
    """Return the step along Z, Y, X in micrometres and along T in seconds, where stated.

    Of radiographs without calibration it is the pitch of the detector, so what lies nearer to the
    tube is smaller than it seems.
    """
    sources = [header, *_shared(header, "PixelMeasuresSequence")]
    pair = next((s.get(n) for s in sources for n in _SPACINGS if s.get(n)), None)
    sizes = [micrometres(each, "mm") for each in pair] if pair is not None else []
    if len(sizes) != 2 or None in sizes:
        sizes = _ultrasound(header)
    found = {axis: size for axis, size in zip("YX", sizes, strict=False) if size is not None}
    depth = next(
        (s.get(n) for n in ("SpacingBetweenSlices", "SliceThickness") for s in sources if s.get(n)),
        None,
    )
    thickness = micrometres(depth, "mm")
    if thickness is not None:
        found["Z"] = thickness
    rate = header.get("CineRate")
    step = seconds(header.get("FrameTime") or (1000 / float(rate) if rate else None), "ms")
    return found if step is None else found | {"T": step}


def _ultrasound(header: Any) -> list[float | None]:
    """Sizes of Y and X where all regions that measure lengths agree on them."""
    sizes = {
        (
            micrometres(abs(float(each.get("PhysicalDeltaY", 0))), "cm"),
            micrometres(abs(float(each.get("PhysicalDeltaX", 0))), "cm"),
        )
        for each in header.get("SequenceOfUltrasoundRegions") or ()
        if each.get("PhysicalUnitsXDirection") == _CENTIMETRES
        and each.get("PhysicalUnitsYDirection") == _CENTIMETRES
    }
    return list(sizes.pop()) if len(sizes) == 1 else []


def rescale(header: Any, frame: int = 0) -> tuple[float, float]:
    """Return slope and intercept from stored to physical values (CT: Hounsfield units)."""
    per_frame = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    own = per_frame[frame].get("PixelValueTransformationSequence") if frame < len(per_frame) else ()
    for source in (*(own or ()), *_shared(header, "PixelValueTransformationSequence"), header):
        slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
        if slope is not None and float(slope) != 0:
            return float(slope), float(intercept or 0)
    return 1.0, 0.0


def _shared(header: Any, name: str) -> list[Any]:
    return [
        item
        for group in header.get("SharedFunctionalGroupsSequence") or ()
        for item in group.get(name) or ()
    ]


def inversion(header: Any) -> float | None:
    """Return the sum of blackest and whitest stored value where low means white, else None."""
    if header.get("PhotometricInterpretation") != "MONOCHROME1":
        return None
    top = 2 ** int(header.BitsStored) - 1
    return -1.0 if int(header.get("PixelRepresentation") or 0) else float(top)


def window(header: Any) -> Range | None:
    """Return the values that the file wants black and white, after :func:`rescale`."""
    sources = [header, *_shared(header, "FrameVOILUTSequence")]
    for source in sources:
        center, width = (_first(source.get(f"Window{name}")) for name in ("Center", "Width"))
        if center is not None and width is not None and width > 0:
            return _inverted(header, (center - width / 2, center + width / 2))
    return None


def _inverted(header: Any, limits: Range) -> Range:
    whole = inversion(header)
    if whole is None:
        return limits
    slope, intercept = rescale(header)
    mirror = slope * whole + 2 * intercept
    return (mirror - limits[1], mirror - limits[0])


def _first(value: Any) -> float | None:
    try:
        number = float(value[0] if isinstance(value, Sequence) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def place(header: Any) -> float | None:
    """Return where a slice lies along its normal, in mm; None where the file does not say."""
    position, turn = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if not position or not turn or len(position) != 3 or len(turn) != 6:
        return None
    row, column = np.asarray(turn[:3], float), np.asarray(turn[3:], float)
    return float(np.dot(np.cross(row, column), np.asarray(position, float)))

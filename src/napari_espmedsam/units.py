"""Lengths and durations as files write them, in micrometres and seconds."""

from __future__ import annotations

import math

# Factors to micrometres, by the lower-case spellings that OME-XML and ImageJ write.
MICROMETRES: dict[str, float] = {
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu, which some writers use
    r"\u00b5m": 1.0,  # the micro sign as ImageJ escapes it
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "inch": 25400.0,
    "m": 1e6,
    "meter": 1e6,
}

# Factors to seconds; OME-XML and ImageJ write symbols, OME-Zarr whole words.
SECONDS: dict[str, float] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("µs", "μs", "us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}


def micrometres(value: object, unit: object) -> float | None:
    """Convert a length to micrometres, or None where it says nothing usable.

    Parameters
    ----------
    value : object
        A number, or text that holds one.
    unit : object
        Its unit as written in the file, for example ``"µm"``, ``"micron"`` or ``"pixel"``.

    Returns
    -------
    float or None
        Length in micrometres; None for an unknown unit and for a value that is not a positive,
        finite number, in its own unit or in micrometres.
    """
    return _converted(value, MICROMETRES.get(str(unit).strip().lower()))


def seconds(value: object, unit: object) -> float | None:
    """Convert a duration to seconds, or None where it says nothing usable.

    Parameters
    ----------
    value : object
        A number, or text that holds one.
    unit : object
        Its unit as written in the file, for example ``"ms"`` or ``"second"``.

    Returns
    -------
    float or None
        As in :func:`micrometres`.
    """
    return _converted(value, SECONDS.get(str(unit).strip().lower()))


def _converted(value: object, factor: float | None) -> float | None:
    try:
        length = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # an int may exceed what a float can hold
        return None
    if factor is None:
        return None
    converted = length * factor
    return converted if math.isfinite(converted) and converted > 0 else None

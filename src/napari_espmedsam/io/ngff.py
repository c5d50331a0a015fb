"""What NGFF metadata (0.1 to 0.5) say about an image: axes, sizes, channels, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.lazy_image import Range
from napari_espmedsam.units import micrometres, seconds

_OLD_AXES = "TCZYX"  # of versions before 0.3, which name none
_RGB = ("FF0000", "00FF00", "0000FF")


def attributes(group: Any) -> dict[str, Any]:
    """Return the NGFF attributes of a Zarr group, which 0.5 keeps under the key ``ome``."""
    found = dict(group.attrs)
    inner = found.get("ome")
    return dict(inner) if isinstance(inner, Mapping) else found


def axes(path: Path, multiscale: Mapping[str, Any], ndim: int) -> str:
    """Return one letter per dimension out of ``TZCYX``.

    Raises
    ------
    InputError
        If an axis has another name, stands there twice, or their number is not `ndim`.
    """
    listed = multiscale.get("axes") or list(_OLD_AXES[-ndim:])
    names = [str(a["name"] if isinstance(a, Mapping) else a) for a in listed]
    letters = "".join(name.upper() for name in names)
    known = all(len(name) == 1 for name in names) and set("YX") <= set(letters) <= set("TZCYX")
    if not known or len(letters) != ndim or len(set(letters)) != ndim:
        raise InputError(
            f"{path} has axes {', '.join(names)} for {ndim} dimensions, but only t, c, z, y and x, "
            "each once and one per dimension, can be read; correct its metadata."
        )
    return letters


def spacing(multiscale: Mapping[str, Any]) -> dict[str, float]:
    """Return the step of level 0 along Z, Y, X in micrometres and along T in seconds.

    Axes without a unit have no physical size, whatever their scale says.
    """
    listed = [a for a in multiscale.get("axes", ()) if isinstance(a, Mapping)]
    factors = np.ones(len(listed))
    for part in (multiscale["datasets"][0], multiscale):
        for each in part.get("coordinateTransformations", ()):
            if each.get("type") == "scale" and len(each.get("scale", ())) == len(listed):
                factors = factors * np.asarray(each["scale"], float)
    found = {}
    for axis, factor in zip(listed, factors, strict=True):
        letter = str(axis["name"]).upper()
        convert = seconds if letter == "T" else micrometres
        size = convert(float(factor), axis.get("unit"))
        if letter != "C" and size is not None:
            found[letter] = size
    return found


def channels(attrs: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Range, ...]]:
    """Return names and contrast limits of the channels; each empty where not all are stated."""
    listed = _omero(attrs)
    names = [str(each.get("label") or "").strip() for each in listed]
    limits = [limit for each in listed if (limit := _limit(each.get("window"))) is not None]
    return (
        tuple(names) if all(names) else (),
        tuple(limits) if len(limits) == len(listed) else (),
    )


def is_colour(
    attrs: Mapping[str, Any], letters: str, shape: Sequence[int], dtype: np.dtype[Any]
) -> bool:
    """Tell whether three channels are the red, green and blue of one 8-bit picture.

    They are where the metadata colour them purely red, green and blue and show each over its whole
    range, as converters of slides write it.
    """
    listed = _omero(attrs)
    if "C" not in letters or shape[letters.index("C")] != 3 or len(listed) != 3:
        return False
    colours = tuple(str(each.get("color", "")).lstrip("#").upper()[:6] for each in listed)
    whole = all(_limit(each.get("window")) in (None, (0.0, 255.0)) for each in listed)
    return np.dtype(dtype) == np.uint8 and colours == _RGB and whole


def _omero(attrs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    omero = attrs.get("omero")
    listed = omero.get("channels", []) if isinstance(omero, Mapping) else []
    return [each for each in listed if isinstance(each, Mapping)]


def _limit(window: object) -> Range | None:
    if not isinstance(window, Mapping):
        return None
    try:
        low, high = float(window["start"]), float(window["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if np.isfinite([low, high]).all() and low < high else None

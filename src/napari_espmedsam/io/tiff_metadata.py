"""What TIFF files say about their pixels: sizes and names of channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tifffile

from napari_espmedsam.units import micrometres, seconds

_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)")
# Slide scanners whose resolution tag measures the tissue; elsewhere it is about printing.
_CALIBRATED = ("ndpi", "scn", "qpi", "bif")


def axes_kind(series: tifffile.TiffPageSeries) -> str:
    """Return tifffile's axes, with samples that are not colours named as channels."""
    colours = {"RGB", "YCBCR", "CIELAB", "ICCLAB"}
    photometric = getattr(series.keyframe.photometric, "name", "")
    axes = str(series.axes)
    if "S" in axes and "C" not in axes and photometric not in colours:
        return axes.replace("S", "C")
    return axes


def spacing(tif: tifffile.TiffFile, series: int = 0) -> dict[str, float]:
    """Return the size of one step along Z, Y, X in micrometres and along T in seconds.

    From OME-XML, ImageJ's metadata, Aperio's description (MPP) or the tags of slide scanners; the
    resolution tag of a plain TIFF is about printing and is ignored.
    """
    if tif.is_ome and tif.ome_metadata:
        return _ome_spacing(_ome_pixels(tif, series))
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_spacing(tif, tif.imagej_metadata)
    if tif.is_svs:
        if series:  # a label, a macro or a smaller picture, which may repeat the tissue's MPP
            return {}
        return _aperio_spacing(tif.pages.first.description)
    if any(getattr(tif, f"is_{kind}") for kind in _CALIBRATED):
        return _tag_spacing(tif.series[series].keyframe)
    return {}


def channel_names(tif: tifffile.TiffFile, series: int = 0) -> tuple[str, ...]:
    """Return the names of the channels that OME-XML or ImageJ's slice labels give, or none."""
    if tif.is_ome and tif.ome_metadata:
        channels = _ome_pixels(tif, series).get("Channel", ())
        listed = channels if isinstance(channels, list | tuple) else [channels]
        names = [str(each.get("Name") or "").strip() for each in listed]
    elif tif.is_imagej and tif.imagej_metadata:
        labels = tif.imagej_metadata.get("Labels") or ()
        n = int(tif.imagej_metadata.get("channels", 1))
        names = [str(label).strip() for label in list(labels)[:n]]
    else:
        return ()
    # Labels of slices are only names of channels where they tell the channels apart.
    return tuple(names) if all(names) and len(set(names)) == len(names) else ()


def _ome_pixels(tif: tifffile.TiffFile, series: int) -> Mapping[str, Any]:
    images = tifffile.xml2dict(tif.ome_metadata or "").get("OME", {}).get("Image", {})
    listed = images if isinstance(images, list | tuple) else [images]
    pixels: Mapping[str, Any] = listed[min(series, len(listed) - 1)].get("Pixels", {})
    return pixels


def _ome_spacing(pixels: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for axis in "ZYX":
        size = micrometres(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        )
        if size is not None:
            found[axis] = size
    return found | _step(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))


def _imagej_spacing(tif: tifffile.TiffFile, metadata: Mapping[str, Any]) -> dict[str, float]:
    unit = metadata.get("unit")
    found = _resolution(tif.pages.first, unit)
    depth = micrometres(metadata.get("spacing"), unit)
    if depth is not None:
        found["Z"] = depth
    return found | _step(metadata.get("finterval"), metadata.get("tunit", "s"))


def _aperio_spacing(description: str) -> dict[str, float]:
    stated = _MPP.search(description)
    size = micrometres(stated.group(1), "µm") if stated else None
    return {} if size is None else {"Y": size, "X": size}


def _tag_spacing(page: tifffile.TiffPage) -> dict[str, float]:
    tag = page.tags.get("ResolutionUnit")
    unit = {2: "inch", 3: "cm"}.get(int(tag.value)) if tag is not None else None
    return _resolution(page, unit)


def _resolution(page: tifffile.TiffPage, unit: object) -> dict[str, float]:
    found = {}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        tag = page.tags.get(name)
        pixels, length = tag.value if tag is not None else (0, 0)
        size = micrometres(length / pixels, unit) if pixels else None
        if size is not None:
            found[axis] = size
    return found


def _step(value: object, unit: object) -> dict[str, float]:
    length = seconds(value, unit)
    return {} if length is None else {"T": length}

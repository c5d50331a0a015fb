"""Outlines of objects in the XML of Aperio's ImageScope, as MoNuSeg has them, drawn as labels."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from napari_espmedsam.errors import InputError

_MAX_OBJECTS = np.iinfo(np.uint16).max


def read_polygons(path: Path) -> list[NDArray[np.float64]]:
    """Outlines of a file, each (n, 2) as y, x in pixels, n >= 3.

    An outline need not end where it begins. Those with fewer than three points enclose nothing
    and are left out.

    Raises
    ------
    InputError
        If the file is no XML, no annotation, or a coordinate is no finite number.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path} cannot be read as XML ({error}); copy it again.") from error
    if root.tag != "Annotations":
        raise InputError(
            f"{path} holds <{root.tag}>, not <Annotations> as ImageScope writes it; take the "
            "owners' file."
        )
    outlines = []
    for i, region in enumerate(root.iter("Region"), start=1):
        try:
            points = [(float(v.attrib["Y"]), float(v.attrib["X"])) for v in region.iter("Vertex")]
            if not np.isfinite(points).all():
                raise ValueError("not finite")
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{path}, region {i}: a vertex lacks numbers for X and Y ({error}); take the "
                "owners' file."
            ) from error
        if len(points) >= 3:
            outlines.append(np.array(points))
    return outlines


def draw_labels(outlines: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Fill outlines with the numbers 1, 2, ...; what lies outside of the image is cut off.

    Large objects are drawn first, so that one inside another stays visible.

    Parameters
    ----------
    outlines : list of ndarray
        (n, 2) each, y and x in pixels.
    shape : tuple of int
        Height and width of the result.

    Returns
    -------
    ndarray
        (H, W) uint16, 0 = background.

    Raises
    ------
    InputError
        If there are more than 65535 outlines.
    """
    if len(outlines) > _MAX_OBJECTS:
        raise InputError(
            f"{len(outlines)} outlines exceed the limit of {_MAX_OBJECTS}; cut the image."
        )
    labels = np.zeros(shape, np.uint16)
    for i, points in enumerate(sorted(outlines, key=_area, reverse=True), start=1):
        rows, columns = polygon(points[:, 0], points[:, 1], shape)
        labels[rows, columns] = i
    return labels


def _area(points: NDArray[np.float64]) -> float:
    """Area inside a polygon (shoelace formula), px^2."""
    y, x = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)

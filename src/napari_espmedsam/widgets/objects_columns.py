"""Headings and help of the columns of the objects table, and how their numbers are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.widgets.objects_table import LOCK, ObjectTable

_DIGITS = 3  # significant digits of a typical value of a column
_MOST_DECIMALS = 4

_HEADINGS = {
    "label": ("Label", "Number of the object in the labels layer."),
    LOCK: ("Locked", "Ticked objects are finished: nothing is drawn over them any more."),
    "doubt": ("Doubt", "0 sure, 1 wholly doubtful: what the review goes by."),
    "t": ("t", "Time point, counted from 0."),
    "time": ("Time", "Time point in world units."),
    "area": ("Area", "Area of the object."),
    "volume": ("Volume", "Volume of the object through its planes."),
    "equivalent_diameter": ("Diameter", "Of the disc or ball of the same size."),
    "mean_intensity": ("Brightness", "Mean of the image over the object, in its own values."),
    "mean_red": ("Red", "Mean of the red channel over the object."),
    "mean_green": ("Green", "Mean of the green channel over the object."),
    "mean_blue": ("Blue", "Mean of the blue channel over the object."),
    "perimeter": ("Perimeter", "Length of the outline."),
    "solidity": ("Solidity", "Share of the convex hull that the object fills, 0 to 1."),
    "eccentricity": ("Eccentricity", "0 for a disc, 1 for a line."),
    "mean_probability": ("Probability", "Mean probability of the object's pixels."),
    "prompt_agreement": ("In prompt", "Share of the object under prompt cells that are on."),
    "agreement_with_other": ("Other model", "Share that the other model marks as well."),
} | {
    f"centroid_{letter}": (letter, f"Centre along {letter}; 0 is the middle of the first pixel.")
    for letter in "zyx"
}
_UNITS = {"um": "µm", "world": "units"}
_POWERS = {"": "", "2": "²", "3": "³"}
_WITH_UNIT = re.compile(
    r"^(time|area|volume|equivalent_diameter|centroid_[zyx]|perimeter)_(.+?)([23]?)$"
)


@dataclass(frozen=True, eq=False)
class Column:
    """One column of the table.

    Attributes
    ----------
    name : str
        As in a file and in the features of a layer, e.g. ``"area_um2"``.
    heading : str
        As on the screen, with the unit: ``"Area (µm²)"``.
    values : ndarray
        (n,) numbers or bool; NaN where nothing is known.
    help : str
        What the numbers mean.
    decimals : int
        How many to show.
    """

    name: str
    heading: str
    values: npt.NDArray[Any]
    help: str = ""
    decimals: int = 0

    def text(self, row: int) -> str:
        """Return a number as it is shown; empty where it is not known."""
        value = self.values[row]
        if not isinstance(value, np.floating):
            return str(value)
        if not np.isfinite(value):
            return ""
        if self.decimals > _MOST_DECIMALS:
            return f"{value:.{_DIGITS}g}"
        return f"{value:.{self.decimals}f}"


def columns_of(table: ObjectTable) -> tuple[Column, ...]:
    """Return the columns to be shown: all but the bounding boxes."""
    return tuple(
        new_column(name, values)
        for name, values in table.columns.items()
        if not name.startswith("bbox_")
    )


def new_column(name: str, values: npt.NDArray[Any]) -> Column:
    """Return a column under its name in a file, with heading and help as far as it is known."""
    found = _WITH_UNIT.match(name)
    base, unit = name, ""
    if found is not None:
        base = found[1]
        unit = f" ({_UNITS.get(found[2], found[2])}{_POWERS[found[3]]})"
    heading, text = _HEADINGS.get(base, (name, ""))
    return Column(name, heading + unit, values, text, _decimals(values))


def _decimals(values: npt.NDArray[Any]) -> int:
    """Return decimals that show a typical value of a column with three digits."""
    if values.dtype.kind != "f":
        return 0
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if sizes.size == 0:
        return 0
    magnitude = int(np.floor(np.log10(np.median(sizes))))
    return max(_DIGITS - 1 - magnitude, 0)

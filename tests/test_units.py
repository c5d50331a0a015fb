"""Lengths and durations of files, in micrometres and seconds."""

from __future__ import annotations

import pytest

from napari_espmedsam.units import micrometres, seconds


def test_units_are_converted() -> None:
    assert micrometres("2.5", "mm") == 2500
    assert seconds(2, "min") == 120


@pytest.mark.parametrize(
    ("value", "unit"),
    [(10**400, "um"), (1e305, "m"), (5e-324, "nm"), ("nan", "um"), (-1, "um")],
    ids=["huge int", "overflow", "underflow", "nan", "negative"],
)
def test_what_no_float_holds_says_nothing(value: object, unit: str) -> None:
    assert micrometres(value, unit) is None

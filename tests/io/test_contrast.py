"""Contrast limits come from a sample: images of many channels open as fast as others."""

from __future__ import annotations

import numpy as np
import pytest

from napari_espmedsam.io import contrast
from napari_espmedsam.io.contrast import PERCENTILES, display_ranges


def test_limits_of_a_large_plane_are_those_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, percentile = [], np.percentile

    def measured(values, q):
        sizes.append(values.size)
        return percentile(values, q)

    monkeypatch.setattr(contrast, "SAMPLE", 10_000)
    monkeypatch.setattr(np, "percentile", measured)
    planes = np.random.default_rng(0).normal(500, 50, (3, 400, 300)).astype(np.float32)
    found = display_ranges(planes, "CYX")
    assert len(sizes) == 3
    assert max(sizes) <= 10_000
    expected = [percentile(plane, PERCENTILES) for plane in planes]
    np.testing.assert_allclose(found, expected, atol=20)  # 0.4 of a standard deviation


def test_what_no_sample_shows_is_in_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "SAMPLE", 100)
    plane = np.full((50, 50), 7, np.uint16)
    assert display_ranges(plane, "YX") == ((7.0, 8.0),)
    plane[1, 1] = 900  # one bright pixel between those that are looked at
    assert display_ranges(plane, "YX") == ((7.0, 900.0),)
    gaps = np.full((50, 50), np.nan, np.float32)
    assert display_ranges(gaps, "YX") == ((0.0, 1.0),)
    gaps[1, 1] = 3
    assert display_ranges(gaps, "YX") == ((3.0, 4.0),)

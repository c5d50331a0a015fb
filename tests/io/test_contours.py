"""Outlines: shapely finds them valid, and filling them gives exactly the pixels of the object."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_espmedsam.io.contours import Outline, signed_area, trace_outlines


def _shapely(outline: Outline) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([(part.exterior, part.holes) for part in outline.polygons])


def _filled(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """Rasterise: a pixel belongs to the outline that its centre lies in."""
    y, x = np.indices(shape) + 0.5
    labels = np.zeros(shape, np.int64)
    for outline in outlines:
        labels[shapely.contains_xy(_shapely(outline), x, y)] += outline.label
    return labels


def _check(labels: np.ndarray) -> list[Outline]:
    outlines = trace_outlines(labels)
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    assert [outline.label for outline in outlines] == ids.tolist()
    for outline, count in zip(outlines, counts.tolist(), strict=True):
        geometry = _shapely(outline)
        assert shapely.is_valid(geometry), shapely.is_valid_reason(geometry)
        assert geometry.area == outline.area == count
        assert geometry.bounds == outline.bounds
        for ring in outline.rings:
            turns = np.diff(np.concatenate([ring, ring[:1]]), axis=0) != 0
            assert (turns.sum(axis=1) == 1).all()  # along pixels, and no corner that is none
            assert (turns != np.roll(turns, 1, axis=0)).all()
    np.testing.assert_array_equal(_filled(outlines, labels.shape), labels)
    return outlines


def test_shapes_come_back(shapes: np.ndarray) -> None:
    outlines = {outline.label: outline for outline in _check(shapes)}
    parts = {label: len(outline.polygons) for label, outline in outlines.items()}
    assert parts == {1: 1, 2: 1, 4: 1, 5: 2, 6: 1, 7: 1, 70_000: 2}
    holes = {label: len(outline.polygons[0].holes) for label, outline in outlines.items()}
    assert holes == {1: 1, 2: 0, 4: 1, 5: 0, 6: 2, 7: 0, 70_000: 0}


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2))
)
def test_any_labels_come_back(labels: np.ndarray) -> None:
    _check(labels)


def test_corners_of_one_pixel() -> None:
    labels = np.zeros((5, 7), np.uint8)
    labels[2, 4] = 9
    (outline,) = trace_outlines(labels)
    (ring,) = outline.rings
    assert sorted(ring.tolist()) == [[4, 2], [4, 3], [5, 2], [5, 3]]
    assert signed_area(ring) == 1
    assert shapely.LinearRing(ring).is_ccw  # in the sense of GeoJSON, where y points up


def test_a_full_plane_and_an_empty_one() -> None:
    (outline,) = _check(np.full((4, 6), 3))
    assert len(outline.rings[0]) == 4
    assert trace_outlines(np.zeros((4, 6), int)) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
def test_any_integers(dtype: type, shapes: np.ndarray) -> None:
    _check(np.minimum(shapes, 100).astype(dtype))

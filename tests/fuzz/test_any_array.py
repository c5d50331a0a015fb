"""Arrays, axes and affines of any kind: what is accepted is right, the rest is refused in words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from napari.utils.transforms import Affine

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import plan_geometry
from napari_espmedsam.inference.image import PlaneStack, guess_axes
from napari_espmedsam.inference.intensity import measure_intensity
from napari_espmedsam.inference.prompts import PromptCanvas
from napari_espmedsam.io.axes import our_axes, rename
from napari_espmedsam.model.header import InputSpec
from napari_espmedsam.widgets.canvas_place import place_canvas
from napari_espmedsam.widgets.layers import Geometry

seeded = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=10_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
lengths = st.sampled_from([0, 1, 2, 3, 4, 5, 16, 17, 20])
shapes = st.lists(lengths, max_size=6).map(tuple)
letters = st.text("TZCYXSQIytzcé ", max_size=6)


def _counted(shape: tuple[int, ...], dtype: Any = np.int64) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


@seeded
@given(
    shapes,
    st.one_of(st.none(), letters, st.permutations("TZCYX").map(lambda p: "".join(p)[:3] + "YX")),
    st.one_of(st.none(), st.integers(-2, 6)),
    st.one_of(st.none(), st.booleans()),
    st.sampled_from(["u1", ">u2", "i8", "f2", "f4", "f8", "?", "c8", "U3", "O", "M8[s]"]),
)
def test_planes_of_any_array(
    shape: tuple[int, ...], axes: str | None, channel: int | None, rgb: bool | None, dtype: str
) -> None:
    array = np.zeros(shape, dtype) if dtype in ("U3", "O", "M8[s]") else _counted(shape, dtype)
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
    try:
        stack = PlaneStack.from_array(array, axes, channel=channel, rgb=rgb)
    except InputError:
        return
    assert len(stack) == np.prod([n for a, n in zip(stack.axes, shape, strict=True) if a in "TZ"])
    last = stack.plane(len(stack) - 1)
    index = {a: n - 1 for a, n in zip(stack.axes, shape, strict=True) if a in "TZ"}
    if stack.channel is not None:
        index["C"] = stack.channel
    # The same by another way: named axes are moved to the front one by one.
    left, names = array, stack.axes
    for letter, at in index.items():
        left = np.moveaxis(left, names.index(letter), 0)[at]
        names = names.replace(letter, "")
    wanted = np.einsum(
        left,
        [names.index(a) for a in names],
        [names.index(a) for a in "YX"] + ([names.index("C")] if stack.rgb else []),
    )
    np.testing.assert_array_equal(last, wanted[..., :3] if stack.rgb else wanted)


@seeded
@given(shapes, st.booleans())
def test_guessed_axes_name_every_dimension_once(shape: tuple[int, ...], rgb: bool) -> None:
    try:
        axes = guess_axes(shape, rgb=rgb)
    except InputError:
        assert not 2 <= len(shape) <= 5
        return
    assert len(axes) == len(shape) == len(set(axes))
    assert {"Y", "X"} <= set(axes)


@seeded
@given(shapes.filter(len), st.data())
def test_axes_of_any_file(shape: tuple[int, ...], data: st.DataObject) -> None:
    axes = data.draw(st.text("TZCYXSQIRL", min_size=len(shape), max_size=len(shape)))
    array = _counted(shape)
    try:
        found, named = our_axes(Path("a.tif"), array, axes)
    except InputError:
        return
    assert len(named) == found.ndim == len(set(named))
    assert set("YX") <= set(named) <= set("TZCYXS")
    assert "S" not in named[:-1]
    assert np.isin(found, array).all()
    if "S" not in axes:
        assert found.size == array.size


@seeded
@given(shapes.filter(len), letters)
def test_axes_of_any_user(shape: tuple[int, ...], axes: str) -> None:
    array = _counted(shape)
    try:
        (found,), named = rename(Path("a.tif"), [array], "YX", axes)
    except InputError:
        return
    assert len(named) == found.ndim
    assert sorted(found.shape) == sorted(array.shape)


@seeded
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.float16]),
        (16, 16),
        elements={"allow_nan": False, "allow_infinity": False},
        fill=st.nothing(),
    )
)
@example(np.linspace(-1, 1, 256).reshape(16, 16) * 1.7e308)
@example((np.linspace(-1, 1, 256) * 3.4e38).astype(np.float32).reshape(16, 16))
@example(np.where(np.eye(16), 5e-324, 0.0))
@example(np.linspace(1, 1 + 1e-15, 256).reshape(16, 16))
def test_any_finite_pixels_become_zero_to_one(plane: np.ndarray) -> None:
    spec = InputSpec(geometry="tiled", size=64)
    try:
        found = measure_intensity(PlaneStack.from_array(plane, "YX"), spec)
    except InputError:
        assert plane.min() == plane.max() or np.abs(plane).max() > 1e300
        return
    assert found.low < found.high
    rescaled = found.rescale(plane)
    assert rescaled.dtype == np.float32
    assert np.isfinite(rescaled).all()
    assert 0 <= rescaled.min() <= rescaled.max() <= 1


@seeded
@given(
    st.tuples(st.integers(16, 400), st.integers(16, 400)),
    st.one_of(st.none(), st.floats(0.05, 20.0)),
    st.sampled_from([32, 64, 256]),
    st.sampled_from(["tiled", "whole"]),
    st.sampled_from([1, 32]),
)
def test_cells_cover_the_image_wherever_they_lie(
    image: tuple[int, int], scale: float | None, size: int, geometry: Any, cell: int
) -> None:
    spec = InputSpec(geometry=geometry, size=size)
    try:
        plan = plan_geometry(image, spec, scale=scale)
        assume(np.prod(plan.model_shape) < 2**22)
        canvas = PromptCanvas(plan, cell)
    except InputError:
        return
    (sy, sx), (ty, tx) = canvas.image_affine()
    for n, count, step, first in zip(image, canvas.shape, (sy, sx), (ty, tx), strict=True):
        edge = first - step / 2
        assert edge == pytest.approx(-0.5)  # the border of the first pixel
        assert edge + count * step >= n - 0.5 - 1e-6
        assert edge + (count - 1) * step < n - 0.5
    plane = np.zeros(image, np.float32)
    assert plan.to_model(plane).shape == plan.grid.plane
    assert plan.to_image(np.zeros([n // 4 for n in plan.grid.plane], np.float32)).shape == image


numbers = st.floats(-50, 50).map(lambda value: round(value, 3))
positive = st.floats(0.01, 50)


@seeded
@given(
    st.sampled_from(["YX", "XY", "ZYX", "TZYX", "ZXY", "YXZ"]),
    st.data(),
    st.tuples(positive, positive),
    st.tuples(numbers, numbers),
)
def test_cells_lie_where_napari_shows_the_picture(
    axes: str, data: st.DataObject, step: tuple[float, float], first: tuple[float, float]
) -> None:
    n, shape = len(axes), tuple({"Z": 3, "T": 2}.get(a, 40) for a in axes)
    scale = data.draw(st.tuples(*[positive] * n))
    translate = data.draw(st.tuples(*[numbers] * n))
    turn = data.draw(st.floats(-180, 180))
    lean = data.draw(st.floats(-1, 1))
    flat = axes.index("Y") + axes.index("X") == 2 * n - 3  # Y and X are the last two
    angle, rotate, shear = np.deg2rad(turn if flat else 0), np.eye(n), np.eye(n)
    rotate[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    shear[-2, -1] = lean if flat else 0
    geometry = Geometry(
        scale,
        translate,
        tuple(map(tuple, rotate)),
        tuple(map(tuple, shear)),
        tuple(map(tuple, np.eye(n + 1))),
        units=("pixel",) * n,
        axis_labels=tuple(axes.lower()),
    )
    view: Any = SimpleNamespace(scale=step, translate=first, state=np.zeros((2, 3), np.uint8))
    place = place_canvas(
        SimpleNamespace(geometry=geometry, shape=shape),  # type: ignore[arg-type]
        axes,
        view,
    )
    image = Affine(scale=scale, translate=translate, rotate=rotate, shear=shear)
    for row, column in ((0, 0), (1, 2)):
        cell = {"Y": row, "X": column}
        pixel = {"Y": first[0] + step[0] * row, "X": first[1] + step[1] * column}
        here = place.geometry.world_matrix() @ [*(cell.get(a, 0) for a in place.axes), 1]
        there = image([pixel.get(a, 0) for a in axes])
        for letter in "YX":
            expected = there[axes.index(letter)]
            assert here[place.axes.index(letter)] == pytest.approx(expected, rel=1e-6, abs=1e-6)

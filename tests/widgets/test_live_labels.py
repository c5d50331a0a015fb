"""Live results go into a layer in place, and what the user paints there is never overwritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtCore import QObject

from napari_espmedsam.studio.events import PlaneReady
from napari_espmedsam.widgets.layers import METADATA_KEY, describe, plan_result
from napari_espmedsam.widgets.live_labels import LiveLabels

SHAPE = (16, 24)


def result(
    index: tuple[int, ...], labels: np.ndarray, revision: int = 0, offset: tuple[int, int] = (0, 0)
) -> PlaneReady:
    """Return what a session says of a plane."""
    frozen = labels.astype(np.uint32)
    frozen.flags.writeable = False
    return PlaneReady(0, index, offset, frozen, "microscopy", revision, None)


def blobs(*ids: int) -> np.ndarray:
    """Return objects side by side, 4 px wide and 8 px high."""
    labels = np.zeros(SHAPE, np.uint32)
    for i, label in enumerate(ids):
        labels[4:12, 5 * i + 1 : 5 * i + 5] = label
    return labels


Opened = tuple[Any, LiveLabels, list[tuple[Any, np.ndarray, np.ndarray]]]


@pytest.fixture
def opened(parent: QObject) -> Iterator[Callable[..., Opened]]:
    """Return a function that makes live labels on a stack of 3 planes."""
    kept = []

    def open_(axes: str = "ZYX", channel: int | None = None, **place: Any) -> Opened:
        viewer = ViewerModel()
        lengths = {"Z": 3, "T": 2, "C": 2, "Y": SHAPE[0], "X": SHAPE[1]}
        image = viewer.add_image(
            np.zeros([lengths[letter] for letter in axes], np.uint8),
            name="cells",
            rgb=False,
            **place,
        )
        live = LiveLabels(viewer, plan_result(describe(image), axes, channel), "found", parent)
        kept.append(live)
        painted: list[tuple[Any, np.ndarray, np.ndarray]] = []
        live.painted.connect(lambda *what: painted.append(what))
        return viewer, live, painted

    yield open_
    for live in kept:
        live.release()


def test_planes_are_written_in_place(opened) -> None:
    _viewer, live, painted = opened(scale=(2.0, 0.5, 0.5))
    assert live.layer is None
    live.show((0,))
    assert live.write(result((0,), blobs(1, 2)))
    data = live.layer.data
    assert live.write(result((2,), blobs(3)))
    assert live.write(result((0,), blobs(1, 4)))
    assert live.layer.data is data
    np.testing.assert_array_equal(data[0], blobs(1, 4))
    assert not data[1].any()
    np.testing.assert_array_equal(data[2], blobs(3))
    assert (live.layer.name, data.dtype) == ("found", np.uint32)
    np.testing.assert_allclose(live.layer.scale, (2.0, 0.5, 0.5))
    assert live.planes == {(0,), (2,)}
    assert not painted


@pytest.mark.parametrize(
    ("axes", "index", "where"),
    [("YX", (), ()), ("TZYX", (1, 2), (1, 2)), ("ZCYX", (2,), (2, 0)), ("CYX", (), ())],
)
def test_any_leading_axes(opened, axes: str, index: Any, where: Any) -> None:
    _viewer, live, _painted = opened(axes, channel=1 if "C" in axes else None)
    live.write(result(index, blobs(7)))
    np.testing.assert_array_equal(live.layer.data[where], blobs(7))
    assert np.count_nonzero(live.layer.data) == np.count_nonzero(blobs(7))


@pytest.mark.parametrize("axes", ["ZXY", "YXZ"])
def test_turned_axes(opened, axes: str) -> None:
    _viewer, live, _painted = opened(axes)
    live.write(result((2,), blobs(7)))
    moved = np.moveaxis(live.layer.data, [axes.index(a) for a in "ZYX"], [0, 1, 2])
    np.testing.assert_array_equal(moved[2], blobs(7))


def test_a_region_is_written_at_its_place(opened, qtbot) -> None:
    _viewer, live, painted = opened()
    live.show((1,))
    live.write(result((1,), blobs(5)[4:12, :10], offset=(4, 6)))
    expected = np.zeros(SHAPE, np.uint32)
    expected[4:12, 6:16] = blobs(5)[4:12, :10]
    np.testing.assert_array_equal(live.layer.data[1], expected)
    live.layer.data[1, 5, 8] = 9
    live.layer.data[1, 0, 0] = 9  # outside of the region: no matter of the session
    live.layer.refresh()
    qtbot.wait(1)
    ((index, before, after),) = painted
    assert index == (1,)
    assert before.shape == after.shape == (8, 10)
    assert (before != after).sum() == 1


@pytest.mark.parametrize("tool", ["brush", "fill", "polygon", "script", "array"])
def test_painting_is_reported_once_with_any_tool(opened, qtbot, tool: str) -> None:
    viewer, live, painted = opened()
    live.show((1,))
    viewer.dims.set_current_step(0, 1)
    live.write(result((1,), blobs(1, 2)))
    layer = live.layer
    layer.brush_size = 2
    if tool == "brush":
        with layer.block_history():
            layer.paint((1, 14, 3), 9)
            layer.paint((1, 14, 5), 9)
    elif tool == "fill":
        layer.fill((1, 5, 2), 9)
    elif tool == "polygon":
        layer.paint_polygon(np.array([[1, 0, 0], [1, 0, 5], [1, 3, 5]]), 9)
    elif tool == "script":
        layer.data[1, 0, :5] = 9
        layer.refresh()
    else:
        other = layer.data.copy()
        other[1, 0, :5] = 9
        layer.data = other
    qtbot.wait(5)
    ((index, before, after),) = painted
    assert index == (1,)
    np.testing.assert_array_equal(before, blobs(1, 2))
    np.testing.assert_array_equal(after, layer.data[1])
    assert 9 in after


def test_undo_of_napari_is_reported_too(opened, qtbot) -> None:
    _viewer, live, painted = opened()
    live.show((0,))
    live.write(result((0,), blobs(1, 2)))
    live.layer.fill((0, 5, 2), 0)
    qtbot.wait(1)
    live.layer.undo()
    qtbot.wait(1)
    assert len(painted) == 2
    np.testing.assert_array_equal(painted[1][2], blobs(1, 2))


def test_a_result_that_does_not_know_the_painting_is_refused(opened, qtbot) -> None:
    """The painting may not even have been reported when the result comes."""
    _viewer, live, painted = opened()
    live.show((0,))
    live.write(result((0,), blobs(1, 2), revision=3))

    def session_takes_note(index: Any, _before: Any, _after: Any) -> None:
        live.hold(index, 5)

    live.painted.connect(session_takes_note)
    live.layer.paint((0, 14, 3), 9)
    assert not live.write(result((0,), blobs(1, 3), revision=4))
    assert len(painted) == 1
    assert live.layer.data[0, 14, 3] == 9
    assert live.write(result((2,), blobs(4), revision=4)), "another plane was not painted on"
    with_painting = blobs(1, 3)
    with_painting[14, 3] = 9
    assert live.write(result((0,), with_painting, revision=5))
    assert live.write(result((0,), with_painting, revision=5))
    qtbot.wait(1)
    assert len(painted) == 1


def test_painting_on_an_empty_plane_counts(opened, qtbot) -> None:
    viewer, live, painted = opened()
    live.write(result((0,), blobs(1)))
    live.show((1,))
    viewer.dims.set_current_step(0, 1)
    live.layer.paint((1, 8, 8), 5)
    live.show((2,))
    ((index, before, _after),) = painted
    assert index == (1,)
    assert not before.any()


def test_a_ball_through_several_planes_is_found_in_each(opened, qtbot) -> None:
    _viewer, live, painted = opened()
    for z in range(3):
        live.write(result((z,), blobs(1 + z)))
    live.show((1,))
    live.layer.n_edit_dimensions, live.layer.brush_size = 3, 4
    live.layer.paint((1, 8, 15), 9)
    qtbot.waitUntil(lambda: len(painted) == 3)
    assert {index for index, *_ in painted} == {(0,), (1,), (2,)}


def test_a_deleted_layer_stays_away(opened, qtbot) -> None:
    viewer, live, painted = opened()
    told: list[bool] = []
    live.deleted.connect(lambda: told.append(True))
    live.write(result((0,), blobs(1)))
    layer = live.layer
    viewer.layers.remove(layer)
    assert told == [True]
    assert not live.write(result((0,), blobs(1, 2)))
    layer.paint((0, 8, 8), 5)
    live.show((1,))
    live.collect()
    qtbot.wait(1)
    assert live.layer is None
    assert not painted
    assert len(viewer.layers) == 1


def test_a_foreign_array_is_left_alone(opened, qtbot) -> None:
    _viewer, live, painted = opened()
    live.write(result((0,), blobs(1)))
    live.layer.data = np.ones((5, 5, 5), np.uint32)
    assert not live.write(result((0,), blobs(2)))
    live.layer.data = np.zeros((3, *SHAPE), np.uint8)  # too small for all ids
    qtbot.wait(5)
    assert not live.write(result((0,), blobs(2)))
    assert not painted


def test_the_layer_stays_with_the_user_at_the_end(opened, qtbot) -> None:
    viewer, live, painted = opened()
    live.write(result((0,), blobs(1)))
    live.note({"axes": "ZYX"})
    layer = live.layer
    live.release()
    layer.paint((0, 8, 8), 5)
    qtbot.wait(1)
    assert not painted
    assert layer in viewer.layers
    assert layer.metadata[METADATA_KEY] == {"axes": "ZYX"}


def test_the_active_layer_stays_active(opened) -> None:
    viewer, live, _painted = opened()
    prompts = viewer.add_labels(np.zeros(SHAPE, np.uint8))
    live.write(result((0,), blobs(1)))
    assert viewer.layers.selection.active is prompts


def test_only_what_is_seen_is_drawn_at_once(opened, qtbot) -> None:
    viewer, live, _painted = opened()
    live.show((0,))
    live.write(result((0,), blobs(1)))
    drawn: list[int] = []
    live.layer.events.set_data.connect(lambda _event: drawn.append(1))
    live.write(result((1,), blobs(2)))
    live.write(result((2,), blobs(3)))
    qtbot.wait(150)
    assert not drawn
    live.write(result((0,), blobs(4)))
    assert len(drawn) == 1
    viewer.dims.ndisplay = 3
    drawn.clear()
    for z in range(3):
        live.write(result((z,), blobs(z + 5)))
    assert not drawn
    qtbot.waitUntil(lambda: len(drawn) == 1)


@pytest.mark.parametrize("how", ["a handler fails", "replaced"])
def test_a_layer_whose_removal_was_not_heard_of_is_let_go_of(opened, how: str) -> None:
    viewer, live, painted = opened()
    told: list[bool] = []
    live.deleted.connect(lambda: told.append(True))
    live.write(result((0,), blobs(1)))
    layer = live.layer

    def fail(event: Any) -> None:
        raise ZeroDivisionError

    if how == "replaced":
        viewer.layers[viewer.layers.index(layer)] = Points(name="other")
    else:
        viewer.layers.events.removed.connect(fail, position="first")
        with pytest.raises(ZeroDivisionError):
            viewer.layers.remove(layer)
        viewer.layers.events.removed.disconnect(fail)
    layer.data[0, 8, 8] = 5
    assert not live.write(result((0,), blobs(1, 2)))
    assert live.layer is None
    assert told == [True]
    assert not live.planes, "labels of a layer that is gone are kept"
    live.show((0,))
    live.collect()
    assert not painted


def test_all_planes_that_a_ball_has_touched_are_reported_before_anything_else(opened) -> None:
    _viewer, live, painted = opened()
    for z in range(3):
        live.write(result((z,), blobs(1 + z)))
    live.show((1,))
    live.layer.n_edit_dimensions, live.layer.brush_size = 3, 4
    live.layer.paint((1, 8, 15), 9)
    live.collect()
    assert {index for index, *_ in painted} == {(0,), (1,), (2,)}


def test_what_napari_undoes_on_another_plane_is_found_on_demand(opened) -> None:
    viewer, live, painted = opened()
    for z in range(2):
        live.write(result((z,), blobs(1 + z)))
    live.show((0,))
    live.layer.fill((0, 5, 2), 7)
    live.show((1,))
    viewer.dims.set_current_step(0, 1)
    live.layer.undo()  # of the painting on plane 0
    live.collect()
    assert len(painted) == 1
    live.collect(everywhere=True)
    assert [index for index, *_ in painted] == [(0,), (0,)]
    np.testing.assert_array_equal(painted[1][2], blobs(1))


def test_settling_a_plane_keeps_what_was_painted_on_it_meanwhile(opened) -> None:
    _viewer, live, painted = opened()
    for z in range(2):
        live.write(result((z,), blobs(1 + z)))
    live.show((0,))
    live.layer.data[1, 14, 3] = 9
    live.settle((1,), blobs(3))
    assert live.layer.data[1, 14, 3] == 9
    assert [index for index, *_ in painted] == [(1,)]
    live.settle((1,), blobs(3))
    np.testing.assert_array_equal(live.layer.data[1], blobs(3))

"""A real session on a real image in a viewer without a window: strokes in, labels out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtCore import QObject

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.studio.replay import replay
from napari_espmedsam.studio.session import Session
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.layers import METADATA_KEY, describe, plan_result
from napari_espmedsam.widgets.live_labels import LiveLabels
from napari_espmedsam.widgets.studio_view import StudioView

SHAPE = (96, 128)


CENTRES = ((16, 16), (16, 80), (48, 48), (80, 112))


@pytest.fixture
def stack(discs: Callable[..., np.ndarray]) -> np.ndarray:
    """Return four planes with the same discs, and one more each."""
    more = [(80, 16), (80, 48), (48, 16), (80, 80)]
    return np.stack([discs(SHAPE, *CENTRES, extra) for extra in more])


Open = Callable[..., tuple[Any, StudioView]]


@pytest.fixture
def open_view(
    qtbot: Any, parent: QObject, idle: Callable[..., None], segmenter: Segmenter
) -> Iterator[Open]:
    """Return a function that opens a session on an image and waits until it is idle."""
    views = []

    def open_(
        image: np.ndarray,
        axes: str = "ZYX",
        viewer: Any = None,
        make: Any = None,
        model: Segmenter = segmenter,
        **place: Any,
    ) -> tuple[Any, StudioView]:
        viewer = ViewerModel() if viewer is None else viewer
        layer = viewer.add_image(image, name="cells", rgb=False, **place)
        request = SegmentRequest(modality="near", axes=axes, min_size=0)
        description = describe(layer)
        prepared = Prepared(
            layer,
            description,
            request,
            plan_result(description, axes, None),
            len(PlaneStack.from_array(image, axes)),
            None,
        )

        def make_session(on_event: Any) -> Session:
            return Session(model, image, request, on_event, advise=False)

        view = StudioView(viewer, prepared, make or make_session, parent)
        views.append(view)
        if make is None:
            idle(view)
        return viewer, view

    yield open_
    for view in views:
        view.close()
    qtbot.waitUntil(lambda: not _threads())


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("espmedsam")]


def centre_cell(index: int) -> tuple[int, int]:
    """Return the cell (of 32 px) of a disc."""
    y, x = CENTRES[index]
    return y // 32, x // 32


def test_labels_and_prompts_come_by_themselves(open_view, stack, segmenter) -> None:
    viewer, view = open_view(stack)
    names = [layer.name for layer in viewer.layers]
    assert names == [
        "cells",
        "Prompt heat map of cells",
        "Prompts of cells",
        "cells - espmedsam live",
    ]
    plane = viewer.dims.current_step[0]
    expected = segmenter.segment(stack[plane], "near", axes="YX", post=view.session.settings.post)
    labels = view.layers.labels.layer
    np.testing.assert_array_equal(labels.data[plane], expected.labels)
    assert expected.labels.max() == 5
    record = labels.metadata[METADATA_KEY]
    assert (record["image"], record["axes"], record["modality"]) == ("cells", "ZYX", "near")
    assert view.layers.prompts.cells.data.shape == (3, 4)
    assert viewer.layers.selection.active is view.layers.prompts.cells


def test_an_erased_cell_takes_its_object_and_undo_brings_it_back(
    open_view, idle, stack, segmenter, qtbot
) -> None:
    _viewer, view = open_view(stack[0], "YX")
    before = view.layers.labels.layer.data.copy()
    cells = view.layers.prompts.cells
    cells.paint(centre_cell(2), 0)
    qtbot.wait(1)
    idle(view)
    edits = np.full((3, 4), -1, np.int8)
    edits[centre_cell(2)] = 0
    expected = segmenter.segment(
        stack[0], "near", axes="YX", edits={0: edits}, post=view.session.settings.post
    )
    labels = view.layers.labels.layer
    np.testing.assert_array_equal(labels.data > 0, expected.labels > 0)
    assert labels.data[CENTRES[2]] == 0
    assert cells.data[centre_cell(2)] == 3
    assert view.session.undo_text == "Paint prompts"
    view.undo()
    idle(view)
    np.testing.assert_array_equal(labels.data, before)
    assert cells.data[centre_cell(2)] == 1
    view.redo()
    idle(view)
    assert labels.data[CENTRES[2]] == 0


def test_undo_at_once_leaves_nothing_of_the_stroke(open_view, idle, stack, qtbot) -> None:
    """The stroke may be taken back before the session has come to showing it."""
    _viewer, view = open_view(stack[0], "YX")
    state = view.layers.prompts.cells.data.copy()
    view.layers.prompts.cells.paint(centre_cell(1), 0)
    view.undo()
    idle(view)
    np.testing.assert_array_equal(view.layers.prompts.cells.data, state)
    view.layers.prompts.cells.paint(centre_cell(1), 0)
    qtbot.wait(1)
    idle(view)
    assert view.layers.prompts.cells.data[centre_cell(1)] == 3


def test_each_plane_has_its_own_strokes(open_view, idle, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    cells = view.layers.prompts.cells
    viewer.dims.set_current_step(0, 0)
    idle(view)
    cells.paint(centre_cell(0), 0)
    viewer.dims.set_current_step(0, 3)  # at once: the stroke was on plane 0
    assert not cells.data.any(), "prompts of another plane are still shown"
    idle(view)
    cells.paint(centre_cell(1), 0)
    qtbot.wait(1)
    idle(view)
    session, labels = view.session, view.layers.labels.layer.data
    assert np.argwhere(session.edits(0) == 0).tolist() == [list(centre_cell(0))]
    assert np.argwhere(session.edits(3) == 0).tolist() == [list(centre_cell(1))]
    assert labels[0][CENTRES[0]] == 0 < labels[0][CENTRES[1]]
    assert labels[3][CENTRES[1]] == 0 < labels[3][CENTRES[0]]
    viewer.dims.set_current_step(0, 0)
    idle(view)
    assert cells.data[centre_cell(0)] == 3
    assert cells.data[centre_cell(1)] == 1


def test_all_planes_on_demand(open_view, idle, stack, qtbot, segmenter) -> None:
    _viewer, view = open_view(stack)
    view.run()
    idle(view)
    expected = segmenter.segment(stack, "near", axes="ZYX", post=view.session.settings.post)
    found = view.layers.labels.layer.data
    np.testing.assert_array_equal(found > 0, expected.labels > 0)
    ids = [set(np.unique(plane)) - {0} for plane in found]
    assert len(set.union(*ids)) == sum(map(len, ids)), "two planes share an id"


def test_dragging_a_setting_ends_at_the_last_value(
    open_view, idle, stack, qtbot, segmenter
) -> None:
    _viewer, view = open_view(stack[0], "YX")
    for size in range(50, 400, 7):
        view.set("min_size", size)
    view.set("threshold", 0.9)
    idle(view)
    settings = view.session.settings
    assert (settings.min_size, settings.threshold) == (393, 0.9)
    expected = segmenter.segment(stack[0], "near", axes="YX", post=settings.post)
    np.testing.assert_array_equal(view.layers.labels.layer.data > 0, expected.labels > 0)
    while view.session.undo_text:
        view.undo()
    assert view.session.settings.min_size == 0


def test_a_refused_setting_is_told_and_does_not_block(open_view, idle, stack, qtbot) -> None:
    _viewer, view = open_view(stack[0], "YX")
    said: list[tuple[str, bool]] = []
    view.said.connect(lambda text, bad: said.append((text, bad)))
    view.set("threshold", 7.0)
    assert any(bad and "threshold is 7" in text for text, bad in said)
    view.set("threshold", 0.8)
    idle(view)
    assert view.session.settings.threshold == 0.8


def test_painted_labels_are_kept_whatever_is_decoded(open_view, idle, stack, qtbot) -> None:
    _viewer, view = open_view(stack[0], "YX")
    layer = view.layers.labels.layer
    layer.brush_size = 5
    layer.paint((60, 100), 77)
    assert (layer.data == 77).sum() > 10
    painted = layer.data == 77
    view.set("threshold", 0.95)
    qtbot.wait(1)
    idle(view)
    np.testing.assert_array_equal(layer.data == 77, painted)
    view.layers.prompts.cells.paint(centre_cell(1), 0)
    qtbot.wait(1)
    idle(view)
    np.testing.assert_array_equal(layer.data == 77, painted)
    assert layer.data[CENTRES[1]] == 0
    for _ in range(3):
        view.undo()
    idle(view)
    assert not (layer.data == 77).any()
    assert layer.data[CENTRES[1]] > 0


def test_an_erased_object_stays_away(open_view, idle, stack, segmenter) -> None:
    _viewer, view = open_view(stack[0], "YX")
    layer = view.layers.labels.layer
    layer.fill(CENTRES[1], 0)
    idle(view)
    assert layer.data[CENTRES[1]] == 0
    view.set("threshold", 0.3)
    idle(view)
    assert layer.data[CENTRES[1]] == 0
    assert not layer.data[0:32, 64:96].any(), "a rim of the object came back"
    assert len(np.unique(layer.data)) == 5
    records: list[Any] = []
    view.recorded.connect(records.append)
    view.record()
    idle(view)
    np.testing.assert_array_equal(replay(segmenter, stack[0], records[0]).labels, layer.data)
    view.undo()
    view.undo()
    idle(view)
    assert layer.data[CENTRES[1]] > 0


def test_edits_can_be_copied_to_the_next_plane(open_view, idle, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    viewer.dims.set_current_step(0, 2)
    idle(view)
    view.layers.prompts.cells.paint(centre_cell(0), 0)
    assert view.letters_ahead == "Z"
    view.copy_edits("Z")
    assert viewer.dims.current_step[0] == 3
    idle(view)
    np.testing.assert_array_equal(view.session.edits(3), view.session.edits(2))
    assert view.layers.labels.layer.data[3][CENTRES[0]] == 0
    assert view.letters_ahead == ""
    view.copy_edits("Z")
    assert viewer.dims.current_step[0] == 3


def test_points_and_boxes_go_the_same_way(open_view, idle, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    plane = viewer.dims.current_step[0]
    view.layers.markers.use("- point")
    points = view.layers.markers.layers[0]
    points.add((plane, *CENTRES[0]))
    idle(view)
    labels = view.layers.labels.layer.data[plane]
    assert labels[CENTRES[0]] == 0
    assert len(points.data) == 1
    view.undo()
    idle(view)
    assert labels[CENTRES[0]] > 0
    assert len(points.data) == 0


def test_side_views_follow_the_plane(open_view, idle, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    view.show_confidence(True)
    view.compare("far")
    idle(view)
    side = view.layers.side
    qtbot.waitUntil(lambda: side.confidence is not None and side.comparison is not None)
    first = side.confidence.data.copy()
    assert first.shape == SHAPE
    assert 0 <= first.min() < first.max() <= 1
    assert side.comparison.name == "cells as far"
    viewer.dims.set_current_step(0, 0)
    assert (side.confidence.data == 1).all()  # shows nothing until the plane's own comes
    idle(view)
    qtbot.waitUntil(lambda: bool((side.confidence.data < 1).any()))
    assert (side.confidence.data != first).any()
    viewer.layers.remove(side.comparison)
    viewer.dims.set_current_step(0, 1)
    idle(view)
    view.show_confidence(False)
    assert side.confidence is None
    assert not any("onfidence" in layer.name for layer in viewer.layers)


def test_a_record_brings_the_same_labels_back(open_view, idle, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    plane = viewer.dims.current_step[0]
    view.layers.prompts.cells.paint(centre_cell(0), 0)
    layer = view.layers.labels.layer
    layer.paint((plane, 60, 100), 77)
    view.set("smoothing", 2.0)
    qtbot.wait(1)
    idle(view)
    records: list[Any] = []
    view.recorded.connect(records.append)
    view.record()
    qtbot.waitUntil(lambda: bool(records))
    assert records[0].image_name == "cells"
    expected = layer.data.copy()
    view.close()
    _other_viewer, other = open_view(stack)
    other.restore(records[0])
    idle(other)
    np.testing.assert_array_equal(other.layers.labels.layer.data, expected)
    assert other.session.settings.smoothing == 2.0
    assert other.layers.prompts.cells.data[centre_cell(0)] == 3


@pytest.mark.parametrize("event", ["removed", "data"])
def test_an_image_that_goes_ends_the_session(open_view, stack, event: str) -> None:
    viewer, view = open_view(stack)
    reasons: list[str] = []
    view.ended.connect(reasons.append)
    image = viewer.layers["cells"]
    if event == "removed":
        viewer.layers.remove(image)
    else:
        image.data = stack[::-1].copy()
    assert len(reasons) == 1
    assert "cells" in reasons[0]
    view.close()
    left = {layer.name for layer in viewer.layers} - {"cells"}
    assert left == {"cells - espmedsam live"}


def test_the_layers_follow_an_image_that_moves(open_view, stack) -> None:
    viewer, view = open_view(stack, scale=(3.0, 0.5, 0.5), units=("um", "um", "um"))
    image = viewer.layers["cells"]
    view.layers.markers.use("+ point")
    image.translate, image.scale = (1.0, 20.0, -7.0), (3.0, 0.25, 0.25)
    for layer in (view.layers.labels.layer, view.layers.markers.layers[0]):
        np.testing.assert_allclose(layer.data_to_world((1, 5, 6)), image.data_to_world((1, 5, 6)))
    cells = view.layers.prompts.cells
    expected = image.data_to_world((0, 15.5, 15.5))[1:]
    np.testing.assert_allclose(cells.data_to_world((0, 0)), expected)


def test_deleted_layers_are_harmless(open_view, idle, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    for layer in list(viewer.layers)[1:]:
        viewer.layers.remove(layer)
    viewer.dims.set_current_step(0, 0)
    view.set("threshold", 0.7)
    view.undo()
    idle(view)
    assert len(viewer.layers) == 1


def test_a_model_that_cannot_be_loaded_is_told(open_view, stack, qtbot) -> None:
    def make(_on_event: Any) -> Any:
        raise CheckpointError("There is no such file.")

    viewer, view = open_view(stack, make=make)
    with qtbot.waitSignal(view.ended) as caught:
        pass
    assert caught.args == ["There is no such file."]
    view.close()
    assert len(viewer.layers) == 1


def test_closing_leaves_the_labels_and_no_thread(open_view, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    view.close()
    view.close()
    assert [layer.name for layer in viewer.layers] == ["cells", "cells - espmedsam live"]
    qtbot.waitUntil(lambda: not _threads())
    viewer.dims.set_current_step(0, 0)
    viewer.layers["cells"].scale = (2.0, 2.0, 2.0)
    viewer.layers.clear()


def test_an_image_that_is_replaced_in_the_list_ends_the_session(open_view, stack) -> None:
    viewer, view = open_view(stack)
    reasons: list[str] = []
    view.ended.connect(reasons.append)
    viewer.layers[viewer.layers.index("cells")] = Points(name="other")
    assert reasons == ["'cells' was removed."]


def test_a_comparison_that_the_image_does_not_suit_is_told(
    open_view, idle, stack, make_segmenter
) -> None:
    _viewer, view = open_view(stack[0], "YX", model=make_segmenter(far_scale=0.1))
    said: list[tuple[str, bool]] = []
    view.said.connect(lambda text, bad: said.append((text, bad)))
    view.compare("far")
    assert len(said) == 1
    assert said[0][1]
    assert "the smallest side is" in said[0][0]
    assert view.layers.side.compared == ""
    view.set("threshold", 0.8)
    idle(view)
    assert [text for text, bad in said if bad] == [said[0][0]]


def test_edits_of_cells_that_the_new_settings_do_not_have_are_refused(
    open_view, idle, stack, make_segmenter, qtbot
) -> None:
    _viewer, view = open_view(stack[0], "YX", model=make_segmenter(far_scale=2.0))
    said: list[str] = []
    view.said.connect(lambda text, bad: said.append(text) if bad else None)
    cells = view.layers.prompts.cells
    cells.paint((1, 1), 0)
    view.set("modality", "far")  # the stroke was on the cells of "near"
    assert view.session.undo_text == "Modality"
    cells.paint((0, 2), 0)  # still those of "near"
    view.layers.collect()
    assert said == ["The new settings have other cells. Edit them once they are shown."]
    idle(view)
    assert cells.data.shape == (6, 8)
    assert not view.session.edits(0).max() >= 0
    cells.paint((5, 7), 0)
    qtbot.wait(1)
    idle(view)
    assert np.argwhere(view.session.edits(0) == 0).tolist() == [[5, 7]]
    view.set("modality", "near")
    idle(view)
    assert np.argwhere(view.session.edits(0) == 0).tolist() == [[1, 1]]


def test_a_session_ends_as_a_whole_though_handlers_of_others_fail(open_view, stack, qtbot) -> None:
    viewer, view = open_view(stack)
    view.layers.markers.use("+ point")
    view.layers.markers.use("+ box")
    labels, prompts = view.layers.labels, view.layers.prompts

    def fail(event: Any) -> None:
        raise ZeroDivisionError

    viewer.layers.events.removed.connect(fail, position="first")
    with pytest.raises(ZeroDivisionError):
        view.close()
    viewer.layers.events.removed.disconnect(fail)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells - espmedsam live"]
    assert labels.layer is prompts.cells is prompts.heat is None
    assert not view.layers.markers.layers


def test_labels_that_are_too_large_for_memory_end_the_session(open_view, stack, qtbot) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(stack, name="cells")
    _viewer, view = open_view(stack)
    reasons: list[str] = []
    view.ended.connect(reasons.append)
    shape = (10**8, 10**5, 10**5)
    plan = replace(plan_result(describe(image), "ZYX", None), shape=shape)
    view.layers.labels = LiveLabels(viewer, plan, "found", view)
    view.session.show(0)
    qtbot.waitUntil(lambda: bool(reasons))
    assert reasons[0].startswith(
        f"Labels of the shape {shape} take 4,000,000,000,000,000,000 bytes"
    )
    assert len(viewer.layers) == 1

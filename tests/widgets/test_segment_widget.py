"""The widget Segment, opened through the manifest, with a segmenter that computes nothing."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from napari.utils.progress import progress

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.widgets.layers import METADATA_KEY, describe

NAME = "cells - espmedsam microscopy"


def _stack(shape: tuple[int, ...] = (4, 32, 40), dtype: Any = np.uint16) -> np.ndarray:
    data = np.zeros(shape, dtype)
    data[..., 8:20, 10:30] = 50 if np.dtype(dtype).kind != "f" else 0.5
    return data


def test_run_fills_a_labels_layer_at_the_place_of_the_image(open_widget, finish, fake) -> None:
    viewer, widget = open_widget()
    affine = np.array([[1, 0, 0, 5], [0, 0.9, 0.2, -3], [0, -0.1, 1.1, 4], [0, 0, 0, 1.0]])
    image = viewer.add_image(
        _stack(), name="cells", scale=(2, 0.5, 0.5), translate=(1, 2, 3), affine=affine,
        units=("um",) * 3, axis_labels=("z", "y", "x"),
    )  # fmt: skip
    before, pixels = describe(image), image.data.copy()
    widget.run()
    finish(widget)
    labels = viewer.layers[NAME]
    assert labels.data.dtype == np.uint32
    np.testing.assert_array_equal(labels.data > 0, image.data > 0)
    assert [int(plane.max()) for plane in labels.data] == [1, 2, 3, 4]
    np.testing.assert_allclose(labels.affine.affine_matrix, affine)
    np.testing.assert_allclose(labels.scale, image.scale)
    np.testing.assert_allclose(labels.translate, image.translate)
    assert labels.units == image.units
    assert labels.axis_labels == image.axis_labels
    assert describe(image) == before
    np.testing.assert_array_equal(image.data, pixels)
    record = labels.metadata[METADATA_KEY]
    assert record["model"] == {"name": "fake"}
    assert (record["image"], record["status"]) == ("cells", "complete")
    assert fake.calls[0] == {
        "modality": "microscopy", "axes": "ZYX", "channel": None, "rgb": False,
    }  # fmt: skip
    assert fake.threads.isdisjoint({threading.get_ident()})


def test_planes_appear_one_by_one_while_the_window_stays_alive(
    open_widget, finish, fake, qtbot
) -> None:
    viewer, widget = open_widget()
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.form.axes.setText("TYX")
    widget.form.axes.textEdited.emit("TYX")
    widget.run()
    qtbot.waitUntil(lambda: fake.tiles_started == 1)
    assert widget.is_running
    assert not widget.run_button.isEnabled()
    assert widget.cancel_button.isEnabled()
    assert NAME not in viewer.layers
    for n_done in (1, 2):
        fake.let(2)
        qtbot.waitUntil(lambda n=n_done: NAME in viewer.layers and _planes(viewer) == n)
        assert "of 4" in widget.progress_bar.format()
    fake.let(99)
    finish(widget)
    assert _planes(viewer) == 4
    assert widget.run_button.isEnabled()
    assert not widget.cancel_button.isEnabled()
    assert widget.status.text().startswith("Done: 4 planes")
    assert widget.form.axes.text() == "TYX"


def _planes(viewer: Any) -> int:
    return sum(bool(plane.any()) for plane in viewer.layers[NAME].data)


def test_the_form_says_what_the_first_tile_waits_for(open_widget, finish, fake, qtbot) -> None:
    viewer, widget = open_widget()
    viewer.add_image(_stack(), name="cells")
    fake.library = "onnxruntime 9.9"
    fake.hold()
    widget.run()
    qtbot.waitUntil(lambda: "may wait for onnxruntime 9.9" in widget.status.text())
    fake.let(8)
    finish(widget)
    assert widget.status.text().startswith("Done: 4 planes")


def test_cancel_stops_within_one_tile_and_keeps_what_is_done(
    open_widget, finish, fake, qtbot
) -> None:
    viewer, widget = open_widget()
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    fake.let(3)
    qtbot.waitUntil(lambda: fake.tiles_started == 4)
    widget.cancel_button.click()
    assert not widget.cancel_button.isEnabled()
    assert widget.status.text().startswith("Stopping")
    fake.let(1)
    finish(widget)
    assert fake.tiles_started == 4
    assert fake.closed
    assert _planes(viewer) == 1
    record = viewer.layers[NAME].metadata[METADATA_KEY]
    assert record["status"] == "cancelled after 1 of 4 planes"
    assert record["planes_done"] == [[0]]
    assert widget.status.text() == "Cancelled after 1 of 4 planes."
    assert widget.run_button.isEnabled()
    assert not progress._all_instances


def test_cancel_before_the_first_plane_leaves_no_layer(bare_widget, finish, fake, qtbot) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    qtbot.waitUntil(lambda: fake.tiles_started == 1)
    widget.cancel()
    fake.let(1)
    finish(widget)
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_cancel_in_the_activity_dock_stops_the_run(open_widget, finish, fake, qtbot) -> None:
    viewer, widget = open_widget()
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    fake.let(1)
    qtbot.waitUntil(lambda: fake.tiles_started == 2)
    qtbot.waitUntil(lambda: len(progress._all_instances) == 1)
    (bar,) = progress._all_instances
    bar.cancel()
    fake.let(1)
    finish(widget)
    assert fake.tiles_started == 2
    assert widget.status.text() == "Cancelled after 0 of 4 planes."


@pytest.mark.parametrize("fail_at", [0, 2])
def test_our_errors_are_shown_unchanged(open_widget, finish, fake, fail_at: int) -> None:
    viewer, widget = open_widget()
    viewer.add_image(_stack(), name="cells")
    fake.error, fake.fail_at = CheckpointError("The value, the limit, the fix."), fail_at
    with notification_manager:
        before = len(notification_manager.records)
        widget.run()
        finish(widget)
        shown = notification_manager.records[before:]
    assert [(str(n.severity), n.message) for n in shown] == [
        ("error", "The value, the limit, the fix.")
    ]
    assert widget.status.text() == "The value, the limit, the fix."
    assert widget.run_button.isEnabled()
    assert widget.progress_bar.isHidden()
    assert not progress._all_instances
    if fail_at == 0:
        assert NAME not in viewer.layers
    else:
        status = viewer.layers[NAME].metadata[METADATA_KEY]["status"]
        assert status == "failed after 2 of 4 planes: The value, the limit, the fix."


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), KeyError("oops")])
def test_unexpected_errors_end_the_run_too(bare_widget, finish, fake, error: Exception) -> None:
    """superqt takes a RuntimeError for a deleted Qt object and would never say `finished`."""
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    fake.error, fake.fail_at = error, 1
    with notification_manager:
        before = len(notification_manager.records)
        widget.run()
        finish(widget)
        shown = notification_manager.records[before:]
    assert [n.exception for n in shown] == [error]
    assert type(error).__name__ in widget.status.text()
    assert widget.run_button.isEnabled()
    assert not progress._all_instances
    fake.error = None
    widget.run()
    finish(widget)
    assert widget.status.text().startswith("Done: 4 planes")


def test_a_model_that_cannot_be_loaded_is_told(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")

    def load(_request: Any) -> Any:
        raise CheckpointError("truncated")

    widget._load = load
    with notification_manager:
        widget.run()
        finish(widget)
    assert widget.status.text() == "truncated"
    assert len(viewer.layers) == 1


def test_a_fault_while_writing_ends_the_run(bare_widget, finish, fake, monkeypatch) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    monkeypatch.setattr("napari_espmedsam.widgets.results.ResultBook.add", lambda *_a: 1 / 0)
    with notification_manager:
        widget.run()
        finish(widget)
    assert "ZeroDivisionError" in widget.status.text()
    assert widget.run_button.isEnabled()


def test_the_model_is_loaded_once_for_two_runs(bare_widget, finish, fake, weights) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    for _ in range(2):
        widget.run()
        finish(widget)
    assert fake.loads == 1
    weights.write_bytes(b"other")
    widget.run()
    finish(widget)
    assert fake.loads == 2


def test_one_run_at_a_time(bare_widget, finish, fake, qtbot) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    qtbot.waitUntil(lambda: fake.tiles_started == 1)
    widget.run()
    assert not widget.form.isEnabled()
    fake.let(99)
    finish(widget)
    assert len(fake.calls) == 1


def test_two_viewers_share_nothing(open_widget, finish, fake, qtbot) -> None:
    first, left = open_widget()
    second, right = open_widget()
    first.add_image(_stack(), name="left")
    second.add_image(_stack(), name="right")
    fake.hold()
    left.run()
    qtbot.waitUntil(lambda: fake.tiles_started == 1)
    assert right.run_button.isEnabled()
    assert not right.is_running
    fake.let(99)
    finish(left)
    assert [layer.name for layer in first.layers] == ["left", "left - espmedsam microscopy"]
    assert [layer.name for layer in second.layers] == ["right"]
    assert right.form.image.layer.name == "right"


def test_all_planes_again_makes_a_new_layer(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    for _ in range(2):
        widget.run()
        finish(widget)
    assert [layer.name for layer in viewer.layers] == ["cells", NAME, f"{NAME} [1]"]


def test_plane_by_plane_goes_on_in_one_layer_with_new_numbers(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells", scale=(2, 1, 1), translate=(10, 0, 0))
    widget.form.scope.setCurrentText("this plane")
    for plane in (1, 3, 3):
        viewer.dims.set_point(0, 10 + 2 * plane)
        widget.run()
        finish(widget)
    assert len(viewer.layers) == 2
    assert [int(plane.max()) for plane in viewer.layers[NAME].data] == [0, 1, 0, 2]
    assert viewer.layers[NAME].metadata[METADATA_KEY]["planes_done"] == [[1], [3]]


def test_an_edited_plane_is_never_overwritten(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    widget.form.scope.setCurrentText("this plane")
    viewer.dims.set_point(0, 1)
    widget.run()
    finish(widget)
    viewer.layers[NAME].data[1, 0, 0] = 7
    edited = viewer.layers[NAME].data.copy()
    widget.run()
    finish(widget)
    np.testing.assert_array_equal(viewer.layers[NAME].data, edited)
    assert f"{NAME} [1]" in viewer.layers


@pytest.mark.parametrize("change", ["settings", "geometry", "data"])
def test_another_image_or_setting_gets_a_new_layer(bare_widget, finish, fake, change: str) -> None:
    viewer, widget = bare_widget
    image = viewer.add_image(_stack(), name="cells")
    widget.form.scope.setCurrentText("this plane")
    widget.run()
    finish(widget)
    if change == "settings":
        widget.form.fields["min_size"].value = 3
    elif change == "geometry":
        image.scale = (1, 2, 2)
    else:
        image.data = _stack() * 2
    widget.run()
    finish(widget)
    assert len(viewer.layers) == 3


def test_deleting_the_result_during_a_run_cancels_it(bare_widget, finish, fake, qtbot) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    fake.let(2)
    qtbot.waitUntil(lambda: NAME in viewer.layers)
    qtbot.waitUntil(lambda: fake.tiles_started == 3)
    viewer.layers.remove(NAME)
    assert widget.status.text().startswith("Stopping")
    fake.let(1)
    finish(widget)
    assert widget.status.text() == "Cancelled after 1 of 4 planes."
    assert len(viewer.layers) == 1


def test_removing_the_image_during_a_run_is_harmless(bare_widget, finish, fake, qtbot) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    qtbot.waitUntil(lambda: fake.tiles_started == 1)
    viewer.layers.remove("cells")
    fake.let(99)
    finish(widget)
    assert _planes(viewer) == 4
    assert not widget.run_button.isEnabled()


def test_renaming_layers_during_a_run_is_harmless(bare_widget, finish, fake, qtbot) -> None:
    viewer, widget = bare_widget
    image = viewer.add_image(_stack(), name="cells")
    fake.hold()
    widget.run()
    fake.let(2)
    qtbot.waitUntil(lambda: NAME in viewer.layers)
    result = viewer.layers[NAME]
    image.name, result.name = "other", "mine"
    fake.let(99)
    finish(widget)
    assert [layer.name for layer in viewer.layers] == ["other", "mine"]
    assert (result.data.reshape(4, -1).max(axis=1) > 0).all()
    assert widget.status.text().startswith("Done: 4 planes")


def test_why_another_device_was_used_is_said_at_the_end(open_widget, finish, fake) -> None:
    viewer, widget = open_widget()
    viewer.add_image(_stack(), name="cells")
    widget.form.axes.setText("TYX")
    widget.form.axes.textEdited.emit("TYX")
    fake.device = SimpleNamespace(device="cpu", reason="As asked for.", note="The CPU, as a test.")
    widget.run()
    finish(widget)
    assert widget.status.text().startswith("Done: 4 planes")
    assert widget.status.text().endswith("on cpu. The CPU, as a test.")

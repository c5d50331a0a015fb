"""The widget Segment, opened through the manifest, with a segmenter that computes nothing."""

from __future__ import annotations

import threading
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


def _planes(viewer: Any) -> int:
    return sum(bool(plane.any()) for plane in viewer.layers[NAME].data)

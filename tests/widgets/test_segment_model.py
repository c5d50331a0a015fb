"""The widget with a real model, as tiny as they come: files, provenance, broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_espmedsam.widgets.layers import METADATA_KEY
from napari_espmedsam.widgets.segment import SegmentWidget


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write a tiny model with two modalities and return its file."""
    import torch

    from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
    from napari_espmedsam.model.registry import create_model, model_config

    torch.manual_seed(0)
    names = ("microscopy", "dermoscopy")
    spec = InputSpec(geometry="tiled", size=64, scale=1.0, diameter=20.0)
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model_config("esp_medsam_test", modalities=names).model_dump(mode="json"),
        modalities=names,
        inputs=dict.fromkeys(names, spec),
        licence="Apache-2.0",
    )
    model = create_model("esp_medsam_test", modalities=names)
    return save_checkpoint(tmp_path / "tiny.safetensors", model, header)


@pytest.fixture
def widget_with_image(qtbot: Any) -> tuple[Any, SegmentWidget]:
    """Return a viewer without a window, and a widget on it that loads real models."""
    viewer = ViewerModel()
    widget = SegmentWidget(viewer)
    qtbot.addWidget(widget)
    image = np.random.default_rng(0).integers(0, 4000, (2, 70, 90), dtype=np.uint16)
    viewer.add_image(image, name="cells", scale=(2, 1, 1))
    return viewer, widget


def test_a_model_file_of_the_user(widget_with_image, checkpoint, finish, qtbot) -> None:
    viewer, widget = widget_with_image
    widget.form.model.add_file(checkpoint)
    assert not widget.run_button.isEnabled()
    assert widget.status.text() == "Reading tiny.safetensors …"
    qtbot.waitUntil(lambda: widget.run_button.isEnabled(), timeout=60_000)
    modality = widget.form.modality
    assert [modality.itemText(i) for i in range(modality.count())] == ["microscopy", "dermoscopy"]
    modality.setCurrentText("dermoscopy")
    widget.form.fields["device"].value = "cpu"
    widget.run()
    finish(widget)
    assert widget.status.text().startswith("Done: 2 planes")
    labels = viewer.layers["cells - espmedsam dermoscopy"]
    assert (labels.data.shape, labels.data.dtype) == ((2, 70, 90), np.uint32)
    record = labels.metadata[METADATA_KEY]
    assert record["modality"] == "dermoscopy"
    assert record["image"] == "cells"
    assert record["status"] == "complete"
    assert "sha256" in str(record)


def test_the_widget_gives_the_labels_of_the_library(
    widget_with_image, checkpoint, finish, qtbot
) -> None:
    from napari_espmedsam import Segmenter

    viewer, widget = widget_with_image
    widget.form.model.add_file(checkpoint)
    qtbot.waitUntil(lambda: widget.run_button.isEnabled(), timeout=60_000)
    widget.form.fields["device"].value = "cpu"
    widget.run()
    finish(widget)
    expected = Segmenter.from_checkpoint(checkpoint, device="cpu").segment(
        viewer.layers["cells"].data, "microscopy", axes="ZYX"
    )
    labels = viewer.layers["cells - espmedsam microscopy"].data
    np.testing.assert_array_equal(labels, expected.labels)
    viewer.layers.remove("cells - espmedsam microscopy")
    viewer.dims.set_point(0, 2)
    widget.form.scope.setCurrentText("this plane")
    widget.run()
    finish(widget)
    alone = viewer.layers["cells - espmedsam microscopy"].data
    assert not alone[0].any()
    np.testing.assert_array_equal(alone[1] > 0, expected.labels[1] > 0)


@pytest.mark.parametrize("damage", ["truncated", "text", "missing", "folder", "pickle"])
def test_a_broken_model_file_turns_run_off(
    widget_with_image, checkpoint, qtbot, damage: str
) -> None:
    _viewer, widget = widget_with_image
    path = checkpoint
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("no weights at all")
    elif damage == "missing":
        path.unlink()
    elif damage == "folder":
        path = path.parent
    else:
        path = path.rename(path.with_suffix(".pth"))
    with notification_manager:
        before = len(notification_manager.records)
        widget.form.model.add_file(path)
        qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=60_000)
        shown = notification_manager.records[before:]
    assert [str(n.severity) for n in shown] == ["error"]
    assert not widget.run_button.isEnabled()
    assert widget.status.text() == shown[0].message
    assert path.name in widget.status.text()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_end_in_a_notification(
    widget_with_image, checkpoint, finish, qtbot, value: float
) -> None:
    viewer, widget = widget_with_image
    widget.form.model.add_file(checkpoint)
    qtbot.waitUntil(lambda: widget.run_button.isEnabled(), timeout=60_000)
    bad = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    bad[3, 4] = value
    viewer.add_image(bad, name="bad", contrast_limits=(0, 1))
    widget.form.image.setCurrentText("bad")
    with notification_manager:
        widget.run()
        finish(widget)
        assert "NaN or infinite" in notification_manager.records[-1].message
    assert "NaN or infinite" in widget.status.text()
    assert len(viewer.layers) == 2

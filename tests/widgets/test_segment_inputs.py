"""What the widget makes of every kind of layer, and what it says of those it cannot use."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_espmedsam.widgets.layers import METADATA_KEY


def _field(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random(shape) * 200).astype(dtype)


KINDS: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "grey": ((32, 40), {}, (32, 40)),
    "Z": ((3, 32, 40), {}, (3, 32, 40)),
    "T": ((3, 32, 40), {"axis_labels": ("t", "y", "x")}, (3, 32, 40)),
    "TZ": ((2, 3, 32, 40), {}, (2, 3, 32, 40)),
    "RGB": ((32, 40, 3), {"rgb": True}, (32, 40)),
    "RGBA": ((32, 40, 4), {"rgb": True}, (32, 40)),
    "RGB stack": ((3, 32, 40, 3), {"rgb": True}, (3, 32, 40)),
    "CYX": ((2, 32, 40), {"axis_labels": ("c", "y", "x")}, (32, 40)),
    "CZYX": ((2, 3, 32, 40), {"axis_labels": ("c", "z", "y", "x")}, (3, 32, 40)),
    "ZCYX": ((3, 2, 32, 40), {"axis_labels": ("z", "c", "y", "x")}, (3, 1, 32, 40)),
    "TZCYX": ((2, 3, 2, 32, 40), {}, (2, 3, 1, 32, 40)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gets_labels_that_fit(bare_widget, finish, fake, kind: str) -> None:
    shape, arguments, expected = KINDS[kind]
    viewer, widget = bare_widget
    image = viewer.add_image(_field(shape), name="cells", **arguments)
    has_channel = "C" in widget.form.axes.text()
    assert widget.form.channel.isHidden() != has_channel
    if has_channel:
        assert not widget.run_button.isEnabled()
        assert "Choose the channel" in widget.status.text()
        widget.form.channel.setCurrentText("1")
    widget.run()
    finish(widget)
    labels = viewer.layers[-1]
    assert labels.data.shape == expected
    assert labels.metadata[METADATA_KEY]["status"] == "complete"
    reference = image.data[..., 0] if image.rgb else image.data
    if has_channel:
        axis = widget.form.axes.text().index("C")
        reference = np.take(reference, [1], axis=axis).reshape(expected)
    np.testing.assert_array_equal(labels.data > 0, reference > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.float32, float])
def test_every_number_type_is_accepted(bare_widget, finish, fake, dtype: Any) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_field((32, 40), dtype), name="cells", contrast_limits=(0, 1000))
    widget.run()
    finish(widget)
    assert viewer.layers[-1].data.any()


def test_colours_of_three_channels_can_be_used_together(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_field((3, 32, 40)), axis_labels=("c", "y", "x"), name="cells")
    widget.form.channel.setCurrentText("all, as RGB colours")
    widget.run()
    finish(widget)
    assert fake.calls[-1] == {
        "modality": "microscopy", "axes": "CYX", "channel": None, "rgb": True,
    }  # fmt: skip
    assert viewer.layers[-1].data.shape == (32, 40)


def test_a_pyramid_is_segmented_at_full_resolution(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    full = _field((64, 80))
    viewer.add_image([full, full[::2, ::2]], multiscale=True, name="slide", scale=(0.5, 0.5))
    widget.run()
    finish(widget)
    np.testing.assert_array_equal(viewer.layers[-1].data > 0, full > 0)
    np.testing.assert_array_equal(viewer.layers[-1].scale, (0.5, 0.5))


def test_a_lazy_stack_is_read_plane_by_plane(bare_widget, finish, fake) -> None:
    largest = []

    def read(block: np.ndarray) -> np.ndarray:
        largest.append(block.shape)
        return block + 1

    lazy = da.zeros((6, 32, 40), chunks=(1, 32, 40), dtype=np.uint8).map_blocks(
        read, meta=np.zeros((0, 0, 0), np.uint8)
    )
    viewer, widget = bare_widget
    viewer.add_image(lazy, name="cells", contrast_limits=(0, 255))
    widget.form.scope.setCurrentText("this plane")
    viewer.dims.set_point(0, 4)
    largest.clear()
    widget.run()
    finish(widget)
    assert viewer.layers[-1].data[4].all()
    assert set(largest) == {(1, 32, 40)}
    # The fake reads one plane; napari itself may read planes to draw them.
    assert len(largest) <= 3


def test_the_display_settings_do_not_matter(bare_widget, finish, fake) -> None:
    viewer, widget = bare_widget
    image = viewer.add_image(_field((32, 40)), name="cells", contrast_limits=(0, 255))
    widget.run()
    finish(widget)
    image.contrast_limits, image.gamma = (100, 101), 2.0
    widget.run()
    finish(widget)
    np.testing.assert_array_equal(viewer.layers[-1].data, viewer.layers[-2].data)


def test_this_plane_is_the_one_that_the_viewer_shows(bare_widget, finish, fake) -> None:
    """With a smaller layer beside it, sliders count from elsewhere."""
    viewer, widget = bare_widget
    viewer.add_image(_field((3, 5, 32, 40)), name="big")
    viewer.add_image(_field((4, 32, 40)), name="cells", scale=(0.5, 1, 1), translate=(2, 0, 0))
    widget.form.image.setCurrentText("cells")
    widget.form.scope.setCurrentText("this plane")
    viewer.dims.set_point(1, 3.0)
    widget.run()
    finish(widget)
    assert [bool(plane.any()) for plane in viewer.layers[-1].data] == [False, False, True, False]
    viewer.dims.set_point(1, 0.0)
    assert not widget.run_button.isEnabled()
    assert "outside of 'cells'" in widget.status.text()
    viewer.dims.set_point(1, 2.0)
    assert widget.run_button.isEnabled()


def test_without_an_image_run_is_off_and_says_why(bare_widget) -> None:
    viewer, widget = bare_widget
    assert not widget.run_button.isEnabled()
    assert "no image layer" in widget.status.text()
    viewer.add_labels(np.ones((32, 40), np.uint8), name="labels")
    assert widget.form.image.count() == 0
    viewer.add_image(_field((32, 40)), name="cells")
    assert widget.run_button.isEnabled()
    viewer.layers.remove("cells")
    assert not widget.run_button.isEnabled()
    widget.run()
    assert not widget.is_running


BAD: dict[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "bool": (np.ones((32, 40), bool), {}, "type bool"),
    "one pixel": (np.ones((1, 1), np.uint8), {}, "1 x 1 px"),
    "six axes": (np.ones((1, 1, 1, 1, 32, 40), np.uint8), {}, "Give 2 to 5 axes"),
    "five channels": (np.ones((5, 32, 40), np.uint8), {"axis_labels": "cyx"}, "5 channels"),
    "flat": (np.ones((3, 8, 8), np.uint8), {}, "smallest side is 16 px"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_image_that_cannot_be_used_turns_run_off(bare_widget, kind: str) -> None:
    data, arguments, message = BAD[kind]
    viewer, widget = bare_widget
    viewer.add_image(data, **arguments)
    assert not widget.run_button.isEnabled()
    assert message in widget.status.text()
    assert widget.run_button.toolTip() == widget.status.text()


def test_axes_are_checked_while_typing(bare_widget) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_field((3, 32, 40)), name="cells")
    assert widget.form.axes.text() == "ZYX"
    for text in ("ZY", "ZZYX", "QYX", "ZCX", ""):
        _type(widget, text)
        assert not widget.run_button.isEnabled()
        assert widget.form.axes.styleSheet()
    _type(widget, "tyx")
    assert widget.run_button.isEnabled()
    assert not widget.form.axes.styleSheet()
    _type(widget, "CYX")
    assert not widget.form.channel.isHidden()
    assert [widget.form.channel.itemText(i) for i in range(5)] == [
        "choose…", "0", "1", "2", "all, as RGB colours",
    ]  # fmt: skip


def _type(widget: Any, text: str) -> None:
    widget.form.axes.setText(text)
    widget.form.axes.textEdited.emit(text)


def test_the_form_follows_the_image(bare_widget) -> None:
    viewer, widget = bare_widget
    image = viewer.add_image(_field((3, 32, 40)), name="cells")
    image.axis_labels = ("t", "y", "x")
    assert widget.form.axes.text() == "TYX"
    image.name = "renamed"
    assert widget.form.image.currentText() == "renamed"
    image.axis_labels = ("-3", "-2", "-1")
    image.data = _field((2, 3, 32, 40))
    assert widget.form.axes.text() == "TZYX"


def test_settings_that_exclude_each_other_are_told(bare_widget) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_field((32, 40)), name="cells")
    widget.form.fields["diameter"].value = 30.0
    assert widget.run_button.isEnabled()
    widget.form.fields["pixel_size"].value = 0.3
    assert not widget.run_button.isEnabled()
    assert "Give one of them" in widget.status.text()


def test_restore_defaults(bare_widget) -> None:
    viewer, widget = bare_widget
    viewer.add_image(_field((3, 32, 40)), name="cells")
    fields = widget.form.fields
    before = {name: field.value for name, field in fields.items()}
    fields["output"].value = "split"
    fields["diameter"].value = 30.0
    fields["threshold"].value = 0.3
    fields["min_size"].value = 5
    fields["device"].value = "cpu"
    widget.form.scope.setCurrentText("this plane")
    _type(widget, "CYX")
    widget.defaults_button.click()
    assert {name: field.value for name, field in fields.items()} == before
    assert widget.form.scope.currentText() == "all planes"
    assert widget.form.axes.text() == "ZYX"
    assert widget.form.image.layer.name == "cells"


def test_what_the_plugin_shows_is_no_image_to_segment(bare_widget) -> None:
    viewer, widget = bare_widget
    image = viewer.add_image(np.zeros((40, 40), np.uint8), name="cells")
    tool = {METADATA_KEY: {"role": "prompts"}}
    viewer.add_image(np.zeros((4, 4)), name="Prompt heat map of cells", metadata=tool)
    box = widget.form.image
    assert [box.itemText(i) for i in range(box.count())] == ["cells"]
    viewer.layers.remove(image)
    assert box.layer is None

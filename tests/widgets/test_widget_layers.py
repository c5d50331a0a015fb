"""The place of the labels, without Qt: napari layers are used as plain models here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_espmedsam.errors import InputError
from napari_espmedsam.widgets.layers import (
    axes_from_labels,
    describe,
    geometry_of,
    level_zero,
    plan_result,
    plane_at,
)

TRANSFORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": (2.0, 0.5, 0.25), "translate": (3.0, -10.0, 7.5)},
    "rotated": {"rotate": (0, 0, 30), "scale": (2.0, 0.5, 0.25), "translate": (1, 2, 3)},
    "sheared": {"shear": (0.0, 0.0, 0.4), "scale": (2.0, 0.5, 0.25)},
    "affine": {
        "affine": np.array([[1, 0, 0, 5], [0, 0.9, 0.2, -3], [0, -0.1, 1.1, 4], [0, 0, 0, 1.0]]),
        "scale": (2.0, 0.5, 0.25),
    },
}


def _image(shape: tuple[int, ...] = (4, 32, 48), **kwargs: Any) -> Image:
    return Image(np.zeros(shape, np.uint8), name="cells", rgb=False, **kwargs)


def _labels(image: Image, axes: str, channel: int | None = None) -> Labels:
    plan = plan_result(describe(image), axes, channel)
    return Labels(np.zeros(plan.shape, np.uint32), **plan.geometry.layer_arguments())


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_copied(name: str) -> None:
    image = _image(units=("um", "um", "um"), axis_labels=("z", "y", "x"), **TRANSFORMS[name])
    labels = _labels(image, "ZYX")
    for attribute in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(
            getattr(labels, attribute), getattr(image, attribute), atol=1e-9, err_msg=attribute
        )
    np.testing.assert_allclose(labels.affine.affine_matrix, image.affine.affine_matrix, atol=1e-12)
    assert labels.units == image.units
    assert labels.axis_labels == ("z", "y", "x")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_leading_channel_axis_is_dropped_from_everything(name: str) -> None:
    """The labels lie on channel 2 of the image, seen in the axes that are left."""
    image = _image(units=("pixel", "um", "um"), axis_labels=("c", "y", "x"), **TRANSFORMS[name])
    labels = _labels(image, "CYX", channel=2)
    assert labels.data.shape == (32, 48)
    for corner in ((0, 0), (0, 47), (31, 0), (31, 47)):
        expected = image.data_to_world((2, *corner))[1:]
        np.testing.assert_allclose(labels.data_to_world(corner), expected, atol=1e-9)
    np.testing.assert_allclose(labels.scale, image.scale[1:], atol=1e-9)
    assert labels.units == image.units[1:]
    assert labels.axis_labels == ("y", "x")


def test_affine_that_shifts_channels_puts_the_labels_on_the_chosen_one() -> None:
    affine = np.eye(4)
    affine[1, 0], affine[2, 0], affine[1, 3] = 1.5, -2.0, 10.0
    image = _image(affine=affine, scale=(3.0, 0.5, 0.5), translate=(1.0, 0.0, 0.0))
    labels = _labels(image, "CYX", channel=3)
    expected = image.data_to_world((3, 5, 6))[1:]
    np.testing.assert_allclose(labels.data_to_world((5, 6)), expected, atol=1e-9)


def test_rotation_that_mixes_the_channel_axis_is_composed_into_an_affine() -> None:
    image = _image(rotate=(20, 30, 10), scale=(2.0, 0.5, 0.25), translate=(1, 2, 3))
    labels = _labels(image, "CYX", channel=1)
    for corner in ((0, 0), (31, 47)):
        expected = image.data_to_world((1, *corner))[1:]
        np.testing.assert_allclose(labels.data_to_world(corner), expected, atol=1e-9)


@pytest.mark.parametrize("axes", ["ZCYX", "TCYX"])
def test_channel_axis_between_slider_and_plane_stays_as_one_sample(axes: str) -> None:
    """napari aligns layers from the last axis, so dropping it would move the Z slider."""
    image = _image((4, 3, 32, 48), scale=(2.0, 1.5, 0.5, 0.25), translate=(5, 6, 7, 8))
    labels = _labels(image, axes, channel=2)
    assert labels.data.shape == (4, 1, 32, 48)
    np.testing.assert_allclose(labels.extent.world, [[5, 6 + 1.5, 7, 8], [11, 7.5, 22.5, 19.75]])
    for channel in range(3):
        point = image.data_to_world((3, channel, 10, 10))
        found = np.round(labels.world_to_data(point)).astype(int)
        np.testing.assert_array_equal(found, (3, 0, 10, 10))


def test_plane_view_is_written_through_for_any_axis_order() -> None:
    plane = np.arange(32 * 48, dtype=np.uint32).reshape(32, 48)
    for axes, shape in {"ZYX": (4, 32, 48), "YXZ": (32, 48, 4), "ZXY": (4, 48, 32)}.items():
        plan = plan_result(describe(_image(shape)), axes, None)
        labels = np.zeros(plan.shape, np.uint32)
        plan.plane_of(labels, {"Z": 2})[...] = plane
        moved = np.moveaxis(labels, [axes.index(a) for a in "ZYX"], [0, 1, 2])
        np.testing.assert_array_equal(moved[2], plane)
        assert not moved[[0, 1, 3]].any()


def test_describe_reads_level_zero_and_hides_colour_samples() -> None:
    pyramid = [np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
    image = Image(pyramid, rgb=True, multiscale=True, name="slide", scale=(0.5, 0.5))
    found = describe(image)
    assert (found.shape, found.rgb, found.multiscale) == ((64, 64), True, True)
    assert found.geometry.scale == (0.5, 0.5)
    assert level_zero(image).shape == (64, 64, 3)


def test_description_is_comparable_and_frozen() -> None:
    image = _image(scale=(1, 2, 2))
    before = describe(image)
    assert before == describe(image)
    image.scale = (1, 3, 3)
    assert before != describe(image)
    assert geometry_of(image) == describe(image).geometry


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        (("z", "y", "x"), "ZYX"),
        (("Time", "Channel", "row", "col"), "TCYX"),
        (("-3", "-2", "-1"), None),
        (("y", "y", "x"), None),
        (("t", "z"), None),
    ],
)
def test_axes_from_labels(labels: tuple[str, ...], axes: str | None) -> None:
    assert axes_from_labels(labels) == axes


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_plane_at_maps_world_to_layer_whatever_the_viewer_adds(extra: int) -> None:
    image = _image((5, 6, 32, 48), scale=(10.0, 2.0, 0.5, 0.5), translate=(100.0, -4.0, 0, 0))
    point = (99.0,) * extra + (120.0, 4.0, 3.0, 3.0)
    assert plane_at(image, point, "TZYX") == {"T": 2, "Z": 4}
    assert plane_at(image, point, "TCYX") == {"T": 2}


def test_plane_at_outside_of_the_image_is_told() -> None:
    with pytest.raises(InputError, match="plane 7, the image has 0 to 3"):
        plane_at(_image(), (7.0, 0.0, 0.0), "ZYX")


def test_nothing_of_the_image_changes() -> None:
    image = _image(**TRANSFORMS["affine"])
    before = describe(image)
    _labels(image, "CYX", channel=1)
    plane_at(image, (5.0, 0.0, 0.0), "ZYX")
    assert describe(image) == before

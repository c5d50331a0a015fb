"""The sample images: the same everywhere, plausible, and with their truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_espmedsam import samples


def test_stack_is_a_12_bit_camera_stack() -> None:
    image = samples.nuclei_stack()
    assert image.shape == (12, 384, 384)
    assert image.dtype == np.uint16
    assert image.max() <= 4095
    assert 90 < np.median(image) < 200  # mostly background


def test_field_is_an_rgb_picture() -> None:
    image = samples.he_field()
    assert image.shape == (384, 384, 3)
    assert image.dtype == np.uint8
    red, green, blue = image.reshape(-1, 3).mean(axis=0)
    assert red > green
    assert blue > green  # pink and purple


@pytest.mark.parametrize("make", [samples.nuclei_stack, samples.he_field])
def test_samples_are_reproducible_and_leave_the_global_state_alone(make: object) -> None:
    assert callable(make)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    first, again, other = make(3), make(3), make(4)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.testing.assert_array_equal(make(3, return_labels=True)[0], first)


def test_planted_nuclei_are_where_the_stack_is_bright() -> None:
    image, labels = samples.nuclei_stack(return_labels=True)
    assert labels.dtype == np.uint32
    assert labels.shape == image.shape
    n = int(labels.max())
    assert n == len(np.unique(labels)) - 1
    assert 60 < n < 140
    inside = ndimage.mean(image, labels, np.arange(1, n + 1))
    assert np.mean(inside > 2 * np.median(image)) > 0.95
    widths = np.sqrt(np.bincount(labels[6].ravel())[1:] * 4 / np.pi)
    assert 14 < np.median(widths[widths > 0]) < 23
    assert all((labels[z] > 0).any() for z in range(len(labels)))


def test_planted_nuclei_are_where_the_field_is_dark() -> None:
    image, labels = samples.he_field(return_labels=True)
    assert labels.shape == image.shape[:2]
    n = int(labels.max())
    assert n == len(np.unique(labels)) - 1
    assert n > 60
    red = image[..., 0].astype(float)
    assert np.mean(ndimage.mean(red, labels, np.arange(1, n + 1)) < red[labels == 0].mean()) == 1


def test_other_sizes() -> None:
    image, labels = samples.nuclei_stack(1, shape=(3, 64, 96), return_labels=True)
    assert image.shape == labels.shape == (3, 64, 96)
    assert labels.any()
    assert samples.he_field(1, shape=(64, 96)).shape == (64, 96, 3)


def test_layers_for_napari() -> None:
    for make, ndim in ((samples.nuclei_stack_layer, 3), (samples.he_field_layer, 2)):
        [(_, options, kind)] = make()
        assert kind == "image"
        assert {len(options[name]) for name in ("scale", "units", "axis_labels")} == {ndim}
        assert set(options["units"]) == {"micrometer"}
    assert options["rgb"] is True

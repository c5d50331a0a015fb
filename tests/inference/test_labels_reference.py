"""Post-processing gives what its plain, slow form gives: scipy's labels, skimage's h-maxima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from napari_espmedsam.inference import split
from napari_espmedsam.inference.postprocess import PostProcess, to_labels
from napari_espmedsam.inference.regions import find_regions, first_pixels, number_objects

Array = np.ndarray[Any, np.dtype[Any]]
EIGHT = np.ones((3, 3), bool)


def plain_labels(probability: Array, post: PostProcess) -> Array:
    mask = probability >= (post.threshold or 0.5)
    objects, n = ndimage.label(mask, structure=EIGHT)
    sizes = np.bincount(objects.ravel(), minlength=n + 1)
    mask = mask & (sizes[objects] >= post.min_size)
    if post.max_hole:
        outside, n = ndimage.label(np.pad(~mask, 1, constant_values=True))  # all that is open: 1
        holes = np.bincount(outside.ravel(), minlength=n + 1) <= post.max_hole
        holes[:2] = False
        mask = mask | holes[outside][1:-1, 1:-1]
    objects = ndimage.label(mask, structure=EIGHT)[0]
    if post.output == "split" and mask.any() and not mask.all():
        objects = plain_split(objects, post.split_neck, post.min_size)
    return mask.astype(np.uint32) if post.output == "mask" else objects


def plain_split(objects: Array, neck: float, min_size: int) -> Array:
    inside = objects > 0
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), 0.5) * inside
    height = -np.log(neck)
    relief = np.where(inside, np.log(distance + 0.5), np.log(0.5) - height)
    flooded = reconstruction(relief - height, relief, footprint=EIGHT)
    seeds, n = ndimage.label(local_maxima(flooded, footprint=EIGHT) & inside, structure=EIGHT)
    numbers = np.arange(1, n + 1)
    highest = ndimage.maximum(distance, objects, np.arange(1, objects.max() + 1))
    enough = np.minimum(np.sqrt(min_size / np.pi), highest)[objects - 1]
    drop = numbers[ndimage.maximum(distance - enough, seeds, numbers) < 0]
    seeds[np.isin(seeds, drop)] = 0
    parts = watershed(-distance, seeds, connectivity=EIGHT, mask=inside)
    values, first = np.unique(parts, return_index=True)
    order = np.argsort(first[values > 0])
    table = np.zeros(parts.max() + 1, np.uint32)
    table[values[values > 0][order]] = np.arange(1, order.size + 1)
    return table[parts]


def clouds(generator: np.random.Generator) -> Array:
    """Random shapes of random coarseness, some in very flat planes."""
    shape = tuple(generator.integers(1, 130, 2))
    values = ndimage.gaussian_filter(generator.normal(size=shape), generator.uniform(0, 6))
    values -= values.min()
    return (values / max(float(values.max()), 1e-9)).astype(np.float32)


def random_settings(generator: np.random.Generator, output: str) -> PostProcess:
    return PostProcess(
        output=output,
        threshold=float(generator.uniform(0.2, 0.8)),
        min_size=int(generator.choice([0, 1, 5, 16, 100])),
        max_hole=int(generator.choice([0, 1, 8, 64, 1000])),
        split_neck=float(generator.choice([0.1, 0.5, 0.9, 0.97])),
    )


@pytest.mark.parametrize("output", ["mask", "objects", "split"])
def test_labels_are_those_of_the_plain_form(output: str) -> None:
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(60):
        probability, post = clouds(generator), random_settings(generator, output)
        labels, expected = to_labels(probability, post), plain_labels(probability, post)
        np.testing.assert_array_equal(labels, expected)
        found += int(labels.max())
    assert found > 30


def test_parts_of_one_object_do_not_depend_on_the_others() -> None:
    """One watershed over the plane would: where pixels are equally deep, by chance."""
    probability = clouds(np.random.default_rng(3))
    post = PostProcess(output="split", threshold=0.5, min_size=4, max_hole=0, split_neck=0.97)
    labels = to_labels(probability, post)
    objects = ndimage.label(probability >= 0.5, structure=EIGHT)[0]
    assert labels.max() > objects.max() > 1
    for k in range(1, objects.max() + 1):
        alone = to_labels(np.where(objects == k, probability, 0), post)
        here = np.where(objects == k, labels, 0)
        numbers = np.unique(here, return_inverse=True)[1].reshape(here.shape)  # flat in NumPy 1
        np.testing.assert_array_equal(alone, numbers)


def test_distances_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = np.ones((700, 900), bool)
    inside[np.random.default_rng(0).integers(0, 700, 9), np.arange(9) * 100] = False
    expected = ndimage.distance_transform_edt(inside)
    np.testing.assert_array_equal(split._distance_to_background(inside), expected)
    monkeypatch.setattr(split, "_EXACT_DISTANCE", 10.0)
    np.testing.assert_array_equal(split._distance_to_background(inside), expected)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (63, 65), (200, 301)])
def test_regions_are_those_of_scipy(connectivity: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    for density in (0.1, 0.5, 0.62, 0.9, 1.0):
        mask = generator.random(shape) < density
        regions, n = find_regions(mask, connectivity)
        expected, count = ndimage.label(mask, structure=EIGHT if connectivity == 8 else None)
        assert n == count + 1
        np.testing.assert_array_equal(number_objects(regions, np.arange(n) > 0), expected)


def test_first_pixels_and_numbers_without_pixels() -> None:
    regions = np.array([[0, 3, 3, 1], [1, 1, 0, 1]], np.int32)
    np.testing.assert_array_equal(first_pixels(regions, 5), [0, 3, 8, 1, 8])
    keep = np.array([False, True, True, True, True])
    np.testing.assert_array_equal(number_objects(regions, keep), [[0, 1, 1, 2], [2, 2, 0, 2]])
    keep[3] = False
    np.testing.assert_array_equal(number_objects(regions, keep), [[0, 0, 0, 1], [1, 1, 0, 1]])

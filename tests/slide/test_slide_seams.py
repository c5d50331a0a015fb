"""A slide in chunks has the labels of the slide in one piece, and a crop those of its slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error

Array = np.ndarray[Any, np.dtype[Any]]


def whole(job: Any, pixels: Array, monkeypatch: pytest.MonkeyPatch) -> Array:
    """Segment the slide in memory, as any other image."""
    from napari_espmedsam.inference import segmenter

    monkeypatch.setattr(segmenter, "measure_intensity", lambda *_: job.plan.intensity)
    options = job.plan.request.segment_options()
    del options["planes"]
    return np.asarray(job.segmenter.segment(pixels, **options).labels)


@pytest.mark.parametrize(
    ("output", "scale"), [("mask", 1.0), ("objects", 1.0), ("split", 1.0), ("split", 2.0)]
)
def test_chunks_give_the_labels_of_the_whole(
    make_job: Callable[..., Any],
    helpers: Any,
    planted: Array,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    scale: float,
) -> None:
    """Ids included; the model's answer depends on where each tile lies."""
    segmenter = helpers.make_segmenter(helpers.GlobalModel(), scale=scale)
    job = make_job(planted, segmenter=segmenter, output=output, smoothing=1.0)
    assert len(job.plan.chunks) == 9
    labels = job.run(tmp_path / "out.zarr")
    expected = whole(job, planted, monkeypatch)
    assert expected.max() > (50 if output != "mask" else 0)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("scale", [0.3, 1.37])
def test_other_scales_agree_with_the_whole(
    make_job: Callable[..., Any],
    helpers: Any,
    planted: Array,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: float,
) -> None:
    """The scale is rounded to a fraction, so a few border pixels differ."""
    job = make_job(planted, segmenter=helpers.make_segmenter(scale=scale))
    labels = job.run(tmp_path / "out.zarr")
    expected = whole(job, planted, monkeypatch)
    assert np.mean((labels > 0) == (expected > 0)) > 0.998
    assert adapted_rand_error(expected, labels)[0] < 0.02


def test_a_crop_has_the_mask_of_its_slide(
    make_job: Callable[..., Any], helpers: Any, planted: Array, tmp_path: Path
) -> None:
    """Within a tile of the crop's edge tiles see other pixels; further in nothing differs."""
    segmenter = helpers.make_segmenter(helpers.GlobalModel())
    step = 192
    y, x, size, halo = step, 2 * step, 900, 256
    crop = np.ascontiguousarray(planted[y : y + size, x : x + size])
    of_slide = make_job(planted, segmenter=segmenter).run(tmp_path / "slide.zarr")
    of_crop = make_job(crop, segmenter=segmenter).run(tmp_path / "crop.zarr")
    inner = slice(halo, size - halo)
    expected = of_slide[y : y + size, x : x + size][inner, inner] > 0
    assert expected.any()
    np.testing.assert_array_equal(of_crop[inner, inner] > 0, expected)


def test_a_bright_speck_changes_no_far_tile(
    make_job: Callable[..., Any], helpers: Any, tmp_path: Path
) -> None:
    """Fluorescence of 16 bit: neither the intensity range nor the tissue follows one speck."""
    rng = np.random.default_rng(1)
    plane = rng.normal(200, 20, (1400, 1400))
    rows, columns = np.indices(plane.shape)
    for y, x in rng.integers(300, 1100, (80, 2)).tolist():
        plane[np.hypot(rows - y, columns - x) < 14] = 2500
    plain = plane.clip(0).astype(np.uint16)
    speck = plain.copy()
    speck[20:24, 20:24] = 65535
    segmenter = helpers.make_segmenter(
        helpers.GlobalModel(), rescale="percentile", percentiles=(0.5, 99.8)
    )
    labels, jobs = [], []
    for name, pixels in (("plain", plain), ("speck", speck)):
        job = make_job(pixels, segmenter=segmenter, tissue=True, intensity=None)
        jobs.append(job)
        labels.append(job.run(tmp_path / f"{name}.zarr"))
    assert not jobs[0].plan.computed.all()
    far = np.s_[300:, 300:]
    assert labels[0][far].any()
    np.testing.assert_array_equal(labels[0][far] > 0, labels[1][far] > 0)


def test_objects_on_the_corner_of_four_chunks(
    make_job: Callable[..., Any], discs: Callable[..., Array], tmp_path: Path
) -> None:
    """A long diagonal object is one, two that only nearly touch are two."""
    pixels = np.full((1100, 1100, 3), 240, np.uint8)
    for i in range(300, 800):
        pixels[i : i + 8, i : i + 8] = 40  # crosses from chunk (0, 0) to (1, 1)
    pixels[100:116, 400:505] = 40
    pixels[100:116, 520:700] = 40  # 15 px of background on the border of chunks
    labels = make_job(pixels).run(tmp_path / "out.zarr")
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert labels[310, 310] == labels[795, 795] != 0
    assert labels[108, 450] != labels[108, 600]


def test_tissue_skips_background_and_changes_no_tissue(
    make_job: Callable[..., Any], discs: Callable[..., Array], helpers: Any, tmp_path: Path
) -> None:
    centres = np.random.default_rng(0).integers(900, 1300, (40, 2))
    pixels = discs((2200, 2200), centres)
    everywhere = make_job(pixels, tissue=False)
    job = make_job(pixels, tissue=True)
    assert job.plan.computed.mean() < 0.25
    assert len(job.plan.chunks) < len(everywhere.plan.chunks)
    model = helpers.LocalModel()
    job.segmenter = helpers.make_segmenter(model)
    labels = job.run(tmp_path / "tissue.zarr")
    np.testing.assert_array_equal(labels, everywhere.run(tmp_path / "all.zarr"))
    assert model.n_tiles == job.plan.computed.sum()  # each once, though chunks share them

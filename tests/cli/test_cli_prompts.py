"""``segment --prompts``: the labels of a session from its file, on its own image alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import Result

from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.results import PlaneResult
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.labels import read_provenance
from napari_espmedsam.studio.plane_record import PlaneRecord, hash_plane
from napari_espmedsam.studio.record import make_record
from napari_espmedsam.studio.record_file import write_record

Run = Callable[..., Result]
EDITS = np.array([[1, 0, -1], [0, 1, 1]], np.int8)


@pytest.fixture
def stack_image(tmp_path: Path) -> Path:
    """Return a TIFF file of 3 planes of 64 x 96 px."""
    path = tmp_path / "cells.tif"
    pixels = np.random.default_rng(4).integers(0, 4000, (3, 8, 12)).repeat(8, 1).repeat(8, 2)
    tifffile.imwrite(path, pixels.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    return path


@pytest.fixture
def prompts(tmp_path: Path, stack_image: Path, checkpoint: Path) -> Path:
    """Return the prompt file of a session that edited the middle plane."""
    pixels = tifffile.imread(stack_image)
    request = SegmentRequest(
        checkpoint=str(checkpoint), modality="dermoscopy", threshold=0.505, min_size=2, tile=64
    )
    plane = PlaneRecord((1,), hash_plane(pixels[1]), EDITS)
    record = make_record(
        Segmenter.from_checkpoint(checkpoint),
        PlaneStack.from_array(pixels, "ZYX"),
        request,
        (plane,),
    )
    return write_record(tmp_path / "session.espprompts.json", record)


@pytest.fixture
def segment(run: Run, prompts: Path, tmp_path: Path) -> Run:
    """Run ``segment IMAGE --prompts FILE`` into ``tmp_path/out``."""

    def invoke(*arguments: object) -> Result:
        return run("segment", *arguments, "--prompts", prompts, "-o", tmp_path / "out")

    return invoke


def _expected(checkpoint: Path, image: Path, *, edit: bool = True) -> Any:
    """Segment by the library: the edited plane has ids from 1, the others go on above."""
    request = SegmentRequest(modality="dermoscopy", threshold=0.505, min_size=2, tile=64)
    segmenter = Segmenter.from_checkpoint(checkpoint)
    options = request.segment_options() | {"axes": "ZYX", "edits": {1: EDITS} if edit else None}
    labels = np.zeros((3, 64, 96), np.uint32)
    pixels = tifffile.imread(image)
    for event in segmenter.iter_segment(pixels, **(options | {"planes": (1, 0, 2)})):
        if isinstance(event, PlaneResult):
            labels[event.index] = event.labels
    return labels


def test_the_labels_of_the_session(
    segment: Run, stack_image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    result = segment(stack_image)
    assert result.exit_code == 0, result.output
    found = read_image(tmp_path / "out" / "cells_labels.tif").array
    expected = _expected(checkpoint, stack_image)
    assert len(np.unique(expected)) > 6
    np.testing.assert_array_equal(found, expected)
    assert (found[1] > 0).tolist() != (
        _expected(checkpoint, stack_image, edit=False)[1] > 0
    ).tolist()
    assert f"{np.count_nonzero(np.unique(expected))} objects" in result.stdout
    record = read_provenance(tmp_path / "out" / "cells_labels.tif")
    assert record is not None
    assert record["prompts"]["file"] == "session.espprompts.json"
    assert record["post"]["threshold"] == 0.505
    assert record["input"] == "cells.tif"


def test_options_may_repeat_the_file(segment: Run, stack_image: Path, checkpoint: Path) -> None:
    same: tuple[object, ...] = (
        "--threshold",
        0.505,
        "--modality",
        "dermoscopy",
        "--axes",
        "zyx",
        "--min-size",
        2,
    )
    same += ("--precision", "auto", "--model", checkpoint, "--device", "cpu", "--tile", 64)
    result = segment(stack_image, *same)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--threshold", 0.5, r"--threshold is 0\.5, and .*session.* says 0\.505"),
        ("--modality", "microscopy", "--modality is microscopy, and .* says dermoscopy"),
        ("--objects", "mask", "--objects is mask, and .* says objects"),
        ("--min-size", 16, "--min-size is 16, and .* says 2"),
        ("--diameter", 20, "--diameter is 20.0, and .* says automatic"),
        ("--planes", "1", "--planes is .1,., and .* says automatic"),
        ("--axes", "TYX", "--axes is TYX, and .* says ZYX"),
        ("--precision", "bfloat16", "--precision is bfloat16, and .* says float32"),
    ],
)
def test_options_that_contradict_the_file(
    segment: Run, stack_image: Path, tmp_path: Path, option: str, value: object, message: str
) -> None:
    result = segment(stack_image, option, value)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_default_counts_as_given_where_it_is(segment: Run, stack_image: Path) -> None:
    """16 is the default of ``--min-size``, and not what the file says."""
    assert segment(stack_image).exit_code == 0
    result = segment(stack_image, "--min-size", 16)
    assert result.exit_code == 2
    assert "--min-size is 16" in result.stderr


def test_another_image_is_refused_unless_forced(
    segment: Run, stack_image: Path, tmp_path: Path
) -> None:
    pixels = tifffile.imread(stack_image)
    pixels[1, 5, 5] += 1
    tifffile.imwrite(stack_image, pixels, imagej=True, metadata={"axes": "ZYX"})
    result = segment(stack_image)
    assert result.exit_code == 2
    assert "plane 1 of the image differs" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert segment(stack_image, "--force-prompts").exit_code == 0
    tifffile.imwrite(stack_image, pixels[:2], imagej=True, metadata={"axes": "ZYX"})
    result = segment(stack_image, "--force-prompts", "--overwrite")
    assert "(2, 64, 96)" in result.stderr


def test_other_weights_are_refused_unless_forced(
    segment: Run, stack_image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    from napari_espmedsam.model.checkpoint import load_checkpoint, save_checkpoint

    loaded = load_checkpoint(checkpoint)
    other = save_checkpoint(
        tmp_path / "other.safetensors",
        loaded.model,
        loaded.header.model_copy(update={"licence": "MIT"}),
    )
    result = segment(stack_image, "--model", other)
    assert result.exit_code == 2
    assert "sha256" in result.stderr
    assert segment(stack_image, "--model", other, "--force-prompts").exit_code == 0


def test_weights_that_moved(
    segment: Run, stack_image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.safetensors"
    checkpoint.rename(moved)
    try:
        result = segment(stack_image)
        assert result.exit_code == 2
        assert "Give their file by --checkpoint" in result.stderr
        assert segment(stack_image, "--model", moved).exit_code == 0
    finally:
        moved.rename(checkpoint)


def test_bundled_weights_are_known_by_their_hash(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import napari_espmedsam.weights as weights
    from napari_espmedsam.cli.prompts import find_weights
    from napari_espmedsam.studio.record_file import read_record

    record = read_record(prompts)
    entry = replace(weights.list_checkpoints()[0], name="bundled", sha256=record.weights_sha256)
    monkeypatch.setattr(weights, "list_checkpoints", lambda: (entry,))
    assert find_weights(replace(record, checkpoint="/gone.safetensors")) == "bundled"


def test_prompts_belong_to_one_image(segment: Run, stack_image: Path, image: Path) -> None:
    other = image.with_name("other.tif")
    other.write_bytes(stack_image.read_bytes())
    result = segment(stack_image, other)
    assert result.exit_code == 2
    assert "one image, and 2 are given" in result.stderr


def test_a_bad_file_is_said_before_the_model_is_loaded(
    run: Run, stack_image: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.espprompts.json"
    bad.write_text("{")
    result = run("segment", stack_image, "--prompts", bad, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert str(bad) in result.stderr
    result = run("segment", stack_image, "--force-prompts", "-o", tmp_path / "out")
    assert "--force-prompts needs" in result.stderr

"""A folder of 200 files of all kinds, ten of them broken: 190 right, ten reported."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.io.images import read_image

N_GOOD = 190
KINDS: list[tuple[str, str, tuple[int, ...]]] = [
    ("tif", "uint8", (40, 48)),
    ("tif", "uint16", (64, 33)),
    ("tif", "float32", (48, 48)),
    ("tif", "uint16", (2, 40, 40)),
    ("png", "uint8", (40, 56)),
    ("png", "uint16", (56, 40)),
    ("png", "uint8", (40, 48, 3)),
    ("jpg", "uint8", (48, 40, 3)),
]
FOLDERS = ("", "Tag 1", "Tag 1/Präparat 細胞 #2", "50% (b)")


def _pixels(kind: tuple[str, str, tuple[int, ...]], seed: int) -> np.ndarray:
    _, dtype, shape = kind
    high = 200 if dtype == "uint8" else 4000
    blocks = np.random.default_rng(seed).integers(0, high, shape)
    yx = (0, 1) if shape[-1] == 3 else (-2, -1)
    small = blocks.take(range(0, shape[yx[0]], 8), yx[0]).take(range(0, shape[yx[1]], 8), yx[1])
    large = small.repeat(8, yx[0]).repeat(8, yx[1])
    large = large.take(range(shape[yx[0]]), yx[0]).take(range(shape[yx[1]]), yx[1])
    return large.astype(dtype)


def _write(path: Path, pixels: np.ndarray) -> None:
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        Image.fromarray(pixels).save(path, quality=95)


def _write_good(folder: Path) -> dict[str, tuple[int, int]]:
    """Write the usable files; return kind and seed by relative name."""
    made = {}
    for i in range(N_GOOD):
        kind, seed = i % len(KINDS), i % 3
        place = folder / FOLDERS[i % len(FOLDERS)]
        place.mkdir(parents=True, exist_ok=True)
        # Stems repeat between folders, and within one between suffixes.
        path = place / f"Zelle {i // 8} ü.{KINDS[kind][0]}"
        while path.exists():
            path = path.with_stem(path.stem + "'")
        _write(path, _pixels(KINDS[kind], seed))
        made[path.relative_to(folder).as_posix()] = (kind, seed)
    return made


def _write_broken(folder: Path) -> dict[str, str]:
    """Write ten broken files; return a part of the reason by relative name."""
    good = _pixels(KINDS[0], 0)
    whole = folder / "whole.tmp"
    tifffile.imwrite(whole, good, photometric="minisblack")
    (folder / "cut.tif").write_bytes(whole.read_bytes()[:900])
    for kind in ("png", "jpg"):
        Image.fromarray(good).save(whole, "png" if kind == "png" else "jpeg")
        content = whole.read_bytes()
        (folder / f"cut.{kind}").write_bytes(content[: len(content) // 2])
    whole.unlink()
    (folder / "empty.tif").write_bytes(b"")
    (folder / "notes.tif").write_text("day 1: fed the cells")
    tifffile.imwrite(folder / "nan.tif", np.full((40, 40), np.nan, np.float32))
    tifffile.imwrite(folder / "small.tif", good[:8, :8])
    tifffile.imwrite(
        folder / "channels.tif",
        np.zeros((2, 40, 40), np.uint16),
        imagej=True,
        metadata={"axes": "CYX"},
    )
    (folder / "loop.tif").symlink_to(folder / "loop.tif")
    (folder / "Tag 1" / "back").symlink_to(folder, target_is_directory=True)
    return {
        "cut.tif": "cut short or damaged",
        "cut.png": "cut short or damaged",
        "cut.jpg": "cut short or damaged",
        "empty.tif": "is empty",
        "notes.tif": "is not a TIFF",
        "nan.tif": "NaN",
        "small.tif": "16",
        "channels.tif": "channel",
        "loop.tif": "cannot be opened",
        "Tag 1/back": "a folder that it lies in",
    }


def test_190_right_and_10_reported(
    tmp_path: Path,
    checkpoint: Path,
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
) -> None:
    good, broken = _write_good(tmp_path / "in"), _write_broken(tmp_path / "in")
    before = {p: p.read_bytes() for p in (tmp_path / "in").rglob("*.tif") if p.is_file()}
    result = run_job(make_job(recursive=True))

    assert {r.relative for r in result.results} == set(good) | set(broken)
    assert {r.relative for r in result.failed} == set(broken)
    assert not result.ok
    for each in result.failed:
        assert broken[each.relative] in each.reason, each
        assert not each.traceback
    _check_labels(tmp_path, checkpoint, good, result)
    with (tmp_path / "out" / "espmedsam-failures.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row["reason"] for row in csv.DictReader(file)}
    assert rows == {r.relative: r.reason for r in result.failed}
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list((tmp_path / "out").rglob(".*"))


def _check_labels(
    tmp_path: Path, checkpoint: Path, good: dict[str, tuple[int, int]], result: JobResult
) -> None:
    """Compare with the library, which sees the arrays and no file."""
    segmenter = Segmenter.from_checkpoint(checkpoint)
    request = SegmentRequest(threshold=0.5, min_size=4)
    known: dict[Any, np.ndarray] = {}
    outputs: set[Path] = set()
    for each in result.results:
        if each.state == "failed":
            continue
        key = good[each.relative]
        suffix, _, shape = KINDS[key[0]]
        if key not in known:
            pixels = _pixels(KINDS[key[0]], key[1])
            if suffix == "jpg":
                pixels = read_image(tmp_path / "in" / each.relative).array
            axes = "YXS" if shape[-1] == 3 else "ZYX"[-len(shape) :]
            options = request.segment_options() | {"axes": axes}
            options.pop("planes")
            known[key] = segmenter.segment(pixels, **options).labels
        (output,) = each.outputs
        np.testing.assert_array_equal(tifffile.imread(output), known[key], err_msg=each.relative)
        outputs.add(output)
    assert len(outputs) == N_GOOD
    assert any(labels.any() for labels in known.values())


def test_two_suffixes_of_one_name_are_kept_apart(
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
    tmp_path: Path,
) -> None:
    for name in ("a.tif", "A.TIFF", "b.tif"):
        write_image(name)
    result = run_job(make_job(report=False))
    assert result.ok
    names = sorted(p.name for p in (tmp_path / "out").glob("*_labels.tif"))
    assert names == ["A.TIFF_labels.tif", "a.tif_labels.tif", "b_labels.tif"]


@pytest.mark.skipif(os.name == "nt", reason="letter case does not tell files apart")
def test_names_that_differ_in_case_alone_are_not_mixed_up(
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
) -> None:
    write_image("a.tif"), write_image("A.tif")
    result = run_job(make_job(report=False))
    assert [r.state for r in result.results] == ["done", "failed"]
    assert re.search(r"A\.tif and .*a\.tif would both become", result.failed[0].reason)


def test_an_image_is_never_replaced_by_a_result(
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
    tmp_path: Path,
) -> None:
    a, b = write_image("a.tif"), write_image("a_labels.tif", 1)
    content = b.read_bytes()
    result = run_job(make_job(a, b, folder=tmp_path / "in", overwrite=True))
    assert [r.state for r in result.results] == ["failed", "done"]
    assert "would replace the input" in result.failed[0].reason
    assert b.read_bytes() == content

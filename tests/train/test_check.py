"""Damaged pairs and leaks between splits are found and named before training starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from training.check import check_samples, find_leaks, find_problems, pixel_digest
from training.data import Sample

SIDE = 24


def write_pair(folder: Path, name: str, split: str = "train", suffix: str = ".png") -> Sample:
    """Noise that only the name decides, and a square mask."""
    noise = np.random.default_rng(list(name.encode())).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:12, 4:12] = 255
    image_path, mask_path = folder / f"{name}{suffix}", folder / f"{name}_mask.png"
    assert cv2.imwrite(str(image_path), noise)
    assert cv2.imwrite(str(mask_path), mask)
    return Sample(name, image_path, mask_path, "xray", split, name)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    splits = ("train", "train", "val", "test")
    return [write_pair(tmp_path, f"im{i}", split) for i, split in enumerate(splits)]


def test_whole_samples_pass_in_their_order(samples: list[Sample]) -> None:
    assert find_problems(samples) == []
    assert find_leaks(samples) == []
    lines: list[str] = []
    assert check_samples(samples, report=lines.append) == samples
    assert lines == []


def test_an_empty_mask_is_no_problem(samples: list[Sample]) -> None:
    cv2.imwrite(str(samples[0].mask), np.zeros((SIDE, SIDE), np.uint8))
    assert find_problems(samples) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_a_cut_image_is_named(tmp_path: Path, suffix: str) -> None:
    sample = write_pair(tmp_path, "im", suffix=suffix)
    assert find_problems([sample]) == []
    cut(sample.image)
    (problem,) = find_problems([sample])
    assert problem.sample is sample
    assert str(sample.image) in problem.reason
    assert str(problem).startswith("im: ")


def test_a_jpeg_with_something_added_is_whole(tmp_path: Path) -> None:
    sample = write_pair(tmp_path, "im", suffix=".jpg")
    sample.image.write_bytes(sample.image.read_bytes() + b"camera" * 40)
    assert find_problems([sample]) == []


def test_every_kind_of_damage_is_found(samples: list[Sample]) -> None:
    samples[0].image.unlink()
    samples[1].mask.write_bytes(b"")
    samples[2].image.write_text("no image at all")
    cv2.imwrite(str(samples[3].mask), np.zeros((SIDE, SIDE - 1), np.uint8))
    reasons = [problem.reason for problem in find_problems(samples)]
    assert "cannot be opened (No such file" in reasons[0]
    assert "is empty (0 bytes)" in reasons[1]
    assert "cannot be read as an image" in reasons[2]
    assert "(24, 24)" in reasons[3]
    assert "(24, 23)" in reasons[3]


def test_training_refuses_damaged_pairs_unless_told(samples: list[Sample]) -> None:
    cut(samples[1].mask)
    lines: list[str] = []
    with pytest.raises(InputError, match=r"1 of 4 pairs are damaged:\s+im1: mask .*im1_mask\.png"):
        check_samples(samples, report=lines.append)
    assert len(lines) == 1
    assert "im1" in lines[0]
    left = check_samples(samples, skip_damaged=True, report=lines.append)
    assert [s.name for s in left] == ["im0", "im2", "im3"]
    assert "1 damaged pair(s) skipped, 3 left" in lines
    for sample in samples:
        sample.image.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 4 pairs"):
        check_samples(samples, skip_damaged=True, report=lines.append)


def test_a_group_in_two_splits_is_a_leak(samples: list[Sample]) -> None:
    samples = [replace(s, group="patient 7") if s.name != "im2" else s for s in samples]
    (leak,) = find_leaks(samples)
    assert str(leak) == "group 'patient 7': im0 (train), im1 (train), im3 (test)"
    with pytest.raises(InputError, match="patient 7"):
        check_samples(samples, skip_damaged=True, report=print)
    assert find_leaks([replace(s, split="train") for s in samples]) == []


def test_equal_names_of_two_sources_are_no_group(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = write_pair(tmp_path / "one", "a", "train")
    other = write_pair(tmp_path / "two", "b", "test")
    assert find_leaks([first, replace(other, name="a", group="a")]) == []


def test_one_image_in_two_containers_is_a_leak(tmp_path: Path, samples: list[Sample]) -> None:
    pixels = np.asarray(cv2.imread(str(samples[0].image)), np.uint8)
    copy = tmp_path / "copy.tif"
    cv2.imwrite(str(copy), pixels)
    leaking = Sample("copy", copy, samples[0].mask, "xray", "test", "copy")
    (leak,) = find_leaks([*samples, leaking])
    assert str(leak) == "identical pixels: im0 (train), copy (test)"
    with pytest.raises(InputError, match="identical pixels"):
        check_samples([*samples, leaking], report=print)
    same_split = replace(leaking, split="train")
    assert find_leaks([*samples, same_split]) == []
    cv2.imwrite(str(copy), 255 - pixels)
    assert find_leaks([*samples, leaking]) == []


def test_digest_sees_pixels_size_and_type_but_not_repeated_channels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert pixel_digest(grey) == pixel_digest(np.stack([grey] * 3, axis=-1))
    assert pixel_digest(grey) != pixel_digest(grey.reshape(4, 3))
    assert pixel_digest(grey) != pixel_digest(grey.astype(np.uint16))
    assert pixel_digest(grey) != pixel_digest(grey[::-1])

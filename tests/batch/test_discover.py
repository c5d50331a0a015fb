"""Which files a job finds, in which order, and what it says of those it cannot follow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_espmedsam.batch.discover import find_images, natural_key
from napari_espmedsam.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with images in two levels, and what is none."""
    for name in (
        "img10.tif", "img2.tif", "Img1.PNG", ".hidden.tif", "notes.txt", "img2_labels.tif",
        "day 1/äöü 細胞.tif", "day 1/deep/x.jpg", "out/img2.tif",
    ):  # fmt: skip
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def _names(found: object) -> list[str]:
    return [each.relative for each in found]  # type: ignore[attr-defined]


def test_a_folder_stands_for_its_images_in_natural_order(folder: Path) -> None:
    assert _names(find_images([folder])) == ["Img1.PNG", "img2.tif", "img10.tif"]


def test_folders_inside_and_the_one_of_the_results(folder: Path) -> None:
    found = find_images([folder], recursive=True, leave_out=folder / "out")
    assert _names(found) == [
        "day 1/deep/x.jpg", "day 1/äöü 細胞.tif", "Img1.PNG", "img2.tif", "img10.tif"
    ]  # fmt: skip
    assert "out/img2.tif" in _names(find_images([folder], recursive=True))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("IMG2*", ["img2.tif"]), ("*.txt", ["notes.txt"]), ("day*/*.tif", ["day 1/äöü 細胞.tif"])],
)
def test_patterns_of_a_folder(folder: Path, pattern: str, expected: list[str]) -> None:
    found = find_images([folder], recursive=True, pattern=pattern, leave_out=folder / "out")
    assert _names(found) == expected


def test_patterns_lists_and_repetitions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _names(find_images([f"{folder}/**/*.tif"])) == [
        "day 1/äöü 細胞.tif", "img2.tif", "img2_labels.tif", "img10.tif", "out/img2.tif"
    ]  # fmt: skip
    one = folder / "img2.tif"
    assert _names(find_images([one, folder / "day 1" / "deep", one])) == [
        "img2.tif", "day 1/deep/x.jpg"
    ]  # fmt: skip
    monkeypatch.chdir(folder)
    assert _names(find_images(["img2.tif", "img1*.tif"])) == ["img2.tif", "img10.tif"]


def test_a_name_with_brackets_is_a_name(folder: Path) -> None:
    (folder / "a[1].tif").write_bytes(b"x")
    assert _names(find_images([folder / "a[1].tif"])) == ["a[1].tif"]


def test_a_link_to_a_folder_it_lies_in_is_said_once(folder: Path) -> None:
    (folder / "day 1" / "back").symlink_to(folder, target_is_directory=True)
    found = find_images([folder], recursive=True, leave_out=folder / "out")
    problems = [each for each in found if each.problem]
    assert len(found) == 6
    assert [each.relative for each in problems] == ["day 1/back"]
    assert "a folder that it lies in" in problems[0].problem


def test_a_link_elsewhere_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "y.tif").write_bytes(b"x")
    (folder / "day 1" / "more").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert "day 1/more/y.tif" in _names(find_images([folder], recursive=True))


def test_a_folder_that_cannot_be_read_is_a_problem_and_the_rest_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = find_images([folder], recursive=True)
    assert {each.relative: bool(each.problem) for each in found} == {
        "day 1/deep": True, "day 1/äöü 細胞.tif": False, "Img1.PNG": False, "img2.tif": False,
        "img10.tif": False, "out/img2.tif": False,
    }  # fmt: skip


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        find_images([tmp_path])
    with pytest.raises(InputError, match="no file fits"):
        find_images([tmp_path / "*.tif"])


@given(st.lists(st.integers(0, 10**6)))
def test_natural_order_is_that_of_the_numbers(numbers: list[int]) -> None:
    names = sorted((f"x {number}.tif" for number in numbers), key=natural_key)
    assert names == [f"x {number}.tif" for number in sorted(numbers)]


def test_a_common_folder_tells_equal_names_apart(tmp_path: Path) -> None:
    for name in ("a/x.tif", "b/x.tif"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    found = find_images([os.fspath(tmp_path / "a"), os.fspath(tmp_path / "b" / "x.tif")])
    assert _names(found) == ["a/x.tif", "b/x.tif"]

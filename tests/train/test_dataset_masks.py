"""Masks from polygons, soft drawings and several files, and the templates that find files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from training.datasets.layout import Dataset, Part, find_pairs
from training.datasets.masks import foreground, make_mask, read_pixels
from training.datasets.polygons import draw_labels, read_polygons
from training.datasets.table import DATASETS


def outline(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float)


def rectangle(y0: float, x0: float, y1: float, x1: float) -> np.ndarray:
    return outline((y0, x0), (y0, x1), (y1, x1), (y1, x0))


def test_a_polygon_covers_what_it_encloses() -> None:
    labels = draw_labels([rectangle(2, 3, 5, 9)], (10, 12))
    expected = np.zeros((10, 12), np.uint16)
    expected[2:6, 3:10] = 1
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, expected)


def test_a_nucleus_inside_another_stays_visible() -> None:
    for order in (1, -1):
        labels = draw_labels([rectangle(6, 6, 8, 8), rectangle(2, 2, 15, 15)][::order], (20, 20))
        assert labels[3, 3] == 1
        assert (labels == 2).sum() == 9


def test_polygons_beyond_the_border_are_cut_off() -> None:
    labels = draw_labels([rectangle(-50, -3, 4, 2.5), rectangle(90, 90, 99, 99)], (10, 12))
    assert np.array_equal(np.argwhere(labels).max(axis=0), [4, 2])
    huge = draw_labels([rectangle(-1e7, -1e7, 1e7, 1e7)], (10, 12))
    assert (huge == 1).all()


def test_odd_outlines_do_no_harm(tmp_path: Path) -> None:
    point = '<Vertex X="4" Y="4"/>'
    eight = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((0, 0), (8, 8), (8, 0), (0, 8)))
    closed = "".join(
        f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((20, 1), (24, 1), (24, 5), (20, 5), (20, 1))
    )
    regions = ["", point, point * 2, point * 5, eight, closed]
    path = tmp_path / "a.xml"
    path.write_text(
        "<Annotations>" + "".join(f"<Region>{r}</Region>" for r in regions) + "</Annotations>"
    )
    outlines = read_polygons(path)
    assert len(outlines) == 3
    labels = draw_labels(outlines, (12, 30))
    assert labels[1, 20:24].all()
    assert not labels[:, 25:].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<Annotations><Region>", "cannot be read as XML"),
        ("<svg/>", "holds <svg>, not <Annotations>"),
        ('<Annotations><Region><Vertex X="1"/></Region></Annotations>', "region 1: a vertex lacks"),
        ('<Annotations><Region><Vertex X="1" Y="nan"/></Region></Annotations>', "not finite"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_polygons(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], [False, True]),
        ([0, 1], [False, True]),
        ([0, 0], [False, False]),
        ([0, 7], [False, True]),  # two values: a drawing in another grey
        ([0, 100, 255], [False, False, True]),  # a soft border
        ([0, 127, 128, 255], [False, False, True, True]),
    ],
)
def test_foreground_of_hard_and_soft_masks(values: list[int], expected: list[bool]) -> None:
    grey = np.array([values], np.uint8)
    assert foreground(grey).tolist() == [expected]
    assert foreground(np.stack([grey * 0, grey * 0, grey], axis=-1)).tolist() == [expected]
    assert foreground(grey.astype(np.uint16) * 257).tolist() == [expected]


def test_alpha_is_no_foreground(tmp_path: Path) -> None:
    pixels = np.zeros((6, 6, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[2:4, 2:4, :3] = 255
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), pixels)
    mask = make_mask("mask", [path], path)
    assert mask is not None
    assert (mask > 0).sum() == 4
    assert read_pixels(path).shape == (6, 6, 3)


def test_masks_of_one_image_must_agree_in_size(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), np.zeros((6, 6 + i), np.uint8))
    with pytest.raises(InputError, match=r"b\.png is \(6, 7\) px and the masks before it \(6, 6\)"):
        make_mask("mask", paths, paths[0])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    for name in ("a.gif", "a.ppm.gz", "a.png", "a.tif"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            read_pixels(tmp_path / name)


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_templates_at_any_depth_and_without_what_macs_add(tmp_path: Path) -> None:
    touch(tmp_path, "x/y/im/1.png", "x/y/gt/1.png", "x/y/im/b.png", "x/y/im/._1.png")
    touch(tmp_path, "__MACOSX/im/1.png", "__MACOSX/gt/1.png", "out/im/2.png", "out/gt/2.png")
    dataset = Dataset("T", "xray", 1, (Part("im/{number}.png", ("gt/{number}.*",)),))
    pairs, lonely = find_pairs(dataset, tmp_path, tmp_path / "out")
    assert [pair.image for pair in pairs] == [tmp_path / "x/y/im/1.png"]
    assert pairs[0].masks == (tmp_path / "x/y/gt/1.png",)
    assert lonely == []


def test_every_mask_template_must_have_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "im/a.png", "im/b.png", "left/a.png", "right/a.png", "left/b.png")
    part = Part("im/{id}.png", ("left/{id}.png", "right/{id}.png"))
    pairs, lonely = find_pairs(Dataset("T", "xray", 1, (part,)), tmp_path, tmp_path / "out")
    assert [pair.image.name for pair in pairs] == ["a.png"]
    assert [path.name for path in lonely] == ["b.png"]


def test_masks_beside_the_image_come_before_others(tmp_path: Path) -> None:
    touch(tmp_path, "B/im/1.png", "A/gt/1.png", "B/gt/1.png")
    dataset = Dataset("T", "xray", 1, (Part("im/{number}.png", ("gt/{number}.png",)),))
    (pair,), _ = find_pairs(dataset, tmp_path, tmp_path / "out")
    assert pair.masks == (tmp_path / "B/gt/1.png",)
    (tmp_path / "B/gt/1.png").unlink()
    (pair,), _ = find_pairs(dataset, tmp_path, tmp_path / "out")
    assert pair.masks == (tmp_path / "A/gt/1.png",)


def test_the_29_sequences_of_clinicdb_are_whole() -> None:
    group = DATASETS["cvc_clinicdb"].group
    names = [group(Path(f"Original/{i}.tif")) for i in range(1, 613)]
    assert len(set(names)) == 29
    assert names == sorted(names)
    assert [names.count(f"sequence {i:02d}") for i in (1, 4, 10, 29)] == [25, 11, 6, 21]

"""Every named set, prepared from a miniature of the folders that its owners' archives unpack to."""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_espmedsam.errors import InputError, OutputError
from training.check import check_samples, find_leaks
from training.data import Sample, read_pair
from training.datasets.prepare import prepare
from training.datasets.table import DATASETS
from training.manifest import read_manifest

H, W = 20, 26
Mask = NDArray[np.bool_]
Truth = dict[str, Mask]
Builder = Callable[[Path], Truth]

BUILDERS: dict[str, Builder] = {}


def builder(function: Builder) -> Builder:
    BUILDERS[function.__name__] = function
    return function


def box(y: int, x: int, height: int = 6, width: int = 5) -> Mask:
    mask = np.zeros((H, W), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def square(i: int) -> Mask:
    return box(i % 12, i % 17)


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    """Write by the suffix, as the owners do; masks are 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    if path.suffix == ".gz":
        Image.fromarray(array).save(path.with_suffix(""))
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        path.with_suffix("").unlink()
    else:
        Image.fromarray(array).save(path)


def picture(path: Path) -> None:
    """An image unlike any other: its path decides the pixels."""
    rng = np.random.default_rng(list(path.as_posix().encode()))
    save(path, rng.integers(0, 255, (H, W, 3), np.uint8))


@builder
def isic2018(root: Path) -> Truth:
    truth = {}
    for k, (part, n) in enumerate({"Training": 8, "Validation": 1, "Test": 2}.items()):
        for i in range(n):
            name = f"ISIC_{k}00000{i}"
            truth[name] = square(i)
            picture(root / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg")
            folder = root / f"ISIC2018_Task1_{part}_GroundTruth"
            save(folder / f"{name}_segmentation.png", truth[name])
        (root / f"ISIC2018_Task1-2_{part}_Input" / "ATTRIBUTION.txt").write_text("-")
    return truth


@builder
def ph2(root: Path) -> Truth:
    truth = {f"IMD00{i}": square(i) for i in range(4)}
    for name, mask in truth.items():
        folder = root / "PH2Dataset" / "PH2 Dataset images" / name
        picture(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        save(folder / f"{name}_lesion" / f"{name}_lesion.bmp", mask)
        save(folder / f"{name}_roi" / f"{name}_Label1.bmp", ~mask)
    return truth


@builder
def pcxa(root: Path) -> Truth:
    montgomery, shenzhen = root / "MontgomerySet", root / "ChinaSet_AllFiles"
    truth = {}
    for i in range(3):
        name = f"MCUCXR_000{i}_{i % 2}"
        left, right = box(i, 2), box(i + 3, 15)
        truth[name] = left | right
        picture(montgomery / "CXR_png" / f"{name}.png")
        save(montgomery / "ManualMask" / "leftMask" / f"{name}.png", left)
        save(montgomery / "ManualMask" / "rightMask" / f"{name}.png", right)
    for i in range(3):
        name = f"CHNCXR_000{i}_0"
        truth[name] = square(i)
        picture(shenzhen / "CXR_png" / f"{name}.png")
        save(root / "mask" / f"{name}_mask.png", truth[name])
    picture(shenzhen / "CXR_png" / "CHNCXR_0099_1.png")  # as many of this set, without a mask
    return truth


@builder
def nih_cxr(root: Path) -> Truth:
    truth = {f"NIH_000{i}": square(i) for i in range(5)}
    for name, mask in truth.items():
        picture(root / "NIH" / "images" / f"{name}.png")
        save(root / "NIH" / "masks" / f"{name}_mask.png", mask)
    return truth


@builder
def drive(root: Path) -> Truth:
    truth = {}
    for folder, numbers in {"training": range(21, 29), "test": range(1, 4)}.items():
        for i in numbers:
            truth[f"{i:02d}_{folder}"] = square(i)
            picture(root / "DRIVE" / folder / "images" / f"{i:02d}_{folder}.tif")
            save(root / "DRIVE" / folder / "mask" / f"{i:02d}_{folder}_mask.gif", ~square(0))
            save(root / "DRIVE" / folder / "1st_manual" / f"{i:02d}_manual1.gif", square(i))
            save(root / "DRIVE" / folder / "2nd_manual" / f"{i:02d}_manual2.gif", ~square(i))
    return truth


def write_stare(root: Path) -> tuple[Truth, Truth]:
    first, second = {}, {}
    for i in range(5):
        name = f"im000{i}"
        first[name], second[name] = square(i), square(i + 1)
        picture(root / "stare-images" / f"{name}.ppm.gz")
        save(root / "labels-ah" / f"{name}.ah.ppm.gz", first[name])
        save(root / "labels-vk" / f"{name}.vk.ppm.gz", second[name])
    return first, second


@builder
def stare(root: Path) -> Truth:
    return write_stare(root)[0]


@builder
def stare_vk(root: Path) -> Truth:
    return write_stare(root)[1]


@builder
def cvc_clinicdb(root: Path) -> Truth:
    truth = {}
    for i in (1, 25, 26, 50, 51, 103, 104, 612):
        truth[str(i)] = square(i)
        picture(root / "CVC-ClinicDB" / "Original" / f"{i}.tif")
        save(root / "CVC-ClinicDB" / "Ground Truth" / f"{i}.tif", square(i))
    return truth


@builder
def cvc_colondb(root: Path) -> Truth:
    truth = {}
    for i in (1, 2, 25, 26, 51, 380):
        truth[str(i)] = square(i)
        soft = square(i) * 200 + box(0, 20) * 90  # soft borders: 90 is background
        picture(root / "CVC-ColonDB" / "images" / f"{i}.png")
        save(root / "CVC-ColonDB" / "masks" / f"{i}.png", soft.astype(np.uint8))
    return truth


@builder
def udiat(root: Path) -> Truth:
    truth = {f"00000{i}": square(i) for i in range(1, 6)}
    for name, mask in truth.items():
        picture(root / "BUS" / "original" / f"{name}.png")
        save(root / "BUS" / "GT" / f"{name}.png", mask)
    (root / "BUS" / "DatasetB.xlsx").write_bytes(b"-")
    return truth


@builder
def busi(root: Path) -> Truth:
    folder = root / "Dataset_BUSI_with_GT"
    truth = {f"{kind} (1)": square(3) for kind in ("benign", "malignant")}
    truth["benign (2)"] = box(1, 1) | box(10, 12)
    truth["normal (1)"] = np.zeros((H, W), bool)
    for name, mask in truth.items():
        kind = name.split()[0]
        picture(folder / kind / f"{name}.png")
        save(folder / kind / f"{name}_mask.png", box(1, 1) if name == "benign (2)" else mask)
    save(folder / "benign" / "benign (2)_mask_1.png", box(10, 12))
    return truth


@builder
def dsb2018(root: Path) -> Truth:
    truth = {}
    for name in ("0a1b", "2c3d", "4e5f"):
        folder = root / "stage1_train" / name
        picture(folder / "images" / f"{name}.png")
        for k, nucleus in enumerate((box(1, 1), box(1, 6), box(12, 3))):
            save(folder / "masks" / f"{k}f{name}.png", nucleus)
        truth[name] = box(1, 1) | box(1, 6) | box(12, 3)
    return truth


@builder
def tnbc(root: Path) -> Truth:
    truth = {}
    for slide in (1, 2, 3):
        for i in (1, 2):
            name = f"{slide:02d}_{i}"
            truth[name] = square(slide + i)
            picture(root / "TNBC_NucleiSegmentation" / f"Slide_{slide:02d}" / f"{name}.png")
            labels = truth[name].astype(np.uint8) * (7 + i)
            save(root / "TNBC_NucleiSegmentation" / f"GT_{slide:02d}" / f"{name}.png", labels)
    return truth


def annotation(*regions: list[tuple[float, float]]) -> str:
    """XML of ImageScope with one region per outline of (x, y)."""
    text = "".join(
        '<Region Id="1"><Attributes/><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in region)
        + "</Vertices></Region>"
        for region in regions
    )
    return f"<Annotations><Annotation><Regions>{text}</Regions></Annotation></Annotations>"


@builder
def monuseg(root: Path) -> Truth:
    truth = {}
    train = root / "MoNuSeg 2018 Training Data" / "MoNuSeg 2018 Training Data"
    places = [(train / "Tissue Images", train / "Annotations", f"TCGA-18-000{i}") for i in range(4)]
    test = root / "MoNuSegTestData"
    places += [(test, test, f"TCGA-2Z-000{i}") for i in range(2)]
    for i, (images, outlines, patient) in enumerate(places):
        name = f"{patient}-01Z-00-DX1"
        truth[name] = box(i, 3, 6, 8)
        picture(images / f"{name}.tif")
        outlines.mkdir(parents=True, exist_ok=True)
        outline = [(3.0, i), (10.0, i), (10.0, i + 5.0), (3.0, i + 5.0)]
        (outlines / f"{name}.xml").write_text(annotation(outline))
    return truth


def prepared(name: str, tmp_path: Path) -> tuple[list[Sample], Truth, list[str]]:
    truth = BUILDERS[name](tmp_path / "archive")
    lines: list[str] = []
    manifest = prepare(name, tmp_path / "archive", tmp_path / "out", report=lines.append)
    return read_manifest(manifest), truth, lines


def splits(samples: list[Sample]) -> Counter[str]:
    return Counter(sample.split for sample in samples)


def test_every_set_has_a_miniature() -> None:
    assert BUILDERS.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", DATASETS)
def test_prepared_sets_hold_the_masks_of_the_archive(tmp_path: Path, name: str) -> None:
    samples, truth, _ = prepared(name, tmp_path)
    assert check_samples(samples, report=print) == samples
    assert [sample.name for sample in samples] == sorted(truth)
    for sample in samples:
        image, mask = read_pair(sample)
        assert image.shape == (H, W, 3)
        assert np.array_equal(mask, truth[sample.name]), sample.name
    assert {sample.modality for sample in samples} == {DATASETS[name].modality}
    assert splits(samples).keys() >= {"train", "val", "test"}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("udiat", 0),
        ("ph2", 0),
        ("isic2018", 0),
        ("tnbc", 0),
        ("drive", 11),
        ("pcxa", 3),
        ("busi", 1),
    ],
)
def test_masks_are_written_only_where_needed(tmp_path: Path, name: str, written: int) -> None:
    samples, _, _ = prepared(name, tmp_path)
    assert sum(s.mask.parent.resolve() == tmp_path / "out" / "masks" for s in samples) == written
    assert len(list(tmp_path.glob("out/masks/*"))) == written
    assert not (tmp_path / "out" / "images").exists()


def test_images_that_training_cannot_read_are_converted(tmp_path: Path) -> None:
    samples, _, _ = prepared("stare", tmp_path)
    packed = (tmp_path / "archive" / "stare-images" / "im0000.ppm.gz").read_bytes()
    original = np.asarray(Image.open(io.BytesIO(gzip.decompress(packed))))
    assert np.array_equal(read_pair(samples[0])[0], original)


def test_owners_splits_stay(tmp_path: Path) -> None:
    of = {s.name: s.split for s in prepared("isic2018", tmp_path)[0]}
    assert Counter(of.values()) == {"train": 8, "val": 1, "test": 2}
    assert {name for name, split in of.items() if split == "test"} == {
        "ISIC_2000000",
        "ISIC_2000001",
    }


@pytest.mark.parametrize("name", ["drive", "monuseg"])
def test_val_comes_from_train_where_the_owners_name_none(tmp_path: Path, name: str) -> None:
    samples, _, _ = prepared(name, tmp_path)
    mark = "test" if name == "drive" else "TCGA-2Z"
    assert all((s.split == "test") == (mark in s.name) for s in samples)
    assert splits(samples)["val"] == 1


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("tnbc", {f"tnbc-Slide_0{i}": 2 for i in (1, 2, 3)}),
        ("cvc_clinicdb", {f"cvc_clinicdb-sequence {i:02d}": n for i, n in
                          ((1, 2), (2, 2), (3, 1), (5, 1), (6, 1), (29, 1))}),
        ("cvc_colondb", {"cvc_colondb-frames 1-25": 3, "cvc_colondb-frames 26-50": 1,
                         "cvc_colondb-frames 51-75": 1, "cvc_colondb-frames 376-400": 1}),
        ("ph2", {f"IMD00{i}": 1 for i in range(4)}),
    ],
)  # fmt: skip
def test_groups_are_what_the_paths_tell(tmp_path: Path, name: str, groups: dict[str, int]) -> None:
    samples, _, _ = prepared(name, tmp_path)
    assert Counter(s.group for s in samples) == groups
    of_group = defaultdict(set)
    for sample in samples:
        of_group[sample.group].add(sample.split)
    assert all(len(found) == 1 for found in of_group.values())


def test_patients_are_told_by_their_number(tmp_path: Path) -> None:
    groups = {s.group for s in prepared("pcxa", tmp_path / "a")[0]}
    assert {"pcxa-MCUCXR_0001", "pcxa-CHNCXR_0002"} <= groups
    assert "monuseg-TCGA-18-0003" in {s.group for s in prepared("monuseg", tmp_path / "b")[0]}


def test_instances_keep_their_numbers(tmp_path: Path) -> None:
    samples, _, _ = prepared("dsb2018", tmp_path)
    labels = np.asarray(cv2.imread(str(samples[0].mask), cv2.IMREAD_UNCHANGED))
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, box(1, 1) * 1 + box(1, 6) * 2 + box(12, 3) * 3)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    _, _, lines = prepared("pcxa", tmp_path)
    assert "left out, no mask: 1 image(s): CHNCXR_0099_1.png" in lines
    assert any("6 pairs (the complete set has 704)" in line for line in lines)
    assert any("manifest.csv: " in line and "train" in line for line in lines)


def test_the_older_drive_archive_and_the_new_one_without_test_manuals(tmp_path: Path) -> None:
    drive(tmp_path / "archive")
    for path in tmp_path.glob("archive/DRIVE/test/1st_manual/*"):
        path.unlink()
    lines: list[str] = []
    manifest = prepare("drive", tmp_path / "archive", tmp_path / "out", report=lines.append)
    assert splits(read_manifest(manifest)) == {"train": 7, "val": 1}
    assert lines[0].startswith("left out, no mask: 3 image(s): 01_test.tif")


def test_the_owners_archive_of_colondb(tmp_path: Path) -> None:
    for i in range(1, 4):
        picture(tmp_path / "CVC-ColonDB" / f"{i}.bmp")
        for kind in "psc":
            save(tmp_path / "CVC-ColonDB" / f"{kind}{i}.bmp", square(i if kind == "p" else 9))
    lines: list[str] = []
    manifest = prepare("cvc_colondb", tmp_path, tmp_path / "out", report=lines.append)
    for sample in read_manifest(manifest):
        assert np.array_equal(read_pair(sample)[1], square(int(sample.name)))
    assert "left out" not in "".join(lines)


def test_preparing_twice_gives_the_same(tmp_path: Path) -> None:
    """Also where the results lie inside the folder that is searched."""
    cvc_colondb(tmp_path)
    out = tmp_path / "CVC-ColonDB" / "prepared"
    first = prepare("cvc_colondb", tmp_path, out, report=print).read_text()
    (out / "images").mkdir()
    picture(out / "images" / "7.png")
    assert prepare("cvc_colondb", tmp_path, out, report=print).read_text() == first


def test_identical_images_get_one_group(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    names = [f"0000{i:02d}" for i in range(1, 21)]
    for i, name in enumerate(names):
        save(root / "GT" / f"{name}.png", square(i))
        picture(root / "original" / f"{name}.png")
        if i % 2:
            pixels = (root / "original" / f"{names[i - 1]}.png").read_bytes()
            (root / "original" / f"{name}.png").write_bytes(pixels)
    samples = read_manifest(prepare("udiat", root, tmp_path / "out", report=print))
    assert len({s.group for s in samples}) == 10
    assert find_leaks(samples) == []
    assert splits(samples) == {"train": 14, "val": 2, "test": 4}


def test_a_test_image_is_left_out_of_train(tmp_path: Path) -> None:
    isic2018(tmp_path / "archive")
    folder = tmp_path / "archive" / "ISIC2018_Task1-2_Training_Input"
    twin = tmp_path / "archive" / "ISIC2018_Task1-2_Test_Input" / "ISIC_2000001.jpg"
    (folder / "ISIC_0000003.jpg").write_bytes(twin.read_bytes())
    lines: list[str] = []
    manifest = prepare("isic2018", tmp_path / "archive", tmp_path / "out", report=lines.append)
    assert splits(read_manifest(manifest)) == {"train": 7, "val": 1, "test": 2}
    assert "left out of train: ISIC_0000003, in test too (identical pixels)" in lines


def test_damaged_pairs_are_named_or_skipped(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "out"
    stare(root)
    for path in (root / "stare-images" / "im0001.ppm.gz", root / "labels-ah" / "im0003.ah.ppm.gz"):
        path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"2 of 5 pairs are damaged(.|\n)*im0001\.ppm\.gz cannot"):
        prepare("stare", root, out, report=print)
    assert not (out / "manifest.csv").exists()
    manifest = prepare("stare", root, out, skip_damaged=True, report=print)
    assert [s.name for s in read_manifest(manifest)] == ["im0000", "im0002", "im0004"]


def test_absent_sets_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training/images/\{number\}_training\.tif  with  tra"):
        prepare("drive", tmp_path, tmp_path / "out", report=print)
    with pytest.raises(InputError, match="absent is no folder"):
        prepare("drive", tmp_path / "absent", tmp_path / "out", report=print)
    with pytest.raises(InputError, match=r"unknown data set 'drvie'. Did you mean drive\?"):
        prepare("drvie", tmp_path, tmp_path / "out", report=print)
    picture(tmp_path / "training" / "images" / "21_training.tif")
    with pytest.raises(InputError, match=r"\(1 images without a mask\)"):
        prepare("drive", tmp_path, tmp_path / "out", report=print)


def test_a_set_that_lies_there_twice_is_refused(tmp_path: Path) -> None:
    udiat(tmp_path / "copy 1")
    udiat(tmp_path / "copy 2")
    with pytest.raises(InputError, match=r"in 2 places: .*copy 1/BUS, .*copy 2/BUS"):
        prepare("udiat", tmp_path, tmp_path / "out", report=print)


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    udiat(tmp_path / "archive")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        prepare("udiat", tmp_path / "archive", tmp_path / "file", report=print)
    drive(tmp_path / "archive")
    with pytest.raises(OutputError, match="cannot write"):
        prepare("drive", tmp_path / "archive", tmp_path / "file", report=print)


def test_the_guide_lists_every_set_with_its_size() -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "data.md"
    rows = re.findall(r"^\| `(\w+)` \|(?:[^|]*\|){2} (\d+) \|", guide.read_text(), re.MULTILINE)
    assert {name: int(pairs) for name, pairs in rows} == {n: d.pairs for n, d in DATASETS.items()}

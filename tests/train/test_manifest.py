"""Manifests: what is read, what is refused and how, and splits that keep groups together."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path, PurePath

import pytest

from napari_espmedsam.errors import InputError, OutputError
from training.data import Sample
from training.manifest import assign_splits, read_manifest, unique_names, write_manifest

HEADER = "image,mask,modality,split,group\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_become_samples(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEADER + 'a.png , masks/a.png,fundus,train,p1\n\n"b, left.png",/m/b.png,fundus,val,\n',
    )
    assert read_manifest(path) == [
        Sample("a", tmp_path / "a.png", tmp_path / "masks/a.png", "fundus", "train", "p1"),
        Sample("b, left", tmp_path / "b, left.png", Path("/m/b.png"), "fundus", "val", "b, left"),
    ]


def test_order_of_columns_byte_order_mark_and_absent_group(tmp_path: Path) -> None:
    text = "split,image,mask,modality\r\ntest,ä.png,m.png,xray\r\n"
    (sample,) = read_manifest(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert (sample.name, sample.split, sample.group) == ("ä", "test", "ä")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty.*image,mask,modality,split,group"),
        ("\n , \n", r"is empty"),
        (HEADER, r"no rows"),
        (HEADER.replace("group", "patient"), r"line 1: unknown column\(s\): 'patient'"),
        ("image,mask,split\n", r"line 1: missing column\(s\): 'modality'"),
        ("image,mask,modality,split,mask\n", r"repeated column\(s\): 'mask'"),
        (HEADER.replace(",", ";"), r"Separate the values with commas"),
        (HEADER + "a,b,c,train,\nd,e,f,valid,\n", r"line 3: unknown split 'valid'; use train, val"),
        (HEADER + "a,b,c,train\n", r"line 2: 4 values under 5 columns"),
        (HEADER + "a,b,,train,\n", r"line 2: modality is empty"),
        (HEADER + "a.png,b,c,train,\n./a.png,b,c,val,\n", r"line 3: image './a.png' is in line 2"),
        (b"image,mask\na\xe4.png,m\n", r"line 2: byte 0xe4 is not UTF-8"),
        (HEADER.encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
        (HEADER + "x" * 200_000, r"line 2: field larger than"),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv cannot be read"):
        read_manifest(tmp_path / "absent.csv")


def test_all_bad_lines_are_counted_and_ten_shown(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,m.png,xray,oops,\n" for i in range(13))
    with pytest.raises(InputError) as caught:
        read_manifest(write(tmp_path, HEADER + "ok.png,m.png,xray,train,\n" + rows))
    text = str(caught.value)
    assert "13 wrong line(s)" in text
    assert "line 3:" in text
    assert "line 12:" in text
    assert "line 13:" not in text
    assert "and 3 more" in text


def test_a_written_manifest_reads_back(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "new" / "out"
    samples = [
        Sample("a", data / "a, 1.png", out / "masks" / "a.png", "fundus", "train", "p"),
        Sample("ü", data / "ü.png", data / "m.png", "fundus", "test", "ü"),
        Sample("b", data / "b.png", data / "n.png", "fundus", "val", "c"),
        Sample("c", data / "c.png", data / "o.png", "fundus", "val", "c"),
    ]
    write_manifest(out / "manifest.csv", samples)
    lines = (out / "manifest.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1] == '"../../data/a, 1.png",masks/a.png,fundus,train,p'
    assert lines[2].endswith(",test,")  # nothing known: left empty
    assert lines[4].endswith(",val,c")  # its own name, but b shares it
    back = read_manifest(out / "manifest.csv")
    assert [s.image.resolve() for s in back] == [s.image for s in samples]
    assert [s.mask.resolve() for s in back] == [s.mask for s in samples]
    assert [(s.split, s.group) for s in back] == [(s.split, s.group) for s in samples]


def test_paths_stay_right_when_the_folder_is_a_link(tmp_path: Path) -> None:
    real = tmp_path / "deep" / "down" / "real"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "a.png").touch()
    write_manifest(
        tmp_path / "link" / "m.csv",
        [Sample("a", tmp_path / "a.png", tmp_path / "a.png", "xray", "train", "a")],
    )
    assert read_manifest(tmp_path / "link" / "m.csv")[0].image.is_file()


def test_a_failed_write_keeps_the_old_manifest(tmp_path: Path) -> None:
    path = write(tmp_path, "old")
    with pytest.raises(AttributeError):
        write_manifest(path, [Sample("a", Path("a"), Path("b")), None])  # type: ignore[list-item]
    assert path.read_text() == "old"
    with pytest.raises(OutputError, match="cannot write"):
        write_manifest(path / "below_a_file" / "m.csv", [])


def people(n: int, images_each: int = 1) -> list[Sample]:
    return [
        Sample(f"{g}-{i}", Path(f"{g}-{i}.png"), Path("m"), "xray", "", f"patient {g}")
        for g in range(n)
        for i in range(images_each)
    ]


def test_splits_keep_groups_and_fractions() -> None:
    samples = assign_splits(people(40, images_each=5))
    counts = Counter(s.split for s in samples)
    assert counts == {"train": 140, "val": 20, "test": 40}
    assert all(len({s.split for s in samples if s.group == g.group}) == 1 for g in samples)


def test_splits_do_not_depend_on_the_order_but_on_the_seed() -> None:
    samples = people(30)
    shuffled = samples.copy()
    random.Random(1).shuffle(shuffled)
    first = {s.name: s.split for s in assign_splits(samples)}
    assert {s.name: s.split for s in assign_splits(shuffled)} == first
    assert [s.name for s in assign_splits(shuffled)] == [s.name for s in shuffled]
    assert {s.name: s.split for s in assign_splits(samples, seed=1)} != first


def test_no_wanted_split_stays_empty() -> None:
    for seed in range(5):
        assert Counter(s.split for s in assign_splits(people(3), seed=seed)) == {
            "train": 1,
            "val": 1,
            "test": 1,
        }
    two = Counter(s.split for s in assign_splits(people(9), (0.9, 0.1, 0.0)))
    assert two == {"train": 8, "val": 1}
    assert [s.split for s in assign_splits(people(2, 3), (0.0, 0.0, 1.0))] == ["test"] * 6
    assert assign_splits([]) == []


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.1), (1.2, -0.2, 0.0)])
def test_wrong_fractions_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="add up to 1"):
        assign_splits(people(3), fractions)


def test_names_take_as_many_folders_as_they_need() -> None:
    def names(*paths: str) -> list[str]:
        return unique_names([PurePath(path) for path in paths])

    assert names("x/a.png", "y/b.png") == ["a", "b"]
    assert names("x/a.png", "y/a.png") == ["x_a", "y_a"]
    assert names("x/a.png", "x/a.tif") == ["x_a.png", "x_a.tif"]
    assert names() == []

"""``napari-espmedsam slide``: the estimate first, then the labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def slide_file(tmp_path: Path) -> Path:
    """Return a tiled RGB TIFF of 300 x 280 px with some tissue."""
    rng = np.random.default_rng(0)
    pixels = np.full((300, 280, 3), 240, np.uint8)
    pixels[60:200, 80:220] = rng.integers(60, 200, (140, 140, 3))
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128), compression="zlib")
    return path


@pytest.fixture
def slide(run: Run, slide_file: Path, tmp_path: Path, checkpoint: Path) -> Run:
    """Run ``slide`` on the file with the tiny model."""

    def invoke(*options: object) -> Result:
        model = ("-m", checkpoint, "--modality", "microscopy")
        return run("slide", slide_file, "-o", tmp_path / "out.zarr", *model, *options)

    return invoke


def test_a_dry_run_prints_the_estimate_and_writes_nothing(slide: Run, tmp_path: Path) -> None:
    result = slide("--dry-run")
    assert result.exit_code == 0, result.stderr
    words = [line.split()[0] for line in result.stdout.splitlines()]
    assert words == ["slide", "time", "memory", "disk"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["slide.tif"]


def test_labels_come_after_the_estimate(slide: Run, tmp_path: Path) -> None:
    import zarr

    result = slide("--objects", "mask", "--threshold", "0.01", "--intensity", "0,255")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1].endswith(f"-> {tmp_path / 'out.zarr'}")
    labels = np.asarray(zarr.open_group(str(tmp_path / "out.zarr"), mode="r")["0"])
    assert labels.shape == (300, 280)
    assert set(np.unique(labels)) <= {0, 1}
    again = slide()
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_a_finished_run_has_nothing_to_resume(slide: Run, tmp_path: Path) -> None:
    options = ("--objects", "mask", "--intensity", "0,255", "--resume")
    assert slide(*options, "--format", "csv").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = slide(*options)
    assert again.exit_code == 0, again.stderr
    assert "finished before" in again.stdout
    both = slide(*options, "--format", "csv", "--format", "csv")
    assert both.exit_code == 0, both.stderr
    assert f"{tmp_path / 'out.csv'} exists already and is left as it is" in both.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    added = slide(*options, "--format", "csv", "--format", "geojson")
    assert added.exit_code == 0, added.stderr
    assert (tmp_path / "out.geojson").is_file()
    other = slide(*options, "--threshold", "0.3")
    assert other.exit_code == 2
    assert "was made with another request" in other.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", "mine", "exists already"),
        (".zgroup", '{"zarr_format": 2}', "is not the result of a slide"),
        (".zattrs", "{", "is damaged"),
    ],
)
def test_what_is_no_finished_result(
    slide: Run, tmp_path: Path, name: str, content: str, told: str
) -> None:
    folder = tmp_path / "out.zarr"
    folder.mkdir()
    if name == ".zattrs":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / name).write_text(content)
    for formats in ((), ("--format", "csv")):
        result = slide("--resume", *formats)
        assert result.exit_code == 2, result.output
        assert told in result.stderr


def test_an_unfinished_run_wants_a_word(slide: Run, tmp_path: Path) -> None:
    (tmp_path / "out.zarr.partial").mkdir()
    result = slide()
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert slide("--resume").exit_code == 0


def test_a_range_that_is_none(slide: Run) -> None:
    for wrong in ("5", "9,3", "a,b"):
        result = slide("--intensity", wrong)
        assert result.exit_code == 2
        assert f"intensity is {wrong!r}" in result.stderr


def test_a_disk_that_is_too_small(
    slide: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    result = slide()
    assert result.exit_code == 2
    assert "are free" in result.stderr
    assert not (tmp_path / "out.zarr").exists()


def test_objects_are_written_beside_the_labels(slide: Run, tmp_path: Path) -> None:
    import csv
    import json

    import zarr
    from shapely.geometry import shape

    options = ("--threshold", "0.01", "--intensity", "0,255", "--no-tissue", "--objects", "objects")
    (tmp_path / "out.csv").write_text("mine")
    refused = slide(*options, "--format", "csv")
    assert refused.exit_code == 2
    assert "out.csv exists already" in refused.stderr
    assert not (tmp_path / "out.zarr").exists()
    (tmp_path / "out.csv").unlink()
    result = slide(*options, "--format", "geojson", "-f", "csv")
    assert result.exit_code == 0, result.stderr
    assert f"-> {tmp_path / 'out.zarr'}, {tmp_path / 'out.geojson'}" in result.stdout
    labels = np.asarray(zarr.open_group(str(tmp_path / "out.zarr"), mode="r")["0"])
    areas = {n: int((labels == n).sum()) for n in range(1, labels.max() + 1)}
    assert areas
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = {int(row["label"]): int(row["area_px"]) for row in csv.DictReader(file)}
    assert rows == areas
    found = json.loads((tmp_path / "out.geojson").read_text())
    shapes = {int(f["properties"]["name"]): shape(f["geometry"]) for f in found["features"]}
    assert {n: each.area for n, each in shapes.items()} == areas
    assert found["napari-espmedsam"]["input"] == "slide.tif"
    # The labels stand already: what is missing beside them is written, and nothing computed.
    before = (tmp_path / "out.geojson").read_bytes()
    (tmp_path / "out.geojson").unlink()
    again = slide(*options, "--resume", "--format", "geojson")
    assert again.exit_code == 0, again.stderr
    assert "finished before" in again.stdout
    assert (tmp_path / "out.geojson").read_bytes() == before
    (tmp_path / "out.geojson").unlink()
    other = slide(*options, "--resume", "--format", "geojson", "--min-size", "5")
    assert other.exit_code == 2
    assert "was made with another request" in other.stderr


def test_a_format_that_slides_do_not_have(slide: Run, tmp_path: Path) -> None:
    result = slide("--format", "roi")
    assert result.exit_code == 2
    assert "a slide cannot be written as 'roi'; choose out of geojson, csv" in result.stderr
    assert not (tmp_path / "out.zarr").exists()

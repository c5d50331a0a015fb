"""``demo``, ``info``, ``models`` and ``import``."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from napari_espmedsam import samples
from napari_espmedsam.cli import viewer
from napari_espmedsam.cli.demo import fresh_folder
from napari_espmedsam.cli.options import parse_planes
from napari_espmedsam.cli.score import score_labels
from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.labels import read_provenance

Run = Callable[..., Result]
FILES = [
    f"{sample}_{kind}"
    for sample in ("he_field", "nuclei_stack")
    for kind in ("labels.tif", "objects.csv", "overlay.png")
]


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the samples small enough for a test."""
    stack, field = samples.nuclei_stack, samples.he_field

    def small_stack(**options: Any) -> Any:
        return stack(shape=(2, 64, 80), **options)

    def small_field(**options: Any) -> Any:
        return field(shape=(64, 80), **options)

    monkeypatch.setattr(samples, "nuclei_stack", small_stack)
    monkeypatch.setattr(samples, "he_field", small_field)


@pytest.mark.usefixtures("small_samples")
def test_demo_writes_labels_overlays_and_tables(run: Run, tmp_path: Path, checkpoint: Path) -> None:
    result = run("demo", "-o", tmp_path / "demo", "--no-gui", "-m", checkpoint)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == FILES
    labels = read_image(tmp_path / "demo" / "nuclei_stack_labels.tif")
    assert labels.axes == "ZYX"
    assert labels.spacing == pytest.approx(dict(zip("ZYX", samples.STACK_SPACING, strict=True)))
    record = read_provenance(tmp_path / "demo" / "he_field_labels.tif")
    assert record is not None
    assert record["modality"] == "microscopy"
    assert record["post"]["output"] == "split"
    with (tmp_path / "demo" / "nuclei_stack_objects.csv").open(newline="") as file:
        n_rows = len(list(csv.DictReader(file)))
    assert n_rows == len(np.unique(labels.array[labels.array > 0]))
    assert re.search(r"sample +planted +found +extra +Dice +seconds", result.stdout)
    assert re.search(r"nuclei_stack +\d+ +\d+ +\d+ +[01]\.\d{3}", result.stdout)
    assert str(tmp_path / "demo") in result.stdout


@pytest.mark.usefixtures("small_samples")
def test_demo_without_a_display_says_so(
    run: Run, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    result = run("demo", "-o", tmp_path / "demo", "-m", checkpoint)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("napari is not opened: there is no display")


def test_demo_with_bad_weights_leaves_no_folder(run: Run, tmp_path: Path) -> None:
    result = run("demo", "-o", tmp_path / "demo", "-m", tmp_path / "none.safetensors")
    assert result.exit_code == 2
    assert "none.safetensors" in result.stderr
    assert not (tmp_path / "demo").exists()


def test_demo_folders_are_numbered(tmp_path: Path) -> None:
    wanted = tmp_path / "demo"
    assert fresh_folder(wanted) == wanted
    wanted.mkdir()
    (tmp_path / "demo-2").mkdir()
    assert fresh_folder(wanted) == tmp_path / "demo-3"


def test_what_the_viewer_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    outcome = subprocess.CompletedProcess([], 1, "", "qt.qpa: no display :99\nAvailable: ...\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: outcome)
    assert "cannot open a window (qt.qpa: no display :99)" in (viewer.missing_for_viewer() or "")
    outcome = subprocess.CompletedProcess([], 1, "", "Traceback ...\nQtBindingsNotFoundError: no\n")
    assert "QtBindingsNotFoundError: no" in (viewer.missing_for_viewer() or "")
    outcome = subprocess.CompletedProcess([], 0, "", "")
    assert viewer.missing_for_viewer() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "napari-espmedsam[all]" in (viewer.missing_for_viewer() or "")


def test_demo_layers_stand_side_by_side() -> None:
    components = pytest.importorskip("napari.components")
    from napari_espmedsam.cli.demo import Sample

    truth = np.zeros((2, 32, 40), np.uint32)
    truth[:, 4:9, 4:9] = 1
    stack = Sample(
        "stack", truth * 9, "ZYX", {"Z": 1.5, "Y": 0.5, "X": 0.5}, truth, truth, {"n": 1}, 0.1
    )
    rgb = np.zeros((32, 40, 3), np.uint8)
    field = Sample("field", rgb, "YXS", {"Y": 0.5, "X": 0.5}, truth[0], truth[0], {}, 0.1)
    model = components.ViewerModel()
    viewer.add_layers(model, [stack, field])
    assert [layer.name for layer in model.layers] == [
        "stack",
        "stack labels",
        "field",
        "field labels",
    ]
    assert model.layers["field"].rgb
    np.testing.assert_array_equal(model.layers["stack labels"].data, truth)
    assert model.layers["stack labels"].metadata == {"napari-espmedsam": {"n": 1}}
    assert model.layers["stack"].extent.world[1][-1] < model.layers["field"].extent.world[0][-1]
    for image, labels in (("stack", "stack labels"), ("field", "field labels")):
        np.testing.assert_allclose(model.layers[image].scale, model.layers[labels].scale)
        np.testing.assert_allclose(model.layers[image].translate, model.layers[labels].translate)


def test_score_counts_matches() -> None:
    truth = np.zeros((2, 20, 20), np.uint32)
    truth[:, 2:8, 2:8] = 5
    truth[0, 12:18, 12:18] = 9
    labels = np.zeros_like(truth)
    labels[0, 2:8, 2:8] = 1  # found
    labels[0, 12:18, 12:14] = 2  # a third of the object: missed, and extra
    labels[1, 2:8, 3:8] = 3  # found
    score = score_labels(labels, truth)
    assert (score.planted, score.found, score.extra) == (3, 2, 1)
    assert score.dice == pytest.approx(2 * (36 + 12 + 30) / (36 + 12 + 30 + 108))
    nothing = np.zeros((20, 20), np.uint32)
    assert score_labels(nothing, nothing) == (0, 0, 0, 1.0)
    assert score_labels(truth, truth)[:3] == (3, 3, 0)


def test_planes_are_parsed() -> None:
    assert parse_planes("0, 4,7-9") == (0, 4, 7, 8, 9)
    for text in ("", "a", "1-", "-1", "1,,2"):
        with pytest.raises(InputError, match="ranges, separated by commas"):
            parse_planes(text)


def test_models_lists_the_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("models")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    licence = re.escape("CC-BY-NC-SA-4.0 (research only)")
    assert re.fullmatch(rf"espmedsam +\d+\.\d MB  {licence}", lines[0])
    assert "  ESP-MedSAM for six modalities. For research only." in lines
    assert re.search(r"^ +xray: +lungs$", result.stdout, re.MULTILINE)
    assert max(map(len, lines)) <= 80


def test_info_of_a_checkpoint(run: Run, checkpoint: Path) -> None:
    result = run("info", checkpoint)
    assert result.exit_code == 0, result.output
    for expected in ("tiny", "CC0-1.0", "esp_medsam_test", "none, random weights", "Device: "):
        assert expected in result.stdout
    assert re.search(r"dermoscopy: .*scale 1.0.*threshold 0.5", result.stdout)


@pytest.mark.parametrize("name", ["no_such_model", "no/such.safetensors"])
def test_info_of_nothing(run: Run, name: str) -> None:
    result = run("info", name)
    assert result.exit_code == 2
    assert name in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("esp_medsam_published", r"esp_medsam_published +6 +28\.51 M +56\.7"),
        ("med_fastsam_published", r"med_fastsam_published +\d +14\.48 M +69\.1 +11\.9"),
    ],
)
def test_info_counts_the_published_models(run: Run, name: str, expected: str) -> None:
    result = run("info", name)
    assert result.exit_code == 0, result.output
    assert re.search(expected, result.stdout)
    assert re.search(r"encoder +[\d.]+ M +5[45]\.\d", result.stdout)


@pytest.fixture
def fake_import(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """Let the importer give the tiny model for a file named good.pth and refuse any other."""
    from napari_espmedsam.model import published_fast
    from napari_espmedsam.model.checkpoint import load_checkpoint

    def fake(path: Path, modality: str) -> Any:
        if path.name != "good.pth":
            raise CheckpointError(f"{path.name} does not fit the model. missing: a, b.")
        loaded = load_checkpoint(checkpoint)
        assert modality == "microscopy"
        return loaded.model, loaded.header

    monkeypatch.setattr(published_fast, "import_authors_file", fake)


@pytest.mark.usefixtures("fake_import")
def test_import_writes_a_checkpoint(run: Run, tmp_path: Path) -> None:
    from napari_espmedsam.model.checkpoint import read_header

    target = tmp_path / "mine.safetensors"
    command = ("import", "good.pth", "--modality", "microscopy", "-o", target)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert re.match(r"good\.pth -> .*mine\.safetensors  esp_medsam_test, microscopy", result.stdout)
    assert read_header(target).name == "tiny"
    before = target.read_bytes()
    result = run(*command)
    assert result.exit_code == 2
    assert "exists already; pass --overwrite" in result.stderr
    assert target.read_bytes() == before
    assert run(*command, "--overwrite").exit_code == 0


@pytest.mark.usefixtures("fake_import")
def test_import_refuses(run: Run, tmp_path: Path) -> None:
    for file, target, message in (
        ("bad.pth", "mine.safetensors", "missing: a, b"),
        ("good.pth", "mine.pth", "does not end in .safetensors"),
    ):
        result = run("import", file, "--modality", "microscopy", "-o", tmp_path / target)
        assert result.exit_code == 2
        assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_import_of_what_is_no_checkpoint(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("day 1")
    target = tmp_path / "mine.safetensors"
    result = run("import", tmp_path / "notes.pth", "--modality", "microscopy", "-o", target)
    assert result.exit_code == 2
    assert "notes.pth" in result.stderr
    assert not target.exists()


def test_no_command_shows_the_commands(run: Run) -> None:
    text = run().output
    for name in ("segment", "demo", "info", "models", "import"):
        assert name in text

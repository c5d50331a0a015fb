"""``segment``: label files, one line each, and a sentence for all that goes wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import Result
from PIL import Image

from napari_espmedsam.cli.files import expand_inputs, plan_outputs
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.labels import read_provenance

Run = Callable[..., Result]
LINE = re.compile(r"^(.+?)  (\w+ [\dx ]+\d)  (\d+ objects?|[\d.]+ % foreground)  [\d.]+ s -> (.+)$")


def _noise(shape: tuple[int, ...], dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def _write(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    return path


@pytest.fixture
def segment(run: Run, checkpoint: Path, tmp_path: Path) -> Run:
    """Run ``segment`` with the tiny model into ``tmp_path/out``."""

    def invoke(*arguments: object, modality: str = "microscopy") -> Result:
        fixed = ("-o", tmp_path / "out", "--model", checkpoint, "--modality", modality)
        return run("segment", *arguments, *fixed)

    return invoke


def _written(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "out")) if (tmp_path / "out").exists() else []


def test_stack_gives_an_imagej_stack_of_labels(segment: Run, tmp_path: Path) -> None:
    metadata = {"axes": "TZCYX", "unit": "um", "spacing": 2.0}
    path = _write(
        tmp_path / "a.tif",
        _noise((2, 3, 2, 40, 48)),
        imagej=True,
        resolution=(4, 4),
        metadata=metadata,
    )
    result = segment(path, "--channel", 1, "--min-size", 0, "--threshold", 0.01)
    assert result.exit_code == 0, result.output
    labels = read_image(tmp_path / "out" / "a_labels.tif")
    assert labels.axes == "TZYX"
    assert labels.array.shape == (2, 3, 40, 48)
    assert labels.array.any()
    assert labels.spacing == pytest.approx({"Z": 2.0, "Y": 0.25, "X": 0.25})


def test_one_line_for_each_file(segment: Run, tmp_path: Path, image: Path) -> None:
    Image.fromarray(_noise((40, 48, 3), np.uint8)).save(tmp_path / "he.png")
    result = segment(image, tmp_path / "he.png")
    assert result.exit_code == 0, result.output
    lines = [LINE.match(line) for line in result.stdout.splitlines()]
    assert all(lines)
    assert [line.group(1, 2, 4) for line in lines if line] == [
        (str(image), "YX 40 x 48", str(tmp_path / "out" / "cells_labels.tif")),
        (str(tmp_path / "he.png"), "YXS 40 x 48 x 3", str(tmp_path / "out" / "he_labels.tif")),
    ]


def test_the_number_in_the_line_is_that_in_the_file(
    segment: Run, tmp_path: Path, image: Path
) -> None:
    for output in ("split", "objects", "mask"):
        result = segment(image, "--objects", output, "--overwrite", "--min-size", 0)
        line = LINE.match(result.stdout.strip())
        assert line is not None, result.output
        labels = read_image(tmp_path / "out" / "cells_labels.tif").array
        if output == "mask":
            assert set(np.unique(labels)) <= {0, 1}
            assert line[3] == f"{100 * labels.mean():.1f} % foreground"
        else:
            assert int(line[3].split()[0]) == len(np.unique(labels[labels > 0]))


def test_settings_reach_the_model_and_the_record(segment: Run, tmp_path: Path, image: Path) -> None:
    result = segment(
        image, "--diameter", 10, "--threshold", 0.3, "--min-size", 5, modality="dermoscopy"
    )
    assert result.exit_code == 0, result.output
    record = read_provenance(tmp_path / "out" / "cells_labels.tif")
    assert record is not None
    assert record["scale"] == 2.0
    assert record["modality"] == "dermoscopy"
    assert record["post"]["threshold"] == 0.3
    assert record["post"]["min_size"] == 5
    assert record["model"] == "tiny"
    assert len(record["weights_sha256"]) == 64
    assert record["input"] == "cells.tif"


def test_same_labels_as_the_library(
    segment: Run, tmp_path: Path, image: Path, checkpoint: Path
) -> None:
    from napari_espmedsam import Segmenter

    assert segment(image).exit_code == 0
    expected = Segmenter.from_checkpoint(checkpoint).segment(
        tifffile.imread(image), "microscopy", axes="YX"
    )
    found = read_image(tmp_path / "out" / "cells_labels.tif").array
    np.testing.assert_array_equal(found, expected.labels)


def test_some_planes_only(segment: Run, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", _noise((4, 40, 48)))
    options = ("--threshold", 0.01, "--min-size", 0, "--objects", "mask")
    assert segment(path, "--planes", "0,2-3", *options).exit_code == 0
    labels = read_image(tmp_path / "out" / "a_labels.tif").array
    assert [bool(plane.any()) for plane in labels] == [True, False, True, True]


def test_an_ome_zarr_folder_is_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    folder.mkdir()
    (folder / ".zgroup").touch()
    (plan,) = plan_outputs(expand_inputs([str(folder)]), tmp_path / "out")
    assert plan == (folder, tmp_path / "out" / "a_labels.tif")


def test_folders_and_patterns(segment: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("b.tif", "a.tif", ".hidden.tif", "old_labels.tif"):
        _write(folder / name, _noise((40, 48)))
    (folder / "notes.txt").write_text("x")
    result = segment(folder)
    assert result.exit_code == 0, result.output
    assert _written(tmp_path) == ["a_labels.tif", "b_labels.tif"]
    result = segment(str(folder / "a*.tif"), "--overwrite")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1


def test_names_with_brackets_are_not_patterns(segment: Run, tmp_path: Path) -> None:
    path = _write(tmp_path / "a[1].tif", _noise((40, 48)))
    assert segment(path).exit_code == 0
    assert _written(tmp_path) == ["a[1]_labels.tif"]


# --- one bad file does not stop the others ---------------------------------------------------


def test_a_bad_file_is_reported_and_the_rest_goes_on(
    segment: Run, tmp_path: Path, image: Path
) -> None:
    (tmp_path / "notes.tif").write_text("day 1")
    result = segment(tmp_path / "notes.tif", image, tmp_path / "missing.tif")
    assert result.exit_code == 2
    assert _written(tmp_path) == ["cells_labels.tif"]
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert "notes.tif is not a TIFF" in errors[0]
    assert "missing.tif does not exist" in errors[1]
    assert errors[2] == "2 of 3 files failed."


def _truncated(path: Path) -> None:
    _write(path, _noise((5, 40, 48)), metadata=None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty file": (lambda p: p.touch(), r"empty \(0 bytes\)"),
    "text": (lambda p: p.write_text("fed the cells"), "not a TIFF"),
    "truncated": (_truncated, "cut short or damaged"),
    "one pixel": (lambda p: _write(p, _noise((1, 1))), r"1 x 1 px.*16 px"),
    "constant": (lambda p: _write(p, np.full((40, 48), 7, np.uint8)), "All pixels .* are 7"),
    "nan": (lambda p: _write(p, np.full((40, 48), np.nan, np.float32)), "1920 NaN or infinite"),
    "inf": (lambda p: _write(p, np.full((40, 48), np.inf, np.float32)), "1920 NaN or infinite"),
    "bool": (lambda p: _write(p, np.ones((40, 48), bool)), "type bool"),
    "complex": (lambda p: _write(p, np.ones((40, 48), np.complex64)), "type complex64"),
    "6-d": (lambda p: _write(p, _noise((2, 2, 2, 2, 40, 48))), r"\(2, 2, 2, 2, 40, 48\)"),
    "two channels": (
        lambda p: _write(p, _noise((2, 40, 48)), imagej=True, metadata={"axes": "CYX"}),
        "2 channels.*channel=0 to 1",
    ),
    "five channels": (
        lambda p: _write(p, _noise((5, 40, 48)), imagej=True, metadata={"axes": "CYX"}),
        "5 channels.*channel=0 to 4",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_images(segment: Run, tmp_path: Path, kind: str) -> None:
    make, message = BAD[kind]
    make(tmp_path / "bad.tif")
    result = segment(tmp_path / "bad.tif")
    assert result.exit_code == 2, result.output
    assert "bad.tif" in result.stderr
    assert re.search(message, result.stderr)
    assert "Traceback" not in result.output
    assert _written(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threshold", 3), "threshold is 3, outside 0.01 to 0.99"),
        (("--diameter", 10, "--pixel-size", 0.5), "Give one of them"),
        (("--objects", "cells"), "output is 'cells'.*mask, objects, split"),
        (("--tile", 50), "50"),
        (("--planes", "0;1"), "planes is '0;1'"),
        (("--device", "tpu"), "'tpu' is not available"),
        (("--min-size", "few"), "min_size is 'few'. Give a whole number"),
        (("--threshold", "nan"), "threshold is nan"),
        (("--pixel-size", 0.5), "pixel"),
        (("--channel", 4), "channel is 4"),
        (("--axes", "ZZ"), "'ZZ'"),
        (("--planes", "7"), "1 plane"),
    ],
)
def test_bad_settings(
    segment: Run, tmp_path: Path, image: Path, options: tuple[object, ...], message: str
) -> None:
    result = segment(image, *options)
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr)
    assert _written(tmp_path) == []


def test_a_modality_that_the_model_lacks(segment: Run, tmp_path: Path, image: Path) -> None:
    result = segment(image, modality="xray")
    assert result.exit_code == 2
    assert re.search("'xray'.*microscopy, dermoscopy", result.stderr)
    assert _written(tmp_path) == []


def test_a_modality_that_must_be_chosen_is_asked_for_before_the_model_is_loaded(
    run: Run, tmp_path: Path, image: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam import Segmenter

    monkeypatch.setattr(Segmenter, "from_checkpoint", lambda **_: pytest.fail("loaded"))
    result = run("segment", image, "-o", tmp_path / "out", "--model", checkpoint)
    assert result.exit_code == 2
    assert re.search("No modality is given.*'tiny'.*microscopy, dermoscopy", result.stderr)
    assert _written(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "value"), [("diameter", 20), ("pixel-size", 0.5), ("scale", 2), ("tile", 64)]
)
def test_a_setting_without_effect_is_refused_once_for_all_files(
    run: Run, tmp_path: Path, image: Path, whole_checkpoint: Path, option: str, value: float
) -> None:
    fixed = ("-o", tmp_path / "out", "--model", whole_checkpoint, f"--{option}", value)
    result = run("segment", image, image, *fixed)
    assert result.exit_code == 2
    name = option.replace("-", "_")
    assert re.match(rf"Error: {name} is given, and .* as a whole.* Leave it out\.", result.stderr)
    assert len(result.stderr.splitlines()) == 1
    assert _written(tmp_path) == []


@pytest.mark.parametrize("kind", ["truncated", "text", "foreign", "missing", "pth", "unknown"])
def test_bad_checkpoints(
    run: Run, tmp_path: Path, image: Path, checkpoint: Path, kind: str
) -> None:
    path = tmp_path / f"weights.{'pth' if kind == 'pth' else 'safetensors'}"
    if kind == "truncated":
        path.write_bytes(checkpoint.read_bytes()[:5000])
    elif kind in ("text", "pth"):
        path.write_text("no weights")
    elif kind == "foreign":
        from safetensors.numpy import save_file

        save_file({"a": np.zeros(3)}, path)
    result = run(
        "segment", image, "-o", tmp_path / "out", "-m", "nothing" if kind == "unknown" else path
    )
    assert result.exit_code == 2, result.output
    assert ("nothing" if kind == "unknown" else path.name) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert _written(tmp_path) == []


# --- files that are there already ------------------------------------------------------------


def test_existing_results_are_kept_unless_told(segment: Run, tmp_path: Path, image: Path) -> None:
    target = tmp_path / "out" / "cells_labels.tif"
    target.parent.mkdir()
    target.write_text("my own work")
    result = segment(image)
    assert result.exit_code == 2
    assert "exists already; pass --overwrite" in result.stderr
    assert target.read_text() == "my own work"
    assert segment(image, "--overwrite").exit_code == 0
    assert read_image(target).array.shape == (40, 48)


def test_two_inputs_with_one_output(segment: Run, tmp_path: Path, image: Path) -> None:
    (tmp_path / "other").mkdir()
    other = _write(tmp_path / "other" / "CELLS.tif", _noise((40, 48)))
    result = segment(image, other)
    assert result.exit_code == 2
    assert f"{image} and {other} would both become" in result.stderr
    assert _written(tmp_path) == []


def test_a_result_never_replaces_an_input(run: Run, tmp_path: Path, image: Path) -> None:
    labels = _write(tmp_path / "cells_labels.tif", _noise((40, 48)))
    before = labels.read_bytes()
    result = run("segment", image, labels, "-o", tmp_path, "--overwrite")
    assert result.exit_code == 2
    assert "would replace the input" in result.stderr
    assert labels.read_bytes() == before


def test_output_folder_that_cannot_be_made(run: Run, tmp_path: Path, image: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = run("segment", image, "-o", tmp_path / "out" / "deep")
    assert result.exit_code == 2
    assert "choose another output folder" in result.stderr
    assert (tmp_path / "out").read_text() == "a file"


def test_output_folder_that_cannot_be_written(
    run: Run, tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    result = run("segment", image, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert re.search(r"out \(Permission denied\); choose an output folder", result.stderr)


def test_a_full_disk_leaves_nothing(
    segment: Run, tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = segment(image)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert _written(tmp_path) == []


def test_an_empty_folder_and_an_idle_pattern(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for given in (tmp_path / "in", tmp_path / "in" / "*.tif"):
        result = run("segment", given, "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert str(given) in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_fault_of_ours_keeps_its_traceback(
    segment: Run, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.io import images

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(images, "read_image", broken)
    assert isinstance(segment(image).exception, ZeroDivisionError)


# --- as a program ----------------------------------------------------------------------------


def _program(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    code = "from napari_espmedsam.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def test_program_ends_with_2_and_a_sentence(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "notes.tif").write_text("day 1")
    done = _program(
        "segment", "notes.tif", "-o", "out", "-m", checkpoint, "--modality", "microscopy",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: notes.tif is not a TIFF")
    assert "Traceback" not in done.stderr


def test_help_and_version_load_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom napari_espmedsam.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    for arguments in (["--version"], ["segment", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "napari-espmedsam" in done.stdout


def test_every_field_of_the_request_is_an_option(run: Run) -> None:
    from napari_espmedsam.inference.request import request_options

    text = run("segment", "--help").stdout
    for info in request_options():
        assert all(flag in text for flag in info.flags), info.name

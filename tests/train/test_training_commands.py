"""``python -m training``: commands in the order in which people use them, and their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_espmedsam.errors import EspMedSamError
from training.__main__ import app, main

RECIPE = """
name = "tiny"
architecture = "esp_medsam_test"
warm_start = "none"
crop = 64
batch_size = 2
steps = 2
precision = "float32"
device = "cpu"
threads = 1
licence = "Apache-2.0"
data_licence = "made by the test"
[modalities.microscopy]
packs = ["discs"]
input = { geometry = "tiled", size = 64 }
"""


def _run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_from_a_recipe_to_a_table(tmp_path: Path, pack: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    run, weights = tmp_path / "run", tmp_path / "tiny.safetensors"
    assert "best weights" in _run("finetune", "--config", recipe, "--out", run, "--steps", 1)
    with pytest.raises(EspMedSamError, match="another config"):
        _run("finetune", "--config", recipe, "--out", run, "--resume")
    _run("export", "--run", run, "--out", weights, "--threshold", "microscopy=0.4")

    csv, table, sheet = (tmp_path / f"val.{kind}" for kind in ("csv", "md", "png"))
    arguments = ["--checkpoint", weights, "--pack", pack.name, "--split", "val"]
    arguments += ["--modality", "microscopy"]
    shown = _run("evaluate", *arguments, "--csv", csv, "--table", table, "--sheet", sheet)
    assert "n | mean Dice" in shown
    assert len(csv.read_text().splitlines()) == 2
    assert "0.4" in csv.read_text()
    assert sheet.stat().st_size > 0
    again = tmp_path / "again.md"
    _run("table", "--csv", csv, "--out", again)
    assert again.read_text() == table.read_text()
    assert "median of 4 images" in _run("stats", "--pack", pack.name)


def test_mistakes_become_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["finetune", "--config", str(tmp_path / "no.toml"), "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["training", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "There is no training config" in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "run").exists()
    with pytest.raises(EspMedSamError, match="--pack or --manifest"):
        _run("evaluate", "--checkpoint", "espmedsam")
    with pytest.raises(EspMedSamError, match="MODALITY=VALUE"):
        _run("export", "--run", tmp_path, "--out", tmp_path / "x", "--threshold", "0.4")

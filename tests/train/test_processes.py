"""Runs in processes of their own: killed without warning, and shared by two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from training.run import load_state

ROOT = Path(__file__).resolve().parents[2]
STEPS = 24  # of the run that is killed: it ends long after its first state is saved

RECIPE = """
name = "tiny"
architecture = "esp_medsam_test"
warm_start = "none"
crop = 64
batch_size = 4
group_size = 1
steps = {steps}
precision = "float32"
batch_norm = "{batch_norm}"
device = "cpu"
validate_every = 4
save_every = 2
threads = 1
licence = "Apache-2.0"
data_licence = "made by the test"
optimiser = {{ warmup_steps = 2 }}
[modalities.microscopy]
packs = ["discs"]
input = {{ geometry = "tiled", size = 64 }}
[modalities.dermoscopy]
packs = ["discs"]
input = {{ geometry = "whole", size = 64 }}
"""


def _recipe(folder: Path, steps: int, batch_norm: str = "train") -> Path:
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(steps=steps, batch_norm=batch_norm))
    return path


def _command(recipe: Path, out: Path, *more: str, launcher: tuple[str, ...] = ()) -> list[str]:
    start = launcher or ("-m",)
    arguments = ["training", "finetune", "--config", str(recipe), "--out", str(out), *more]
    return [sys.executable, *start, *arguments]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    state = load_state(folder)
    assert state is not None
    assert state["step"] == json.loads((folder / "run.json").read_text())["config"]["steps"]
    weights: dict[str, torch.Tensor] = state["average"]
    return weights


@pytest.mark.slow
@pytest.mark.usefixtures("pack")
def test_a_run_killed_without_warning_resumes_to_the_same_weights(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, steps=STEPS)
    _run(_command(recipe, tmp_path / "whole"))

    out = tmp_path / "killed"
    process = subprocess.Popen(
        _command(recipe, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not (out / "state.pt").is_file():
        assert process.poll() is None, "the run ended before its first state was saved"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(0.05)  # somewhere inside a later step, or inside a write
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    state: dict[str, Any] | None = load_state(out)
    assert state is not None
    assert state["step"] < STEPS

    _run(_command(recipe, out, "--resume"))
    whole, killed = _weights(tmp_path / "whole"), _weights(out)
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    best = [load_state(tmp_path / run, "best.pt") for run in ("whole", "killed")]
    assert best[0] is not None
    assert best[1] is not None
    assert best[0]["step"] == best[1]["step"]
    curves = [(tmp_path / run / "curve.csv").read_text() for run in ("whole", "killed")]
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.usefixtures("pack")
def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, steps=4, batch_norm="frozen")
    _run(_command(recipe, tmp_path / "one"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    _run(_command(recipe, tmp_path / "two", launcher=launcher))
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name].float(), two[name].float(), atol=2e-4), name

"""``benchmarks/cuda_speed.py`` needs a card and says so; its table holds what was measured."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cuda_speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the script as Python does when it is run: its folder comes first."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("engine", "published_forward", "cuda_speed"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import cuda_speed

    return cuda_speed


def test_without_a_card_it_refuses(cuda_speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    app = typer.Typer()
    app.command()(cuda_speed.main)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "finds no CUDA card here" in result.stderr
    assert "NVIDIA GPU" in result.stderr
    assert result.stdout == ""


def test_each_form_is_compared_with_the_authors_of_its_round(cuda_speed: ModuleType) -> None:
    seconds = {
        "authors' way, one": [0.010, 0.020, 0.030],
        "ours, one": [0.005, 0.005, 0.005],
        "authors' way, batches of 8": [0.004, 0.004, 0.004],
        "ours, batches": [0.002, 0.001, 0.004],
    }
    rows = cuda_speed.table(seconds)
    assert rows[0] == "| authors' way, one | 20.00 | 50.0 | 1.00 (1.00 to 1.00) |"
    assert rows[1] == "| ours, one | 5.00 | 200.0 | 4.00 (2.00 to 6.00) |"
    assert rows[3] == "| ours, batches | 2.00 | 500.0 | 2.00 (1.00 to 4.00) |"


def test_its_forms_compute_what_they_count(
    cuda_speed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(cuda_speed, "ARCHITECTURE", "esp_medsam_test")
    monkeypatch.setattr(cuda_speed, "published_forward", lambda *_: None)
    forms = cuda_speed.make_forms(64, "float32", images=3, batch=2, device="cpu")
    assert [form() for form in forms.values()] == [1, 1, 2, 3]
    assert {len(each) for each in cuda_speed.alternate(forms, 2).values()} == {2}

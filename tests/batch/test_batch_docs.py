"""The Python examples of the guide run as they stand, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_espmedsam import weights

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "batch.md"


def test_examples_of_the_guide_run(
    write_image: Callable[..., Path],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = weights.WeightEntry("espmedsam", ("microscopy",), ("nuclei",), "", "", checkpoint)
    monkeypatch.setattr(weights, "_read_index", lambda _: (entry,))
    write_image("../plates/a.tif"), write_image("../plates/day 1/b.tif", 1)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), {})
    assert "100%" in capsys.readouterr().out
    assert (tmp_path / "results" / "espmedsam-report.html").is_file()
    assert (tmp_path / "results" / "day 1" / "b_labels.csv").is_file()

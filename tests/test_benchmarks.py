"""The scripts that measure: that they take turns, survive failures, and made what the docs say."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("compare", "engine", "page", "published_forward", "scaling", "startup", "subjects")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """Scripts as they see each other: their folder is where they import from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        names = (*SCRIPTS, "turns")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
        for name in names:
            patch.delitem(sys.modules, name, raising=False)


class Player:
    """Takes 2 s, or 1 s; the ill ones fail when they are made or in their second turn."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.turns = name, log, 0

    def ready(self) -> tuple[int, float | None]:
        if self.name == "never made":
            raise RuntimeError("failed: no memory")
        return 3_000_000, 50.0

    def go(self) -> float:
        self.log.append(self.name)
        self.turns += 1
        if self.name == "falls ill" and self.turns == 2:
            raise RuntimeError("failed: its process ended")
        return 1.0 if self.name == "fast" else 2.0

    def close(self) -> None:
        self.log.append(f"closed {self.name}")


def test_networks_take_turns_and_a_failure_stays_in_its_row(scripts: SimpleNamespace) -> None:
    log: list[str] = []
    names = ["slow", "never made", "falls ill", "fast"]
    slow, never, ill, fast = scripts.turns.take_turns(names, lambda n: Player(n, log), 3)
    assert log[:6] == ["slow", "falls ill", "fast", "slow", "falls ill", "fast"]
    assert log[6:8] == ["slow", "fast"]
    assert log[8:] == [f"closed {name}" for name in names]
    assert never.problem == "failed: no memory"
    assert ill.problem == "failed: its process ended"
    assert fast.ratios(slow) == [2.0, 2.0, 2.0]
    assert (fast.parameters, fast.memory) == (3_000_000, 50.0)


def test_a_slow_network_sits_out(scripts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.turns, "ENOUGH", 3)
    slow, fast = scripts.turns.take_turns(["slow", "fast"], lambda n: Player(n, []), 3)
    assert (len(slow.seconds), len(fast.seconds)) == (2, 3)
    assert slow.ratios(fast) == [0.5, 0.5]


def _play(turns: ModuleType, subject: Any, n: int) -> list[Any]:
    """Let a player of a process of its own play here: what it sends, `n` turns."""
    ours, theirs = Pipe()
    image = np.zeros((1, 3, 64, 64), np.float32)
    player = threading.Thread(target=turns._play, args=(theirs, subject.name, image, 1, False))
    player.start()
    heard = [ours.recv()]
    for _ in range(n):
        ours.send("go")
        heard.append(ours.recv())
    ours.close()
    player.join(20)
    assert not player.is_alive()
    return heard


def test_a_player_tells_what_a_network_costs(
    scripts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[int, ...]] = []

    def make(image: torch.Tensor) -> tuple[Any, int]:
        return lambda: passes.append(tuple(image.shape)), 7

    def break_down(image: torch.Tensor) -> tuple[Any, int]:
        raise MemoryError("no room | at all")

    well, ill = (scripts.subjects.Subject(f.__name__, "mask", f) for f in (make, break_down))
    monkeypatch.setattr(scripts.subjects, "SUBJECTS", (well, ill))
    (parameters, memory), *seconds = _play(scripts.turns, well, 2)
    assert parameters == 7
    assert memory is None or memory >= 0
    assert all(each >= 0 for each in seconds)
    assert passes == [(1, 3, 64, 64)] * 3  # one for the memory
    assert _play(scripts.turns, ill, 0) == ["MemoryError: no room / at all"]


@pytest.mark.parametrize(("code", "why"), [(-9, "too little memory?"), (1, "exit code 1")])
@pytest.mark.parametrize("method", ["ready", "go"])
def test_a_process_that_the_system_ends_is_told_of(
    scripts: SimpleNamespace, method: str, code: int, why: str
) -> None:
    worker = scripts.turns.Worker.__new__(scripts.turns.Worker)
    worker._pipe, theirs = Pipe()
    worker._process = SimpleNamespace(join=lambda seconds: None, exitcode=code)
    theirs.close()
    with pytest.raises(RuntimeError, match=f"its process ended \\({re.escape(why)}"):
        getattr(worker, method)()


def test_one_command_makes_table_times_and_plot(
    scripts: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare = scripts.compare
    monkeypatch.setattr(compare, "Worker", lambda name, *_: Player(name, []))
    compare.main(size=64, rounds=2, threads=1, only=["engine", "StarDist"], out=tmp_path)
    text = capsys.readouterr().out
    assert (tmp_path / "compare.md").read_text().strip() == text.strip()
    assert "| ESP-MedSAM, engine | mask | 3.0 | 1.00 (1.00 to 1.00) | 2.00" in text
    assert "authors' forward |" not in text
    row = next(line for line in text.splitlines() if "StarDist" in line)
    assert "not installed" in row or "1.00" in row
    first = text.splitlines()[0]
    assert "64 x 64 px" in first
    assert f"torch {torch.__version__.split('+')[0]}" in first
    assert len((tmp_path / "compare.csv").read_text().splitlines()) % 2 == 1  # 2 rounds, a header
    assert (tmp_path / "compare.png").stat().st_size > 5000


def test_mobile_sams_encoder_keeps_its_map_and_has_sams_neck(scripts: SimpleNamespace) -> None:
    name = "MobileSAM's encoder (timm)"
    (subject,) = (each for each in scripts.subjects.SUBJECTS if each.name == name)
    with torch.inference_mode():
        run, parameters = subject.make(torch.rand(1, 3, 64, 64))
        assert run().shape == (1, 256, 4, 4)
    assert 5e6 < parameters < 6e6


def test_quality_is_read_from_the_model_cards(scripts: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "| set | mean Dice |\n|---|---|\n| x | 0.1 |\n\n"
        "| set | test images | mean Dice |\n|---|---|---|\n| a | 3 | 0.75 |\n| b | 4 | 0.9 |\n\n"
        "| c | 9 | 0.2 |\n"
    )
    assert scripts.compare.quality("a", tmp_path) == "0.750 to 0.900 (2 sets)"
    for name in ("espmedsam", "medfastsam"):
        assert scripts.compare.quality(name).endswith("sets)")


def test_a_part_of_a_page_is_replaced_and_nothing_else(
    scripts: SimpleNamespace, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n")
    scripts.page.write_part("a", "new", page)
    assert page.read_text() == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"
    assert scripts.page.read_part("a", page) == "new"
    with pytest.raises(ValueError, match="has no part"):
        scripts.page.write_part("b", "new", page)


def _rows(text: str) -> list[list[str]]:
    """Cells of the tables in a text, without the lines below their headers."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [line for line in cells if set(line[0]) != {"-"}]


def test_the_docs_hold_the_table_that_the_command_makes(scripts: SimpleNamespace) -> None:
    compare, text = scripts.compare, scripts.page.read_part("compare")
    header, *rows = _rows(text)
    names = [each.name for each in compare.SUBJECTS]
    assert [row[0] for row in rows] == names
    assert header == compare.header(compare.Result(names[0]))
    assert {len(row) for row in rows} == {len(header)}
    for row, subject in zip(rows, compare.SUBJECTS, strict=True):
        assert row[1] == subject.computes
        assert row[-1] == (compare.quality(subject.checkpoint) if subject.checkpoint else "")
        assert "(" in row[3] or "not installed" in row[3] or "failed" in row[3]
    for word in ("rounds", "threads" if "threads" in text else "thread", "load", "torch", "Python"):
        assert word in text
    assert (ROOT / "docs" / "images" / "benchmarks.png").is_file()


def test_the_docs_hold_the_other_tables(scripts: SimpleNamespace) -> None:
    assert _rows(scripts.page.read_part("startup"))[0] == list(scripts.startup.HEADER)
    scaling = _rows(scripts.page.read_part("scaling"))
    assert list(scripts.scaling.TILE_HEADER) in scaling
    assert list(scripts.scaling.FOLDER_HEADER) in scaling


def test_more_tiles_are_measured_on_larger_images(scripts: SimpleNamespace, tmp_path: Path) -> None:
    from napari_espmedsam.inference.segmenter import Segmenter

    tiny = Segmenter.from_checkpoint(scripts.scaling.tiny_checkpoint(tmp_path))
    ticks = iter(range(10_000))
    rows = scripts.scaling.tile_rows(tiny, "tiny", 64, (1, 6), lambda: float(next(ticks)))
    assert [row[1] for row in rows] == ["1", "6"]
    assert all(len(row) == len(scripts.scaling.TILE_HEADER) for row in rows)
    assert rows[0][3] == "1.00"  # each run takes one tick of this clock
    assert rows[1][3] == "0.17"


def test_what_a_start_loads_is_told(scripts: SimpleNamespace) -> None:
    parts = scripts.startup.discovery(iter(range(99)).__next__)["parts"]
    assert [part["seconds"] / part["base"] for part in parts] == [1.0]
    (row,) = scripts.startup._rows([{"parts": parts, "heavy": ["torch"]}, {"problem": "no screen"}])
    assert row[3] == "1.00 (1.00 to 1.00)"
    assert row[-1] == "torch"
    assert scripts.startup._rows([{"problem": "no screen"}])[0][:2] == ["no screen", "not measured"]

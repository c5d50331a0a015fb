"""Some seconds of the soak on a viewer without a window, and what it complains of."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from napari.components import ViewerModel

from tests.soak.__main__ import MODULES, soak
from tests.soak.meter import Meter, Reading
from tests.soak.worker import Worker

THIRD_PARTY_NOISE = pytest.mark.filterwarnings("ignore::UserWarning:napari")


@pytest.fixture
def work(save_tiny: Callable[..., Path], tmp_path: Path, qapp: Any) -> Any:
    """Return a function that soaks for a moment, with the tiny model."""
    weights = save_tiny(tmp_path / "tiny.safetensors")
    with ExitStack() as stack:
        for module in MODULES:
            name = f"napari_espmedsam.{module}.resolve_checkpoint"
            stack.enter_context(patch(name, lambda _name=None: weights))
        yield lambda seconds, steps: soak(seconds, 1, steps, tmp_path, ViewerModel)


@THIRD_PARTY_NOISE
def test_a_moment_of_work(work: Any, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = work(0.1, 10)
    assert len(wrong) == 1
    assert "too short" in wrong[0]
    assert "10 actions in 1 rounds" in capsys.readouterr().out


@THIRD_PARTY_NOISE
def test_what_raises_ends_it(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "check_mine", lambda _: 1 / 0)
    wrong = work(5, 5)
    assert "ZeroDivisionError" in wrong[0]
    assert "seed 1, round 0" in wrong[-1]


def test_what_stays_is_a_fault() -> None:
    first = Reading(0.0, 1000, ("MainThread", "pool-1"), 4, 9, frozenset({"/a"}))

    def faults(**changes: Any) -> list[str]:
        later = [replace(first, **changes)] * 3
        return Meter([first, first, *[first] * 3, *later], warm=2).faults()

    assert faults() == []
    assert faults(memory=1049, names=("MainThread", "pool-7")) == []
    assert faults(memory=1060) == ["memory has grown by 6.0%; the limit is 5%"]
    assert faults(threads=5) == ["5 threads; after the warm-up there were 4"]
    assert faults(handles=10) == ["10 handles; after the warm-up there were 9"]
    assert "2 threads 'pool-N'" in faults(names=("MainThread", "pool-1", "pool-2"))[0]
    assert faults(files=frozenset({"/a", "/b"})) == ["files still open: /b"]
    assert "too short" in Meter([first]).faults()[0]


MAPPED = """
import ctypes
from tests.soak.meter import give_back_at_once

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcd"] + [("mapped", ctypes.c_size_t)] + [
        (name, ctypes.c_size_t) for name in "fghij"
    ]

c = ctypes.CDLL("libc.so.6")
c.mallinfo2.restype, c.malloc.restype, c.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
{call}
c.free(c.malloc(30 << 20))  # from now on glibc maps no block below this size, unless it is told to
before = c.mallinfo2().mapped
c.malloc(1 << 20)
print((c.mallinfo2().mapped - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps that much free")
def test_large_blocks_go_back_when_they_are_freed() -> None:
    # What may tune or replace the allocator of a whole machine is left out.
    tuned = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}

    def mapped(call: str) -> str:
        command = [sys.executable, "-c", MAPPED.format(call=call)]
        run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return run.stdout.strip()

    if mapped("") != "0":
        pytest.skip("the C library of this machine maps large blocks apart unasked")
    assert mapped("give_back_at_once()") == "1"

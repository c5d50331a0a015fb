"""A disk that is full in the middle of a file: what was there stays, and the message says where."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("resource", reason="Windows has no limit for the size of a file")

import resource

from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.formats import FORMATS

LABELS = np.random.default_rng(0).integers(0, 900, (64, 64)).astype(np.uint16)
LIMIT = 256  # bytes: less than each of the files


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Let the system refuse to write more than a few bytes into a file: a true error of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _write_labels(name: str) -> Callable[[Path], object]:
    return lambda path: FORMATS[name].write(path, LABELS, "YX", provenance={"note": "x" * LIMIT})


def _write_prompts(path: Path) -> object:
    from napari_espmedsam.studio.record_file import write_record
    from napari_espmedsam.studio.record_json import record_from_json
    from tests.fuzz import seeds

    return write_record(path, record_from_json(_json(seeds.sidecars()[0])))


def _json(content: bytes) -> Any:
    import json

    return json.loads(content)


def _write_checkpoint(path: Path) -> object:
    from tests.tiny_model import save_tiny

    return save_tiny(path)


def _write_settings(path: Path) -> object:
    from napari_espmedsam.widgets.settings_file import save_settings

    return save_settings(path, {"checkpoint": "x" * LIMIT})


def _write_state(path: Path) -> object:
    import torch

    from training.run import save_state

    return save_state(path.parent, {"weights": torch.arange(1000.0)}, path.name)


def _write_run(path: Path) -> object:
    from training.run import write_json

    return write_json(path, {"config": "x" * LIMIT})


def _write_curve(path: Path) -> object:
    from training.run import write_curve

    return write_curve(path.parent, [{"step": float(i), "dice": 0.5} for i in range(100)])


WRITERS: dict[str, Callable[[Path], object]] = {
    **{f"a{each.suffix}": _write_labels(name) for name, each in FORMATS.items()},
    "a.espprompts.json": _write_prompts,
    "tiny.safetensors": _write_checkpoint,
    "settings.json": _write_settings,
    "state.pt": _write_state,
    "run.json": _write_run,
    "curve.csv": _write_curve,
}


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_half_written_and_nothing_lost(name: str, tmp_path: Path) -> None:
    path, write = tmp_path / name, WRITERS[name]
    with _full_disk(), pytest.raises(OutputError, match="space") as refused:
        write(path)
    assert str(path) in str(refused.value)
    assert os.listdir(tmp_path) == []
    write(path)
    before = _content(tmp_path)
    assert before
    with _full_disk(), pytest.raises(OutputError, match="space"):
        write(path)
    assert _content(tmp_path) == before

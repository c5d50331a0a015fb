"""The run folder: what was asked for, what came of it, and how to go on after an interruption."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from napari_espmedsam import __version__
from napari_espmedsam.errors import InputError, OutputError
from training.config import RunConfig

STATE = "state.pt"
BEST = "best.pt"
RECORD = "run.json"
CURVE = "curve.csv"
LOGS = "tensorboard"


def _git(*arguments: str) -> str:
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def git_commit() -> str:
    """Commit of the checkout, with ``-dirty`` if code that training uses differs, or "unknown"."""
    try:
        commit = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain", "--", "training", "src/napari_espmedsam/model")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if dirty else commit


def is_first_process() -> bool:
    """Tell whether this is the only process, or the first of those that ``torchrun`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def needs_check(resume: bool) -> bool:
    """Tell whether this process reads all data first: one does, and not again after a resume."""
    return is_first_process() and not resume


def open_run(folder: Path, config: RunConfig, *, resume: bool = False) -> None:
    """Create the run folder and write its record before anything slow happens.

    Of several processes only the first one does. ``resume`` with an empty folder starts a run.

    Raises
    ------
    InputError
        If the folder already holds a run and ``resume`` is not given, or holds another recipe.
    """
    if not is_first_process():
        return
    record = folder / RECORD
    if record.is_file():
        if not resume:
            raise InputError(f"{folder} already holds a run. Add --resume, or name another folder.")
        known = read_run(folder)
        if known.config != config.model_dump(mode="json"):
            raise InputError(f"{folder} was started with another config. Name another folder.")
        known.resumed.append({"commit": git_commit(), "at": _now()})
        write_json(record, known.model_dump(mode="json"))
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        record,
        {
            "kind": type(config).__name__,
            "config": config.model_dump(mode="json"),
            "command": " ".join(["python -m training", *sys.argv[1:]]),
            "commit": git_commit(),
            "started": _now(),
            "processes": int(os.environ.get("WORLD_SIZE", "1")),
            "versions": {
                "napari-espmedsam": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    )


class RunRecord(BaseModel):
    """What ``run.json`` says; what later versions add is kept."""

    model_config = ConfigDict(extra="allow")

    kind: str
    config: dict[str, Any]
    command: str
    commit: str
    started: str
    versions: dict[str, str]
    resumed: list[dict[str, Any]] = []


def read_run(folder: Path) -> RunRecord:
    """Read the record of a run.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = folder / RECORD
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no record of a run ({str(error).splitlines()[-1]:.100}). Restore it, or "
            "start the run anew in another folder."
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name that becomes ``path`` when the block has succeeded.

    Raises
    ------
    OutputError
        If the block or the system cannot write; ``path`` is as it was, and nothing else is left.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); make space or give permission "
            "there, then go on with --resume."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, complete or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def save_state(folder: Path, state: dict[str, Any], name: str = STATE) -> None:
    """Save the training state, complete or not at all."""
    with whole_file(folder / name) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OSError(f"torch stopped in the middle: {str(error).splitlines()[0]}") from error


def load_state(folder: Path, name: str = STATE) -> dict[str, Any] | None:
    """Last state saved under ``name``, or None. No code is run from the file.

    Raises
    ------
    InputError
        If it is damaged, or holds other things than tensors and plain values.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no dictionary")
    except Exception as error:  # damage shows in many ways, in the archive and in the pickle
        raise InputError(
            f"{path} is damaged, or holds more than tensors and plain values ({error!s:.100}). "
            "Start the run anew, or restore the file."
        ) from error
    return state


def write_curve(folder: Path, rows: list[dict[str, float]]) -> None:
    """Write the validation curve as CSV."""
    if not rows:
        return
    with (
        whole_file(folder / CURVE) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

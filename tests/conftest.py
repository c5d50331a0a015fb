"""Fixtures that every test folder shares. Nothing heavy is imported before a test asks for it."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_configure() -> None:
    """Take torch for "auto", whatever is installed: the others export a graph first.

    Not in a fixture, for clusters that serve a whole file of tests are to do the same.
    """
    os.environ["NAPARI_ESPMEDSAM_BACKEND"] = "torch"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load Triton before the first window opens, if any test opens one.

    Triton and Mesa's software OpenGL carry LLVMs that clash: Triton after OpenGL ends the process,
    Triton first is harmless. Only the tests need this (timm, their oracle, imports Triton); what
    the package itself runs never does, see ``test_running_a_model_loads_no_triton``.
    """
    if any("make_napari_viewer" in getattr(item, "fixturenames", ()) for item in session.items):
        with contextlib.suppress(ImportError):
            importlib.import_module("triton")


@pytest.fixture(autouse=True)
def _seed_everything() -> None:
    """Start each test from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let neither a test nor a process that it starts see or write the user's settings."""
    monkeypatch.setenv("NAPARI_ESPMEDSAM_SETTINGS", "")


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Load the arrays of ``tests/golden/NAME.npz``."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


@pytest.fixture(scope="session")
def save_tiny() -> Callable[..., Path]:
    """Save a model with random weights that runs in milliseconds, see ``tests.tiny_model``."""
    from tests.tiny_model import save_tiny

    return save_tiny


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of labelled images for the tests that measure accuracy.

    ``ESPMEDSAM_DATA`` names it; without it, the folder ``shared`` beside the checkout is taken.
    The images have licences of their own and are no part of this repository.
    """
    folder = Path(os.environ.get("ESPMEDSAM_DATA", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder}; set ESPMEDSAM_DATA to one")
    return folder


@pytest.fixture(scope="session")
def write_lacking() -> Callable[[Path], Path]:
    """Write an OME-TIFF with 3 planes of 40 x 48 px whose metadata name 5."""

    def write(path: Path) -> Path:
        import tifffile

        pixels = np.random.default_rng(0).integers(1, 4000, (3, 40, 48)).astype(np.uint16)
        tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"})
        content = path.read_bytes()
        for name in (b'SizeZ="%d"', b'PlaneCount="%d"'):
            assert content.count(name % 3) == 1
            content = content.replace(name % 3, name % 5)
        path.write_bytes(content)
        return path

    return write

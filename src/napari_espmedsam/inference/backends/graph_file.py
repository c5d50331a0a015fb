"""Graphs of encoders in the user's cache folder: made once, found again by what they hold."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_espmedsam import __version__
from napari_espmedsam.model.config import ModelConfig

VARIABLE = "NAPARI_ESPMEDSAM_CACHE"
"""Environment variable that names another folder."""

MAX_FILES = 16  # of some 40 MB
_FORM = 3  # another number where the same encoder is exported as another graph
_MAX_SECONDS = 1800


class GraphFile:
    """The file of one encoder, for one modality and tile size.

    Parameters
    ----------
    encoder : nn.Module
        In the inference form.
    config : ModelConfig
        Of the model that it belongs to.
    bag : int
        Index of the modality whose bag is used; 0 where there are no bags.
    size : int
        Side of the tile in px.
    """

    def __init__(self, encoder: nn.Module, config: ModelConfig, bag: int, size: int) -> None:
        self._config, self._bag, self._size = config, bag, size
        self._state: dict[str, Tensor] = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in encoder.state_dict().items()
        }
        self.path = cache_folder() / f"encoder-{self._digest()}.onnx"

    def write(self) -> None:
        """Export the encoder; an older file of the name is replaced once that has succeeded.

        Raises
        ------
        OSError
            If the folder cannot be written.
        RuntimeError
            If the encoder cannot be exported.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.path.parent) as folder:
            weights, target = Path(folder) / "encoder.safetensors", Path(folder) / self.path.name
            # Copies: a file cannot hold two tensors that share their memory.
            save_file({name: tensor.clone() for name, tensor in self._state.items()}, weights)
            self._export(weights, target)
            os.replace(target, self.path)
        _remove_old(self.path.parent)

    def _export(self, weights: Path, target: Path) -> None:
        """Export in another process: the exporter loads Triton, which may end this one.

        (See "No timm at run time" in docs/architecture.md.)
        """
        command = [sys.executable, "-P", "-W", "ignore", "-m", f"{__package__}.export"]
        command += [type(self._config).__name__, self._config.model_dump_json()]
        command += [str(weights), str(self._bag), str(self._size), str(target)]
        paths = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MAX_SECONDS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows
        )
        if done.returncode or not target.is_file():
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise RuntimeError(f"the export failed: {last[0]}")

    def _digest(self) -> str:
        about = (_FORM, __version__, torch.__version__, type(self._config).__name__)
        digest = hashlib.sha256(repr((*about, self._bag, self._size)).encode())
        digest.update(self._config.model_dump_json().encode())
        for name, tensor in self._state.items():
            digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
            digest.update(tensor.numpy().data)
        return digest.hexdigest()[:32]


def cache_folder() -> Path:
    """Return the folder of the graphs; it need not exist."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_cache_dir("napari-espmedsam", False)) / "graphs"


def _remove_old(folder: Path) -> None:
    """Keep the files that were made last."""
    with suppress(OSError):  # another process may be removing the same ones
        files = sorted(folder.glob("encoder-*.onnx"), key=lambda path: path.stat().st_mtime)
        for path in files[:-MAX_FILES]:
            path.unlink(missing_ok=True)

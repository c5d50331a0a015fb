"""Everything of the package that reads a file, as functions of the file's content.

Each returns, or raises the error of the package that says what is wrong with the file.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_espmedsam.batch.record import read_record as read_batch_record
from napari_espmedsam.batch.slide_store import SlideStore
from napari_espmedsam.errors import EspMedSamError
from napari_espmedsam.io.images import read_image
from napari_espmedsam.io.labels import read_provenance
from napari_espmedsam.io.ome_zarr import is_labels, label_images
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.io.run_record import read_run_files
from napari_espmedsam.model.checkpoint import load_checkpoint, read_header
from napari_espmedsam.model.header import HEADER_KEY
from napari_espmedsam.model.published_fast import import_authors_file
from napari_espmedsam.studio.record_file import read_record
from napari_espmedsam.studio.record_json import FORMAT, VERSION, record_from_json, record_to_json
from napari_espmedsam.widgets.settings_file import load_settings
from tests.fuzz.mutate import split_parts
from training.config import FinetuneConfig, load_config
from training.manifest import read_manifest

ZARR_FILES = (".zgroup", ".zattrs", "0/.zarray", "0/0.0", "zarr.json", "0/zarr.json", "0/c/0/0")
PYRAMID_FILES = (
    *(".zgroup", ".zattrs", "0/.zarray", "1/.zarray", "0/0.0", "1/0.0"),
    *("zarr.json", "0/zarr.json", "1/zarr.json", "0/c/0/0", "1/c/0/0"),
)
SLICES = ("a.dcm", "b.dcm", "c.dcm")
MAX_PIXELS = 2**22  # a larger image is opened, but not read as a whole
_written: dict[Path, dict[str, bytes]] = {}


@cache
def folder() -> Path:
    """Return a folder for what is read, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=place))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _file(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def sidecar(data: bytes) -> None:
    """Read a prompts file; what is accepted says the same when it is written again."""
    record = read_record(_file("a.espprompts.json", data))
    content = record_to_json(record)
    assert record_to_json(record_from_json(content)) == content


def sidecar_sealed(data: bytes) -> None:
    """Read a prompts file whose checksum fits whatever it holds."""
    from napari_espmedsam.studio.record_json import _checksum

    try:
        content = json.loads(data)
        body = {k: v for k, v in content.items() if k != "checksum"}
        body |= {"format": FORMAT, "version": VERSION}
        sealed = json.dumps(body | {"checksum": _checksum(body)}).encode("utf-8", "surrogatepass")
    except (ValueError, AttributeError, RecursionError):
        return
    sidecar(sealed)


def run_record(data: bytes) -> None:
    """Read the record of a run as napari's reader does, and as a batch job does."""
    path = _file("a.esprun.json", data)
    with contextlib.suppress(EspMedSamError):
        read_run_files(path)
    read_batch_record(path)


def settings(data: bytes) -> None:
    """Read the remembered settings."""
    load_settings(_file("settings.json", data))


def slide_plan(data: bytes) -> None:
    """Go on with a slide whose folder holds anything: its plan, then one of its chunks."""
    plan, chunk = (*split_parts(data), b"")[:2]
    store = SlideStore(folder() / "slide.ome.zarr")
    run = store.partial / ".run"
    (run / "tiles").mkdir(parents=True, exist_ok=True)
    (run / "chunks").mkdir(exist_ok=True)
    (run / "plan.json").write_bytes(plan)
    (run / "chunks" / "00000000.npz").write_bytes(chunk)
    record = {"modality": "microscopy", "shape": [64, 64], "scale": "1/1"}
    with contextlib.suppress(EspMedSamError):
        store.begin(record, (64, 64), resume=True)
    store.records()


def checkpoint(data: bytes) -> None:
    """Load a checkpoint."""
    path = _file("a.safetensors", data)
    read_header(path)
    load_checkpoint(path)


def checkpoint_header(data: bytes) -> None:
    """Load a checkpoint of which only our header may be damaged."""
    from tests.fuzz.seeds import checkpoints

    whole = checkpoints()[b"med_fastsam" in data]
    length = int.from_bytes(whole[:8], "little")
    table = json.loads(whole[8 : 8 + length])
    table["__metadata__"] = {HEADER_KEY: data.decode("utf-8", "replace")}
    checkpoint(_safetensors(json.dumps(table).encode(), whole[8 + length :]))


def checkpoint_table(data: bytes) -> None:
    """Load a checkpoint of which only the table of tensors may be damaged."""
    from tests.fuzz.seeds import checkpoints

    whole = checkpoints()[0]
    checkpoint(_safetensors(data, whole[8 + int.from_bytes(whole[:8], "little") :]))


def _safetensors(table: bytes, values: bytes) -> bytes:
    return len(table).to_bytes(8, "little") + table + values


def authors_file(data: bytes) -> None:
    """Import a .pth file."""
    import_authors_file(_file("a.pth", data), "microscopy")


def image(name: str) -> Callable[[bytes], None]:
    """Return a function that opens an image lazily, then as a whole."""

    def run(data: bytes) -> None:
        _read_image(_file(name, data))

    return run


def _read_image(path: Path) -> None:
    lazy = open_image(path)
    assert len(lazy.axes) == len(lazy.shape)
    if np.prod([float(n) for n in lazy.shape]) <= MAX_PIXELS:
        whole = read_image(path)
        assert whole.array.ndim == len(whole.axes)


def tiff_metadata(data: bytes) -> None:
    """Open a sound TIFF whose description is anything: OME-XML, ImageJ's text, Aperio's."""
    import tifffile

    path = folder() / "metadata.tif"
    pixels = np.zeros((2, 20, 20), np.uint8)
    tifffile.imwrite(path, pixels, description=data.replace(b"\0", b" "), metadata=None)
    read_provenance(path)
    _read_image(path)


def _fill(root: Path, names: Sequence[str], data: bytes) -> Path:
    """Give the files of a folder the contents that `data` joins; no content, no file.

    Most inputs change one file of several: what is there already is not written again.
    """
    there = _written.setdefault(root, {})
    for name, content in zip(names, [*split_parts(data), *[b""] * len(names)], strict=False):
        if there.get(name) == content:
            continue
        path = root / name
        if content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            path.unlink(missing_ok=True)
        there[name] = content
    return root


def zarr_folder(data: bytes) -> None:
    """Open an OME-Zarr folder of which any file may be damaged."""
    root = _fill(folder() / "a.ome.zarr", ZARR_FILES, data)
    is_labels(root)
    label_images(root)
    _read_image(root)


def zarr_pyramid(data: bytes) -> None:
    """Open an OME-Zarr of two levels and read a window of each, as for a slide."""
    root = _fill(folder() / "b.ome.zarr", PYRAMID_FILES, data)
    for level in open_image(root).levels:
        if all(level.shape):
            np.asarray(level[tuple(slice(0, 16) for _ in level.shape)])


def dicom_folder(data: bytes) -> None:
    """Open a folder of DICOM slices of which any may be damaged."""
    root = folder() / "series"
    root.mkdir(exist_ok=True)
    _read_image(_fill(root, SLICES, data))


def manifest(data: bytes) -> None:
    """Read a table of own data."""
    read_manifest(_file("manifest.csv", data))


def recipe(data: bytes) -> None:
    """Read a training recipe."""
    load_config(_file("recipe.toml", data), FinetuneConfig)


def pack(data: bytes) -> None:
    """List the samples of a pack: its splits, then its table of groups."""
    from training.data import list_samples

    splits, table = (*split_parts(data), b"")[:2]
    root = folder() / "pack"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "a.png").touch()
    (root / "splits.json").write_bytes(splits)
    (root / "meta.csv").write_bytes(table)
    list_samples(root, "train")


def training_run(data: bytes) -> None:
    """Read the record and the curve of a training."""
    from training.export import read_curve
    from training.run import read_run

    root = _fill(folder() / "run", ("run.json", "curve.csv"), data)
    with contextlib.suppress(EspMedSamError):
        read_run(root)
    read_curve(root)


def allowed(run: Callable[[bytes], None]) -> Callable[[bytes], Any]:
    """Let the errors of the package pass, and nothing else."""

    def guarded(data: bytes) -> None:
        with contextlib.suppress(EspMedSamError):
            run(data)

    return guarded

"""Weight files are input of strangers: no code runs, and no memory is taken before sizes fit."""

from __future__ import annotations

import ast
import json
import pickle
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from napari_espmedsam.errors import CheckpointError, EspMedSamError
from napari_espmedsam.io.images import read_image
from napari_espmedsam.model.budget import build_within
from napari_espmedsam.model.checkpoint import load_checkpoint
from napari_espmedsam.model.header import HEADER_KEY, CheckpointHeader, InputSpec, read_header
from napari_espmedsam.model.published import import_published, read_pickled_state
from napari_espmedsam.model.published_fast import import_authors_file, import_published_fast
from napari_espmedsam.model.registry import create_model, model_config

Reader = Callable[[Path], Any]
ROOT = Path(__file__).resolve().parents[2]


class Trap:
    """Runs code when it is unpickled by anything that does not refuse to."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def _zip(path: Path, trap: Trap) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2), "b": trap}}, path)


def _legacy(path: Path, trap: Trap) -> None:
    torch.save({"a": trap}, path, _use_new_zipfile_serialization=False)


def _bare(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


READERS: dict[str, Reader] = {
    "read_pickled_state": read_pickled_state,
    "import_published": lambda path: import_published(path, "microscopy"),
    "import_published_fast": lambda path: import_published_fast(path, "microscopy"),
    "import_authors_file": lambda path: import_authors_file(path, "microscopy"),
    "load_checkpoint": load_checkpoint,
    "read_image": read_image,
}


def _load_state(path: Path) -> object:
    from training.run import load_state

    return load_state(path.parent, path.name)


def _read_sam(path: Path) -> object:
    from training.sam_vit import read_sam

    return read_sam(path, "sam_vit")


def _warm_start(path: Path) -> None:
    from training.warm_start import warm_start_litemedsam

    warm_start_litemedsam(create_model("esp_medsam_test"), path)


READERS |= {"load_state": _load_state, "read_sam": _read_sam, "warm_start": _warm_start}


@pytest.mark.parametrize("write", [_zip, _legacy, _bare])
@pytest.mark.parametrize("reader", READERS)
def test_no_code_runs_from_a_file(
    tmp_path: Path, write: Callable[[Path, Trap], None], reader: str
) -> None:
    mark, path = tmp_path / "code ran", tmp_path / "a.pth"
    write(path, Trap(mark))
    with pytest.raises(EspMedSamError, match=r"a\.pth"):
        READERS[reader](path)
    assert not mark.exists()


def test_the_trap_works(tmp_path: Path) -> None:
    _bare(tmp_path / "a.pth", Trap(tmp_path / "code ran"))
    pickle.loads((tmp_path / "a.pth").read_bytes())
    assert (tmp_path / "code ran").exists()


def test_no_code_runs_from_arrays(tmp_path: Path) -> None:
    from napari_espmedsam.batch.slide_store import SlideStore

    mark, store = tmp_path / "code ran", SlideStore(tmp_path / "slide.ome.zarr")
    chunk = store.partial / ".run" / "chunks" / "00000000.npz"
    chunk.parent.mkdir(parents=True)
    with chunk.open("wb") as file:
        trapped = np.array([Trap(mark)], object)
        np.savez(file, first=trapped, **dict.fromkeys("tblr", trapped))
    with pytest.raises(EspMedSamError, match=r"00000000\.npz is damaged"):
        store.records()
    assert not mark.exists()


def _calls(name: str) -> list[tuple[str, ast.Call]]:
    """Find calls like ``torch.load(...)`` in all that is shipped or run from a checkout."""
    found = []
    for folder in ("src", "training", "benchmarks", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                    found.append((f"{path}:{node.lineno}", node))
    return found


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("torch.load", "weights_only", True), ("np.load", "allow_pickle", False)],
)
def test_every_reader_refuses_pickles(name: str, option: str, value: bool) -> None:
    calls = _calls(name)
    assert calls
    for place, call in calls:
        options = {each.arg: ast.unparse(each.value) for each in call.keywords}
        assert options.get(option) == str(value), place


@pytest.mark.parametrize("name", ["pickle.load", "pickle.loads", "eval", "exec", "joblib.load"])
def test_nothing_else_runs_content(name: str) -> None:
    assert not [place for place, _ in _calls(name)]


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/1", bytes(2_000_000))
    with pytest.raises(CheckpointError, match=r"bomb\.pth has .* would unpack to 2,0.*4 times"):
        read_pickled_state(path)


@pytest.fixture
def header() -> CheckpointHeader:
    """Describe the test-sized ESP-MedSAM."""
    return CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model_config("esp_medsam_test").model_dump(mode="json"),
        modalities=("microscopy", "dermoscopy"),
        inputs={m: InputSpec(geometry="tiled", size=64) for m in ("microscopy", "dermoscopy")},
        licence="Apache-2.0",
    )


def _write(path: Path, header: CheckpointHeader, **trunk: Any) -> Path:
    """Write a header that asks for another trunk, and 4 values."""
    content = header.model_dump(mode="json")
    content["config"]["trunk"] |= trunk
    path.write_bytes(save({"a": np.zeros(4, np.float16)}, {HEADER_KEY: json.dumps(content)}))
    return path


@pytest.mark.parametrize(
    ("trunk", "message"),
    [
        ({"widths": [8, 8, 8, 10**9]}, r"trunk\.widths\.3: .*8192, got 1000000000"),
        ({"depths": [1, 1, 10**6, 1]}, r"trunk\.depths\.2: .*32, got 1000000"),
        ({"windows": [7, 7, 4096, 7]}, r"trunk\.windows\.2: .*32, got 4096"),
        ({"mlp_ratio": 1e12}, r"trunk\.mlp_ratio: .*16, got 1000000000000\.0"),
        ({"out_channels": -8}, r"trunk\.out_channels: .*1, got -8"),
        # Each number is allowed; together they are 9e9 weights, and the file holds 4.
        (
            {"widths": [8192] * 4, "depths": [32] * 4, "heads": [128] * 4, "out_channels": 8192},
            r"more than 4 weights, and holds 4",
        ),
    ],
)
def test_an_absurd_model_is_refused_before_memory_is_taken(
    tmp_path: Path, header: CheckpointHeader, trunk: dict[str, Any], message: str
) -> None:
    path = _write(tmp_path / "a.safetensors", header, **trunk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 100e6


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test", "esp_medsam_published"])
def test_the_budget_of_a_model_is_what_it_needs(name: str) -> None:
    config = model_config(name)
    needed = sum(each.numel() for each in create_model(name).parameters())
    build_within(config, needed, "a")
    with pytest.raises(CheckpointError, match=f"more than {needed - 1:,} weights"):
        build_within(config, needed - 1, "a")


def test_sizes_that_do_not_fit_each_other_are_a_sentence(
    tmp_path: Path, header: CheckpointHeader
) -> None:
    content = header.model_dump(mode="json")
    content["config"]["trunk"]["out_channels"] = 7  # no two heads divide it
    tensors = {"a": np.zeros(10**6, np.float16)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(tensors, {HEADER_KEY: json.dumps(content)}))
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_checkpoint(path)


def test_a_long_table_of_contents_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    length = 2**24
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(length + 100)
    with pytest.raises(CheckpointError, match=r"16,777,216 bytes; the limit is 16,000,000"):
        read_header(path)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"modalities": 3}},
        {"format_version": "9" * 5000},
        {"threshold": float("nan")},
        {"inputs": {"microscopy": {"geometry": "tiled", "size": 64, "scale": 1e999}}},
    ],
)
def test_a_header_of_other_values_is_refused(
    tmp_path: Path, header: CheckpointHeader, change: dict[str, Any]
) -> None:
    text = json.dumps(header.model_dump(mode="json") | change).replace('"' + "9" * 5000, "9" * 5000)
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": np.zeros(4)}, {HEADER_KEY: text.replace('9"', "9")}))
    with pytest.raises(CheckpointError, match=r"header of a\.safetensors is damaged"):
        read_header(path)

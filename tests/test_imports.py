"""Importing costs nothing, and imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_espmedsam

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "timm", "qtpy", "PyQt6", "napari", "magicgui", "skimage", "cv2")


def _loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the top-level modules it loaded."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _loaded_by("import napari_espmedsam")
    assert "napari_espmedsam" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_files_weights_and_samples_need_no_torch_and_no_qt() -> None:
    loaded = _loaded_by(
        "import napari_espmedsam.errors, napari_espmedsam.weights, napari_espmedsam.samples\n"
        "import napari_espmedsam.io.images, napari_espmedsam.io.labels"
    )
    assert loaded.isdisjoint({"torch", "timm", "qtpy", "napari"})


def test_readers_need_no_torch_and_no_qt() -> None:
    """A file is opened from scripts and on machines without a screen, too."""
    loaded = _loaded_by(
        "import napari_espmedsam.widgets.image_readers, napari_espmedsam.widgets.run_files\n"
        "import napari_espmedsam.io.open_image, napari_espmedsam.io.tiff_pyramid\n"
        "import napari_espmedsam.io.ome_zarr, napari_espmedsam.io.dicom"
    )
    assert "tifffile" in loaded
    assert loaded.isdisjoint({"torch", "timm", "qtpy", "PyQt6", "napari", "skimage"})


def test_discovery_and_the_question_to_a_reader_load_nothing_heavy() -> None:
    """What every start of napari does with the plugin, and what dropping a file on it does."""
    loaded = _loaded_by(
        "from npe2 import PluginManifest\n"
        "PluginManifest.from_distribution('napari-espmedsam')\n"
        "from napari_espmedsam.widgets.image_readers import get_reader\n"
        "assert get_reader('image.tif') is not None"
    )
    assert loaded.isdisjoint({*HEAVY, "dask", "pydicom", "scipy", "tifffile", "zarr"})


@pytest.mark.parametrize("module", ["cli", "widgets.dock"])
def test_forms_open_without_torch(module: str) -> None:
    """A user who only looks at the form or at --help does not wait for torch."""
    assert "torch" not in _loaded_by(f"import napari_espmedsam.{module}")


def test_running_a_model_loads_no_triton() -> None:
    """Triton, loaded while a napari window is open, can end the process (LLVM beside Mesa's)."""
    loaded = _loaded_by(
        "import torch\n"
        "import napari_espmedsam.inference.segmenter\n"
        "import napari_espmedsam.model.published\n"
        "from napari_espmedsam.model.registry import create_model\n"
        "image, first = torch.rand(1, 3, 64, 64), torch.zeros(1, dtype=torch.int64)\n"
        "for name in ('esp_medsam_test', 'med_fastsam_test'):\n"
        "    model = create_model(name, modalities=('m',)).eval()\n"
        "    with torch.inference_mode():\n"
        "        model.decode_features(model.extract(image, first, image), first)\n"
    )
    assert "torch" in loaded
    assert loaded.isdisjoint({"triton", "torchvision", "timm"})


NETWORK = {"aiohttp", "ftplib", "http", "httpx", "huggingface_hub", "pooch", "requests", "socket"}


def test_no_file_of_the_package_knows_the_network() -> None:
    """Weights come with the package; the cluster, which users ask for by name, is dask's matter."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names}
            assert tops.isdisjoint(NETWORK), path
            assert not {"urllib.request", "torch.hub"} & set(names), path


@pytest.mark.parametrize("name", napari_espmedsam.__all__)
def test_every_export_resolves(name: str) -> None:
    assert getattr(napari_espmedsam, name) is not None
    assert name in dir(napari_espmedsam)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = napari_espmedsam.no_such_name


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert napari_espmedsam.__version__ == version("napari-espmedsam")


def test_import_contracts_hold() -> None:
    """The contracts of setup.cfg: layers, and who may know torch, napari and Qt."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_manifest_commands_point_at_existing_callables() -> None:
    """Resolve each command as napari does, so that a renamed function is found here."""
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_distribution("napari-espmedsam")
    commands = manifest.contributions.commands or []
    assert commands
    for command in commands:
        assert command.python_name is not None
        assert callable(command.resolve() if hasattr(command, "resolve") else _find(command))


def _find(command: object) -> object:
    from npe2.manifest.utils import import_python_name

    return import_python_name(command.python_name)  # type: ignore[attr-defined]

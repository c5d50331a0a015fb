"""The manifest as napari reads it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_espmedsam.io.formats import FORMATS
from napari_espmedsam.widgets.keys import KEYS

PLUGIN = "napari-espmedsam"
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    """Return the manifest of the installed package."""
    return PluginManifest.from_distribution(PLUGIN)


def test_every_command_resolves(manifest: PluginManifest) -> None:
    from npe2.manifest.utils import import_python_name

    for command in manifest.contributions.commands or []:
        assert command.id.startswith(f"{PLUGIN}.")
        assert command.python_name is not None
        assert callable(import_python_name(command.python_name))


def test_every_contribution_has_a_command(manifest: PluginManifest) -> None:
    known = {command.id for command in manifest.contributions.commands or []}
    used = {widget.command for widget in manifest.contributions.widgets or []}
    used |= {sample.command for sample in manifest.contributions.sample_data or []}
    used |= {reader.command for reader in manifest.contributions.readers or []}
    used |= {writer.command for writer in manifest.contributions.writers or []}
    for items in (manifest.contributions.menus or {}).values():
        used |= {item.command for item in items}
    assert used == known


def test_it_is_found_where_users_look(manifest: PluginManifest) -> None:
    assert manifest.display_name == "ESP-MedSAM"
    assert [str(category) for category in manifest.categories] == ["Segmentation"]
    menu = (manifest.contributions.menus or {})["napari/layers/segment"]
    assert [item.command for item in menu] == [f"{PLUGIN}.segment"]
    assert manifest.package_metadata is not None
    assert "Framework :: napari" in (manifest.package_metadata.classifier or [])


def test_npe2_finds_nothing_wrong(manifest: PluginManifest) -> None:
    manifest.validate_imports()


def test_the_file_that_is_shipped_is_valid() -> None:
    """The same as ``npe2 validate``."""
    shipped = files("napari_espmedsam") / "napari.yaml"
    manifest = PluginManifest.from_file(str(shipped))
    assert manifest.name == PLUGIN
    manifest.validate_imports()


def test_the_readme_lists_all_menus_files_and_keys(manifest: PluginManifest) -> None:
    section = README.read_text(encoding="utf-8").split("\n## Menus and keys\n")[1].split("\n## ")[0]
    parts = manifest.contributions
    (widget,) = parts.widgets or []
    assert list(parts.menus or {}) == ["napari/layers/segment"]
    title = f"{widget.display_name} ({manifest.display_name})"
    expected = [f"Layers > Segment > {title}", f"Plugins > {title}"]
    samples = parts.sample_data or []
    expected += [f"> {manifest.display_name} > {each.display_name}" for each in samples]
    for writer in parts.writers or []:
        expected.append(f"{writer.display_name} (`{writer.filename_extensions[0]}`)")
    patterns = [p for each in parts.readers or [] for p in each.filename_patterns]
    expected += [f"`{pattern.removeprefix('*')}`" for pattern in patterns]
    assert [each for each in expected if each not in section] == []
    rows = re.findall(r"^\| (\S+) \| (.+) \| (.+) \|$", section, re.MULTILINE)
    keys = rows[[row[0] for row in rows].index("key") + 1 :]
    assert keys == [(each.key, each.text, each.where) for each in KEYS]


def test_what_is_claimed(manifest: PluginManifest) -> None:
    """PNG, JPEG and films are napari's: it opens them well."""
    readers = {each.command: each for each in manifest.contributions.readers or []}
    patterns = {pattern for each in readers.values() for pattern in each.filename_patterns}
    assert patterns.isdisjoint({"*", "*.*", "*.png", "*.jpg", "*.jpeg", "*.avi", "*.npy", "*.json"})
    assert {"*.espprompts.json", "*.esprun.json", "*.tif", "*.svs", "*.ndpi", "*.dcm"} <= patterns
    folders = [name for name, each in readers.items() if each.accepts_directories]
    assert folders == [f"{PLUGIN}.read_images"]


def test_each_format_is_offered_and_images_are_left_to_napari(manifest: PluginManifest) -> None:
    writers = manifest.contributions.writers or []
    assert all(writer.layer_types == ["labels"] for writer in writers)
    endings = [ending for writer in writers for ending in writer.filename_extensions]
    suffixes = [kind.suffix for kind in FORMATS.values() if kind.name != "tiff"]
    assert sorted(endings) == sorted([".espprompts.json", ".labels.tif", *suffixes])


def test_labels_are_still_saved_as_images_by_default() -> None:
    """The first writer is taken where a name has no ending, so it must write labels.

    Napari's own comes first unless another is discovered earlier, as from a checkout on the path.
    """
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    writers = [each.command for each in manager.iter_compatible_writers(["labels"])]
    assert writers[0] in ("napari.write_labels", f"{PLUGIN}.write_tiff")
    ours = [each for each in writers if each.startswith(PLUGIN)]
    assert ours[0] == f"{PLUGIN}.write_tiff"
    assert f"{PLUGIN}.write_prompts" in ours
    writer, path = manager.get_writer("a/b.tif", ["labels"])
    assert writer is not None
    assert (writer.command, path) == ("napari.write_labels", "a/b.tif")


@pytest.mark.parametrize(
    ("key", "ndim", "rgb", "dtype"),
    [("nuclei_stack", 3, False, np.uint16), ("he_field", 2, True, np.uint8)],
)
def test_samples_open(make_napari_viewer, key: str, ndim: int, rgb: bool, dtype: Any) -> None:
    viewer = make_napari_viewer()
    viewer.open_sample(PLUGIN, key)
    (layer,) = viewer.layers
    assert (layer.ndim, layer.rgb, layer.data.dtype) == (ndim, rgb, dtype)

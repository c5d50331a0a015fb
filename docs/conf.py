"""Settings of the docs site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
CARDS = HERE / "_cards"

# Examples say the same wherever they run, and no graph is exported for them.
os.environ["NAPARI_ESPMEDSAM_BACKEND"] = "torch"

# The site describes this checkout, whatever else is installed; two examples use its training.
sys.path[:0] = [str(SOURCE), str(HERE.parent)]

from napari_espmedsam import __version__  # noqa: E402 (the path comes first)

project = "napari-espmedsam"
author = "napari-espmedsam contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "examples", "images", "Thumbs.db", ".DS_Store"]

# Pages are read on GitHub as well: plain Markdown, links to headings as GitHub names them.
myst_heading_anchors = 3

# Examples are run, those that have changed since the last build; one that fails ends the build.
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "_examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "only_warn_on_example_error": False,
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "reset_modules": ("matplotlib",),
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
}

autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"napari-espmedsam {version}"
html_copy_source = False


def setup(app: Any) -> None:
    """Let Sphinx call what is below."""
    app.connect("config-inited", copy_cards)
    app.connect("source-read", lead_to_copies)


def copy_cards(_app: Any, _config: Any) -> None:
    """Bring the model cards, which travel with the weights, to where Sphinx reads pages."""
    CARDS.mkdir(exist_ok=True)
    for card in (SOURCE / "napari_espmedsam" / "weights").glob("*.md"):
        shutil.copy2(card, CARDS / card.name)


def lead_to_copies(_app: Any, _page: str, source: list[str]) -> None:
    """Let links to cards and examples, which are right on GitHub, lead to their pages."""
    for up in ("../../", "../"):
        source[0] = source[0].replace(f"]({up}src/napari_espmedsam/weights/", f"]({up[3:]}_cards/")
    source[0] = re.sub(r"\]\(examples/(\w+)\.py\)", r"](_examples/\1.rst)", source[0])

"""Settings of the docs site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
CARDS = HERE / "_cards"

# The site describes this checkout, whatever else is installed.
sys.path.insert(0, str(SOURCE))

from napari_espmedsam import __version__  # noqa: E402 (the path comes first)

project = "napari-espmedsam"
author = "napari-espmedsam contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build", "images", "Thumbs.db", ".DS_Store"]

# Pages are read on GitHub as well: plain Markdown, links to headings as GitHub names them.
myst_heading_anchors = 3

# Signatures and docstrings are all that is wanted of these.
autodoc_mock_imports = ["torch"]
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
    app.connect("source-read", lead_to_cards)


def copy_cards(_app: Any, _config: Any) -> None:
    """Bring the model cards, which travel with the weights, to where Sphinx reads pages."""
    CARDS.mkdir(exist_ok=True)
    for card in (SOURCE / "napari_espmedsam" / "weights").glob("*.md"):
        shutil.copy2(card, CARDS / card.name)


def lead_to_cards(_app: Any, _page: str, source: list[str]) -> None:
    """Let links to the cards, which are right on GitHub, lead to the copies."""
    for up in ("../../", "../"):
        source[0] = source[0].replace(f"]({up}src/napari_espmedsam/weights/", f"]({up[3:]}_cards/")

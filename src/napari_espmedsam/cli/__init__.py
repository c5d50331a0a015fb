"""The command ``napari-espmedsam``.

Nothing here imports torch at the top: ``--help`` and a wrong option answer at once.
"""

from __future__ import annotations

import sys

from napari_espmedsam.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; exit code 2 for anything the user can mend."""
    for stream in (sys.stdout, sys.stderr):
        # A file name or a unit that the console cannot show must not end a run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()

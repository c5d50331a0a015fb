"""Add, hide and remove images in a napari window without any plugin, and see whether it lives.

    xvfb-run -a python tests/soak/canvas_alone.py

Under Mesa's software OpenGL (22.3) and napari 0.9 it ends by a segmentation fault in glDrawArrays
within a minute; without removing (``--keep``) it does not. Of use to tell such an end from ours.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

SHAPES = ((40, 50), (3, 40, 50), (200, 300))


def main() -> None:
    """Work for some seconds, and say so at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="never remove a layer")
    asked = parser.parse_args()
    faulthandler.enable()
    rng, end = random.Random(asked.seed), time.monotonic() + asked.seconds
    while time.monotonic() < end:
        viewer = napari.Viewer()
        for step in range(300):
            act(viewer, rng, step, keep=asked.keep)
            for _ in range(3):
                QApplication.processEvents()
        viewer.close()
        QApplication.processEvents()
    print("it lives")


def act(viewer: napari.Viewer, rng: random.Random, step: int, *, keep: bool) -> None:
    """Do one thing that a user may do."""
    what, layers = rng.random(), list(viewer.layers)
    if what < 0.4 and len(layers) < 10:
        values = np.random.default_rng(step).integers(0, 200, rng.choice(SHAPES))
        viewer.add_image(values.astype(np.uint8))
    elif what < 0.6 and layers and not keep:
        viewer.layers.remove(rng.choice(layers))
    elif what < 0.8 and layers:
        layer = rng.choice(layers)
        layer.visible = not layer.visible
    elif viewer.dims.ndim > 2:
        viewer.dims.set_current_step(0, rng.randrange(3))


if __name__ == "__main__":
    main()

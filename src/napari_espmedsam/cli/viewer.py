"""Open napari with the demo's layers, where there is a napari and a screen to open it on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from napari_espmedsam.cli.demo import Sample

_GAP = 20.0  # micrometres between the two samples
# A dead display makes Qt abort the whole process, so the first window is opened in another one.
_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"


def show(samples: list[Sample]) -> None:
    """Open napari with images and labels and wait until it is closed; else say why not."""
    problem = missing_for_viewer()
    if problem:
        typer.echo(f"napari is not opened: {problem}")
        return
    import napari

    viewer = napari.Viewer(title="napari-espmedsam demo")
    add_layers(viewer, samples)
    napari.run()


def missing_for_viewer() -> str | None:
    """Return what napari lacks to open a window here, or None."""
    if sys.platform not in ("win32", "darwin") and not _has_display():
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)."
    if importlib.util.find_spec("napari") is None or importlib.util.find_spec("qtpy") is None:
        return 'it is not installed; pip install "napari-espmedsam[all]" brings it.'
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    lines = [line.strip() for line in probe.stderr.splitlines() if line.strip()]
    if probe.returncode and lines and lines[0].startswith("Traceback"):
        return f'no Qt can be loaded ({lines[-1]}); pip install "napari-espmedsam[all]" brings one.'
    if probe.returncode:
        reason = lines[0] if lines else f"exit code {probe.returncode}"
        return f"Qt cannot open a window ({reason}); check DISPLAY."
    return None


def _has_display() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def add_layers(viewer: Any, samples: list[Sample]) -> None:
    """Add image and labels of each sample, side by side.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        Gets two layers for each sample.
    samples : list of Sample
        Results of the demo.
    """
    left = 0.0
    for sample in samples:
        axes = sample.axes.removesuffix("S")
        place = {
            "scale": [sample.spacing[a] for a in axes],
            "translate": [left if a == "X" else 0.0 for a in axes],
            "units": ["micrometer"] * len(axes),
            "axis_labels": list(axes.lower()),
        }
        viewer.add_image(sample.image, name=sample.name, rgb=sample.axes.endswith("S"), **place)
        viewer.add_labels(
            sample.labels,
            name=f"{sample.name} labels",
            metadata={"napari-espmedsam": sample.provenance},
            **place,
        )
        left += sample.truth.shape[-1] * sample.spacing["X"] + _GAP
    viewer.reset_view()
    middle = samples[0].truth.shape[0] // 2
    viewer.dims.set_point(0, middle * samples[0].spacing[samples[0].axes[0]])

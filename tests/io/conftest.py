"""Files as microscopes, slide scanners and converters write them, in small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

MakePyramid = Callable[..., Path]
APERIO = "Aperio Image Library v12.0.1\n{w}x{h} (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Return a function that makes seeded noise."""

    def make(shape: tuple[int, ...], dtype: Any = np.uint16) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)

    return make


@pytest.fixture
def svs(tmp_path: Path) -> Callable[[np.ndarray], Path]:
    """Return a function that writes a slide in Aperio's layout: levels, thumbnail, label."""

    def write(array: np.ndarray) -> Path:
        path = tmp_path / "slide.svs"
        options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        tiles = {"tile": (64, 64), **options}
        text = APERIO.format(w=array.shape[1], h=array.shape[0])
        with tifffile.TiffWriter(path) as writer:
            writer.write(array, description=text, **tiles)
            writer.write(array[::8, ::8], description=f"{text} -> thumbnail", **options)
            writer.write(array[::2, ::2], description=text, **tiles)
            writer.write(array[::4, ::4], description=text, **tiles)
            writer.write(array[:20, :20], description="Aperio\nlabel", subfiletype=1, **options)
        return path

    return write


@pytest.fixture
def ome_pyramid(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an OME-TIFF whose smaller levels are SubIFDs."""

    def write(array: np.ndarray, axes: str, **metadata: Any) -> Path:
        path = tmp_path / "image.ome.tif"
        options: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack"}
        with tifffile.TiffWriter(path, ome=True) as writer:
            writer.write(array, subifds=2, metadata={"axes": axes, **metadata}, **options)
            for step in (2, 4):
                writer.write(array[..., ::step, ::step], subfiletype=1, **options)
        return path

    return write


@pytest.fixture
def ome_zarr(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes OME-Zarr of a version by the letter of the specification."""
    import zarr

    def write(array: np.ndarray, axes: str, version: str = "0.4", **more: Any) -> Path:
        path = tmp_path / f"{more.pop('name', 'image')}.ome.zarr"
        form: Any = 3 if version == "0.5" else 2
        group = zarr.open_group(str(path), mode="w", zarr_format=form)
        datasets = []
        for level in range(3):
            step = 2**level
            part = array[..., ::step, ::step]
            chunks = (*(1 for _ in part.shape[:-2]), 16, 16)
            group.create_array(str(level), shape=part.shape, chunks=chunks, dtype=part.dtype)[:] = (
                part
            )
            scale = [{"t": 0.5, "c": 1.0, "z": 2.0}.get(a, 0.25 * step) for a in axes.lower()]
            datasets.append(
                {
                    "path": str(level),
                    "coordinateTransformations": [{"type": "scale", "scale": scale}],
                }
            )
        units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
        described = [{"name": a} | ({"unit": units[a]} if a in units else {}) for a in axes.lower()]
        content = {"multiscales": [{"axes": described, "datasets": datasets}], **more}
        group.attrs.update({"ome": {"version": version, **content}} if form == 3 else content)
        return path

    return write


@pytest.fixture
def shapes() -> np.ndarray:
    """Return (24, 30) labels: holes, parts, single pixels, borders, corners that touch."""
    labels = np.zeros((24, 30), np.uint32)
    labels[0:6, 0:7] = 1  # in the corner of the image, with a hole in which 2 lies
    labels[2:4, 2:5] = 0
    labels[3, 3] = 2  # one pixel
    labels[8:12, 2:6] = 70_000  # of two parts, far apart
    labels[18:22, 20:24] = 70_000
    labels[9:12, 9:12] = 4  # a ring that is closed by corners alone
    labels[10, 10] = labels[9, 9] = 0
    labels[14, 3] = labels[15, 4] = 5  # two pixels that meet at a corner
    labels[14:20, 9:15] = 6  # with holes that meet at a corner
    labels[16, 11] = labels[17, 12] = 0
    labels[0:24, 29] = 7  # along a border
    return labels


@pytest.fixture
def stack(shapes: np.ndarray) -> np.ndarray:
    """Return (2, 3, 24, 30) labels along T, Z, Y, X; planes differ, and one is empty."""
    planes = [np.roll(shapes, shift, axis=-1) for shift in range(6)]
    labels = np.stack(planes).reshape(2, 3, 24, 30)
    labels[1, 1] = 0
    return labels

"""What is wrong with an image that can be used all the same is said, and the exit code is 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import Result

from napari_espmedsam.io.labels import read_provenance

Run = Callable[..., Result]


@pytest.mark.parametrize("command", ["segment", "batch"])
def test_missing_planes(
    command: str, run: Run, checkpoint: Path, tmp_path: Path, write_lacking: Callable[[Path], Path]
) -> None:
    path = write_lacking(tmp_path / "a.ome.tif")
    fixed = ("-o", tmp_path / "out", "-m", checkpoint, "--modality", "microscopy")
    result = run(command, path, *fixed)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("Warning: ") == 1
    assert "2 of 5 planes" in result.stderr
    if command == "segment":
        about = read_provenance(tmp_path / "out" / "a_labels.tif")
        assert "2 of 5 planes" in about["warnings"][0]


def test_a_level_of_a_slide_that_is_left_out(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (300, 280, 3)).astype(np.uint8)
    path = tmp_path / "slide.tif"
    options = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, subifds=1, **options)
        tif.write(pixels[::2, ::2], subfiletype=1, **options)
    with tifffile.TiffFile(path) as tif:
        place = tif.series[0].levels[1].pages[0].tags["TileOffsets"].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 4] = np.asarray(10**9, "<u4").tobytes()
    path.write_bytes(content)
    fixed = ("-o", tmp_path / "out.zarr", "-m", checkpoint, "--modality", "microscopy")
    result = run("slide", path, *fixed, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "Warning: " in result.stderr
    assert "level 1 of the pyramid is left out" in result.stderr

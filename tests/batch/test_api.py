"""``segment_file`` and ``segment_folder`` from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from napari_espmedsam import InputError, segment_file, segment_folder
from napari_espmedsam.batch.events import FileDone, JobResult


def test_one_file(write_image: Callable[..., Path], checkpoint: Path, tmp_path: Path) -> None:
    path, weights = write_image("a.tif"), str(checkpoint)
    result = segment_file(path, tmp_path / "out", checkpoint=weights, formats=["csv"])
    assert result.state == "done"
    assert result.outputs == (tmp_path / "out" / "a_labels.csv",)
    again = segment_file(path, tmp_path / "out", checkpoint=weights, formats=["csv"])
    assert (again.state, again.outputs) == ("skipped", result.outputs)
    other = segment_file(path, tmp_path / "out", checkpoint=weights, formats=["csv"], output="mask")
    assert other.state == "done"


def test_one_file_raises_what_is_wrong(
    write_image: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    write_image("a.tif"), write_image("b.tif")
    settings = {"checkpoint": str(checkpoint)}
    with pytest.raises(InputError, match="does not exist"):
        segment_file(tmp_path / "no.tif", tmp_path / "out", **settings)
    with pytest.raises(InputError, match="stands for 2 images; use segment_folder"):
        segment_file(tmp_path / "in", tmp_path / "out", **settings)
    with pytest.raises(InputError, match="min_size is -1"):
        segment_file(tmp_path / "in" / "a.tif", tmp_path / "out", min_size=-1, **settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_tells_its_events(
    write_image: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    write_image("a.tif"), write_image("b.tif").write_bytes(b"")
    told: list[object] = []
    result = segment_folder(
        tmp_path / "in", tmp_path / "out", checkpoint=str(checkpoint), on_event=told.append
    )
    assert not result.ok
    assert [each.relative for each in result.failed] == ["b.tif"]
    assert told[-1] is result
    assert isinstance(told[-1], JobResult)
    assert sum(isinstance(event, FileDone) for event in told) == 1

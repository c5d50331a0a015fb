"""What goes wrong in a long run: kills, other settings, damaged files, full disks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.batch.slide_run import run_slide
from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.io.zarr_labels import holds_zarr

Array = np.ndarray[Any, np.dtype[Any]]
MakeJob = Callable[..., Any]


def files(folder: Path) -> dict[str, bytes]:
    """All files of a result but the record, which holds the time."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".zattrs"
    }


@pytest.mark.parametrize("after", [1, 20, 60])
def test_a_killed_run_goes_on_to_the_same_files(
    make_job: MakeJob, planted: Array, tmp_path: Path, after: int
) -> None:
    job = make_job(planted)
    job.run(tmp_path / "straight.zarr")
    output = tmp_path / "killed.zarr"
    steps = run_slide(job.slide, job.segmenter, job.plan, output)
    for _ in range(after):
        next(steps)
    steps.close()
    assert not output.exists()
    with pytest.raises(OutputError, match="pass --resume"):
        job.run(output)
    job.run(output, resume=True)
    assert files(output) == files(tmp_path / "straight.zarr")
    assert not output.with_name("killed.zarr.partial").exists()


def test_a_kill_while_numbering_goes_on_to_the_same_files(
    make_job: MakeJob, planted: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.batch.slide_store import SlideStore

    job = make_job(planted)
    job.run(tmp_path / "straight.zarr")
    number, calls = SlideStore.number, []

    def dies(self: SlideStore, *arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        number(self, *arguments)

    monkeypatch.setattr(SlideStore, "number", dies)
    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "killed.zarr")
    job.run(tmp_path / "killed.zarr", resume=True)
    assert files(tmp_path / "killed.zarr") == files(tmp_path / "straight.zarr")


def test_the_order_of_chunks_changes_nothing(
    make_job: MakeJob, planted: Array, tmp_path: Path
) -> None:
    job = make_job(planted, output="split")
    job.run(tmp_path / "forth.zarr")
    order = np.random.default_rng(0).permutation(job.plan.chunks).tolist()
    job.run(tmp_path / "mixed.zarr", order=order)
    assert files(tmp_path / "forth.zarr") == files(tmp_path / "mixed.zarr")


def test_a_chunk_alone_is_what_it_is_in_the_run(
    make_job: MakeJob, planted: Array, tmp_path: Path
) -> None:
    """The unit of work of a cluster: nothing but slide, model, plan and number goes in."""
    from napari_espmedsam.batch.slide_chunk import segment_chunk
    from napari_espmedsam.batch.slide_merge import ChunkRecord, merge_chunks

    job = make_job(planted)
    labels = job.run(tmp_path / "out.zarr")
    results = {}
    for chunk in reversed(job.plan.chunks):
        steps = segment_chunk(job.slide, job.segmenter, job.plan, chunk)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                results[chunk] = stop.value
                break
    records = {i: ChunkRecord(r.first, r.frame) for i, r in results.items()}
    tables, n = merge_chunks(records, job.plan.chunk_rows[1])
    assert n == labels.max()
    for chunk, result in results.items():
        np.testing.assert_array_equal(tables[chunk][result.labels], labels[job.plan.core(chunk)])


def test_other_settings_do_not_go_on(make_job: MakeJob, planted: Array, tmp_path: Path) -> None:
    job = make_job(planted)
    steps = run_slide(job.slide, job.segmenter, job.plan, tmp_path / "out.zarr")
    next(steps)
    steps.close()
    other = make_job(job.slide.path, min_size=99)
    with pytest.raises(OutputError, match="another request"):
        other.run(tmp_path / "out.zarr", resume=True)
    labels = other.run(tmp_path / "out.zarr", overwrite=True)
    assert labels.max() > 0


def test_a_result_is_kept_unless_asked(make_job: MakeJob, planted: Array, tmp_path: Path) -> None:
    job = make_job(planted)
    job.run(tmp_path / "out.zarr")
    before = files(tmp_path / "out.zarr")
    with pytest.raises(OutputError, match="--overwrite"):
        job.run(tmp_path / "out.zarr")
    job.run(tmp_path / "out.zarr", overwrite=True)
    assert files(tmp_path / "out.zarr") == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="no Zarr folder"):
        job.run(tmp_path / "notes", overwrite=True)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("resume", [True, False], ids=["resumed", "begun again"])
def test_a_kill_while_a_result_is_replaced_loses_neither(
    resume: bool, make_job: MakeJob, planted: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, out = make_job(planted), tmp_path / "out.zarr"
    before = job.run(out)

    def killed(_source: Path, target: Path) -> None:
        if target == out:
            raise KeyboardInterrupt
        rename(_source, target)

    rename = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            job.run(out, overwrite=True)
    assert not out.exists()
    if resume:
        after = job.run(out, resume=True)
    else:
        steps = run_slide(job.slide, job.segmenter, job.plan, out, overwrite=True)
        next(steps)
        steps.close()  # the new result has only begun: the old one is back
        assert holds_zarr(out)
        after = job.run(out, overwrite=True)
    np.testing.assert_array_equal(after, before)
    assert not out.with_name("out.zarr.partial").exists()
    assert not (out / ".run").exists()


def test_an_old_result_is_back_where_the_new_one_gets_no_name(
    make_job: MakeJob, planted: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, out = make_job(planted), tmp_path / "out.zarr"
    job.run(out)
    before, rename = files(out), os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.name == "out.zarr.partial":
            raise PermissionError(13, "The file is in use")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        with pytest.raises(OutputError, match="in use"):
            job.run(out, overwrite=True)
    assert files(out) == before


def test_a_folder_of_the_user_beside_the_result_stays(
    make_job: MakeJob, planted: Array, tmp_path: Path
) -> None:
    job, mine = make_job(planted), tmp_path / "out.zarr.old" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("keep")
    job.run(tmp_path / "out.zarr")
    job.run(tmp_path / "out.zarr", overwrite=True)
    assert mine.read_text() == "keep"


def test_a_damaged_tile_is_named_and_the_rest_stays(
    make_job: MakeJob, planted: Array, tmp_path: Path
) -> None:
    import tifffile

    path = make_job(planted).slide.path
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        at, length = page.dataoffsets[-1], page.databytecounts[-1]
    sound = path.read_bytes()
    path.write_bytes(sound[: at + 4] + b"\xff" * (length - 4) + sound[at + length :])
    job = make_job(path)
    with pytest.raises(InputError, match=r"Rows \d+ to 1500.*damaged"):
        job.run(tmp_path / "out.zarr")
    partial = tmp_path / "out.zarr.partial"
    finished = sorted(int(p.stem) for p in (partial / ".run" / "chunks").glob("*.npz"))
    assert finished == list(range(7))  # the eighth sees the damage in its margin
    assert not (tmp_path / "out.zarr").exists()


def test_a_read_only_folder(
    make_job: MakeJob, planted: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(planted)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # root, whom containers run as, may write anywhere
    with pytest.raises(OutputError, match="cannot write into"):
        job.run(tmp_path / "locked" / "out.zarr")
    assert list((tmp_path / "locked").iterdir()) == []


def test_nothing_foreign_is_replaced(make_job: MakeJob, planted: Array, tmp_path: Path) -> None:
    job = make_job(planted)
    with pytest.raises(OutputError, match="would replace the slide"):
        job.run(job.slide.path, overwrite=True)
    (tmp_path / "out.zarr.partial").mkdir()
    (tmp_path / "out.zarr.partial" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="no unfinished run"):
        job.run(tmp_path / "out.zarr", overwrite=True)
    assert (tmp_path / "out.zarr.partial" / "mine.txt").read_text() == "keep"


def test_a_full_disk_says_so_and_the_run_goes_on_later(
    make_job: MakeJob, planted: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_espmedsam.batch import slide_store

    job = make_job(planted)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(slide_store.np, "savez_compressed", full)
        with pytest.raises(OutputError, match="No space left"):
            job.run(tmp_path / "out.zarr")
    assert job.run(tmp_path / "out.zarr", resume=True).max() > 0


def test_a_slide_without_pyramid_or_tissue(
    make_job: MakeJob, discs: Callable[..., Array], tmp_path: Path
) -> None:
    blank = discs((1100, 1100), np.zeros((0, 2), int))
    job = make_job(blank, tissue=True, levels=0)
    assert job.plan.chunks == ()
    assert job.run(tmp_path / "blank.zarr").max() == 0
    pixels = discs((1100, 1100), np.array([[500, 500], [520, 700]]))
    job = make_job(pixels, tissue=True, levels=0)
    assert len(job.slide.levels) == 1
    assert job.run(tmp_path / "out.zarr").max() == 2


def test_an_ome_zarr_slide_gives_the_labels_of_its_tiff(
    make_job: MakeJob, planted: Array, tmp_path: Path
) -> None:
    import zarr

    group = zarr.open_group(str(tmp_path / "slide.zarr"), mode="w", zarr_format=2)
    for k in range(2):
        channels_first = np.moveaxis(planted[:: 2**k, :: 2**k], -1, 0)
        group.create_array(str(k), data=channels_first, chunks=(3, 256, 256))
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    datasets = [{"path": str(k), "coordinateTransformations": scale} for k in range(2)]
    names = {"c": "channel", "y": "space", "x": "space"}
    axes = [{"name": name, "type": kind} for name, kind in names.items()]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    of_zarr = make_job(tmp_path / "slide.zarr", rgb=True).run(tmp_path / "a.zarr")
    np.testing.assert_array_equal(of_zarr, make_job(planted).run(tmp_path / "b.zarr"))


def test_levels_and_metadata_are_ome_zarr(
    make_job: MakeJob, planted: Array, tmp_path: Path
) -> None:
    import zarr

    labels = make_job(planted).run(tmp_path / "out.zarr")
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    described = group.attrs["multiscales"][0]["datasets"]
    assert [each["path"] for each in described] == ["0", "1", "2", "3"]
    for k, each in enumerate(described):
        level = group[each["path"]]
        assert level.dtype == np.uint32
        np.testing.assert_array_equal(np.asarray(level), labels[:: 2**k, :: 2**k])
        assert each["coordinateTransformations"][0]["scale"] == [2.0**k, 2.0**k]
    assert group.attrs["image-label"]["version"] == "0.4"
    assert group.attrs["napari-espmedsam"]["objects"] == labels.max()
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_settings_that_do_not_suit_a_slide(make_job: MakeJob, helpers: Any, planted: Array) -> None:
    with pytest.raises(InputError, match="planes is given"):
        make_job(planted, planes=(0,))
    with pytest.raises(InputError, match="clean-up look 5068 px far; the limit is 1024"):
        make_job(planted, min_size=5002)
    with pytest.raises(InputError, match="tiles"):
        make_job(planted, segmenter=helpers.make_segmenter(geometry="whole"))


def test_two_runs_into_one_result(make_job: MakeJob, planted: Array, tmp_path: Path) -> None:
    job, output = make_job(planted), tmp_path / "labels.zarr"
    steps = run_slide(job.slide, job.segmenter, job.plan, output)
    next(steps)
    with pytest.raises(OutputError, match="another job is writing"):
        job.run(output, resume=True)
    job.run(tmp_path / "beside.zarr")
    list(steps)
    assert files(output) == files(tmp_path / "beside.zarr")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

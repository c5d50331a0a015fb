"""A session as data: recorded, restored and replayed, always to the same array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.events import Failed, PlaneReady, RecordReady, Restored
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.studio.record_file import read_record, write_record
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.replay import replay
from napari_espmedsam.studio.session import Session

Array = np.ndarray[Any, np.dtype[Any]]
TIMEOUT = 120.0


@pytest.fixture
def stack(rng: np.random.Generator) -> Array:
    return (rng.random((3, 72, 80)) * 250).astype(np.uint8)


def finish(session: Session) -> None:
    assert session.wait(TIMEOUT)


def work(session: Session) -> None:
    """Edit, lock and paint here and there, so that ids are no longer those of a decoding."""
    rows, columns = session.canvas.shape
    session.show(1)
    finish(session)
    session.edit(1, np.s_[0 : rows // 2, 0 : columns // 2], 1)
    session.show(0)
    finish(session)
    labels = session.labels(0)
    assert labels is not None
    session.lock(0, [int(labels.max())])
    painted = labels.copy()
    painted[5:20, 5:30] = labels.max() + 7
    session.paint(0, labels, painted)
    session.edit(0, np.s_[rows // 2 : rows, 0:columns], 0)
    session.set("threshold", 0.48)
    session.set("prompt_threshold", 0.45)
    session.copy_edits(0, 2)


def record_of(session: Session, log: Any) -> PromptRecord:
    session.record("my image")
    finish(session)
    assert not log.of(Failed)
    found: PromptRecord = log.of(RecordReady)[-1].record
    return found


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
@pytest.mark.parametrize("output", ["objects", "mask"])
@pytest.mark.parametrize("region", [None, Region(4, 8, 68, 76)])
@pytest.mark.parametrize("all_planes", [True, False])
def test_a_record_gives_the_array_back(
    name: str,
    output: str,
    region: Region | None,
    all_planes: bool,
    make_segmenter: Any,
    make_session: Any,
    log: Any,
    stack: Array,
    tmp_path: Path,
) -> None:
    if (name, region is None, all_planes) == ("med_fastsam_test", False, False):
        pytest.skip("nothing new")
    segmenter = make_segmenter(name)
    options = {"min_size": 0, "output": output, "region": region, "advise": False}
    session = make_session(segmenter, stack, **options)
    work(session)
    if all_planes:
        session.run()
    record = record_of(session, log)
    expected = log.labels(stack.shape)
    assert expected[0].any()
    assert expected[2].any() == all_planes
    assert record.image_name == "my image"
    record = read_record(write_record(tmp_path / "a.espprompts.json", record))

    replayed = replay(segmenter, stack, record)
    np.testing.assert_array_equal(replayed.labels, expected)

    log.events.clear()
    other = make_session(segmenter, stack, **options)
    other.show(2 if all_planes else 1)
    other.restore(record)
    finish(other)
    assert len(log.of(Restored)) == 1
    after = log.events[log.events.index(log.of(Restored)[0]) :]
    found = np.zeros_like(expected)
    top, left = other.offset
    height, width = other.plane_shape
    for event in after:
        if isinstance(event, PlaneReady):
            found[event.index][top : top + height, left : left + width] = event.labels
    np.testing.assert_array_equal(found, expected)
    for plane in range(3):
        np.testing.assert_array_equal(other.edits(plane), session.edits(plane))
        np.testing.assert_array_equal(other.locked(plane), session.locked(plane))
    assert other.settings == session.settings
    assert other.undo() == ""


def test_a_record_is_of_one_moment_though_edits_go_on(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    segmenter = make_segmenter()
    session = make_session(segmenter, stack, min_size=0, advise=False)
    session.show(0)
    session.run()
    session.record()
    for column in range(session.canvas.shape[1]):
        session.edit(0, np.s_[0:2, column : column + 1], column % 2)
        session.set("threshold", 0.5 - 0.01 * column)
    finish(session)
    record = log.of(RecordReady)[-1].record
    np.testing.assert_array_equal(replay(segmenter, stack, record).labels, log.labels(stack.shape))


def test_a_linked_stack_is_recorded_with_its_ids(
    make_segmenter: Any,
    make_session: Any,
    log: Any,
    gate_model: Any,
    discs: Callable[..., Array],
) -> None:
    image = np.stack([discs((64, 64), [(14, 14 + 4 * i), (48, 48)]) for i in range(3)])
    segmenter = make_segmenter(gate_model)
    session = make_session(segmenter, image)
    session.show(0)
    session.run()
    session.link("Z")
    finish(session)
    record = record_of(session, log)
    labels = log.labels(image.shape)
    assert len(np.unique(labels)) == 3
    np.testing.assert_array_equal(replay(segmenter, image, record).labels, labels)


def test_foreign_records_are_refused_and_change_nothing(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(), stack, min_size=0, advise=False)
    session.show(0)
    session.edit(0, np.s_[0:1, 0:1], 1)
    record = record_of(session, log)
    other = make_session(make_segmenter(), stack + 1, advise=False)
    other.show(0)
    finish(other)
    before = other.settings
    cases = [
        (replace(record, weights_sha256="cd" * 32), "weights"),
        (replace(record, image_dtype="uint16"), "uint16"),
        (replace(record, image_shape=(3, 72, 81)), "81"),
        (replace(record, region=Region(0, 0, 64, 64), planes=()), "the whole image"),
    ]
    for foreign, message in cases:
        with pytest.raises(InputError, match=message):
            other.restore(foreign)
    log.events.clear()
    other.restore(record)  # the same shape, other pixels: found out by the worker
    finish(other)
    (failed,) = log.of(Failed)
    assert failed.task == "restore"
    assert "Plane 0" in str(failed.error)
    assert not log.of(Restored)
    assert other.settings == before
    assert (other.edits(0) == -1).all()

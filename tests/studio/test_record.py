"""What a record keeps, and what it refuses to be made of."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.plane_record import PlaneRecord, hash_plane
from napari_espmedsam.studio.record import PromptRecord

MakeRecord = Callable[..., PromptRecord]


def test_a_record_does_not_change_with_the_session() -> None:
    edits, locked = np.full((2, 3), -1, np.int8), np.zeros((4, 4), np.uint32)
    view = edits[:]
    view.flags.writeable = False
    plane = PlaneRecord((), "a", view, locked=locked)
    edits[:], locked[:] = 1, 5
    assert (plane.edits == -1).all()
    assert plane.locked is not None
    assert not plane.locked.any()
    with pytest.raises(ValueError, match="read-only"):
        plane.edits[0, 0] = 1


def test_shown_edits_tell_on_from_off() -> None:
    plane = PlaneRecord((), "a", np.array([[-1, 0, 1]]))
    np.testing.assert_array_equal(plane.shown(), [[0, 3, 2]])
    assert plane.is_edited
    assert not PlaneRecord((), "a", np.full((2, 2), -1)).is_edited


def test_planes_are_counted_as_the_segmenter_counts_them(make_record: MakeRecord) -> None:
    edits = np.full((1, 1), -1, np.int8)
    record = make_record(
        image_shape=(2, 5, 3, 16, 16),
        axes="TCZYX",
        planes=(PlaneRecord((1, 2), "a", edits), PlaneRecord((0, 1), "a", edits)),
    )
    assert record.leading_shape == (2, 3)
    assert record.plane_shape == (16, 16)
    assert [record.flat(plane) for plane in record.planes] == [5, 1]


def test_layers_with_a_record_can_be_copied(make_record: MakeRecord) -> None:
    record = make_record()
    for again in (copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        np.testing.assert_array_equal(again.planes[0].edits, record.planes[0].edits)
        assert again.request() == record.request()


def test_hashes_tell_pixels_shapes_and_types_apart_but_not_byte_orders() -> None:
    plane = np.arange(64, dtype="<u2").reshape(8, 8)
    same = [plane, plane.astype(">u2"), np.asfortranarray(plane), plane[:, ::-1][:, ::-1]]
    other = [plane.T, plane.reshape(4, 16), plane.astype("<i2"), plane.astype("<u4"), plane + 1]
    assert len({hash_plane(each) for each in same}) == 1
    assert len({hash_plane(each) for each in [plane, *other]}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edits": np.zeros((2, 2, 2), int)}, "shape"),
        ({"edits": np.zeros((0, 2), int)}, "shape"),
        ({"edits": np.full((2, 2), 2)}, "edits"),
        ({"edits": np.zeros((2, 2))}, "integers"),
        ({"locked": np.full((2, 2), -1)}, "locked"),
        ({"anchors": np.zeros((2, 2), int)}, "anchors"),
        ({"anchors": np.array([[1.0, 2.0, 3.0]])}, "anchors"),
        ({"pixels_hash": ""}, "pixels_hash"),
        ({"pixels_hash": None}, "pixels_hash"),
    ],
)
def test_planes_are_checked(changes: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {"index": (), "pixels_hash": "a", "edits": np.zeros((2, 2), int)}
    with pytest.raises(InputError, match=message):
        PlaneRecord(**(plain | changes))


def test_canvases_are_bounded(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    import napari_espmedsam.studio.record as record

    monkeypatch.setattr(record, "MAX_BYTES", 64 * 96 * 4)
    with pytest.raises(InputError, match="limit"):
        make_record()

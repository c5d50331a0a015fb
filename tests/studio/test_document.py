"""What a user has decided, and the way back. No model and no thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.plan import RunPlan, plan_run
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.studio.document import Document, encoding_key, state_key

WHOLE = np.s_[0:2, 0:3]


@pytest.fixture
def document() -> Document:
    """Three planes of 64 x 96 px under a model of two modalities with canvases of two shapes."""
    header = CheckpointHeader(
        name="fake",
        architecture="esp_medsam_test",
        config={"modalities": ("near", "far")},
        modalities=("near", "far"),
        inputs={
            "near": InputSpec(geometry="tiled", size=64),
            "far": InputSpec(geometry="tiled", size=64, scale=2.0),
        },
        licence="Apache-2.0",
    )
    image = np.zeros((3, 64, 96), np.uint8)

    def plan(request: SegmentRequest) -> RunPlan:
        return plan_run(header, image, **request.segment_options())

    return Document(plan, SegmentRequest(modality="near", axes="ZYX"))


def edits(document: Document, plane: int = 0) -> Any:
    found = document.target(plane).edits
    return None if found is None else found.tolist()


def test_edits_are_kept_by_plane_and_copied_on_write(document: Document) -> None:
    before = document.target(1)
    document.edit(1, np.s_[0:1, 1:3], 1, "Patch on", None)
    first = document.target(1).edits
    document.edit(1, np.s_[1:2, 0:2], np.array([[0, -1]]), "Patch", None)
    assert before.edits is None
    assert first is not None
    assert first.tolist() == [[-1, 1, 1], [-1, -1, -1]]
    assert edits(document, 1) == [[-1, 1, 1], [0, -1, -1]]
    assert edits(document, 0) is None
    assert not first.flags.writeable
    assert document.touched() == {1}


def test_edits_that_change_nothing_are_no_edits(document: Document) -> None:
    document.edit(0, WHOLE, -1, "Clear", None)
    assert (document.revision, document.undo_text) == (0, "")
    document.edit(0, np.s_[0:1, 0:1], 1, "Patch on", None)
    document.edit(0, np.s_[0:1, 0:1], -1, "Clear", None)
    assert edits(document) is None
    assert document.touched() == set()


@pytest.mark.parametrize(
    ("box", "values", "message"),
    [
        (np.s_[0:3, 0:1], 1, "does not lie on the prompt canvas"),
        (np.s_[0:1, 0:1], 2, "beyond -1, 0 and 1"),
        (np.s_[0:1, 0:2], np.ones((2, 2)), r"shape \(2, 2\)"),
    ],
)
def test_wrong_edits_are_refused_and_change_nothing(
    box: Any, values: Any, message: str, document: Document
) -> None:
    with pytest.raises(InputError, match=message):
        document.edit(0, box, values, "Patch on", None)
    assert edits(document) is None
    assert document.undo_text == ""


def test_undo_and_redo_walk_through_everything(document: Document) -> None:
    locked = np.zeros((64, 96), np.uint32)
    locked[10:20, 10:20] = 4
    states = [document.target(0)]
    document.edit(0, np.s_[0:1, 0:1], 1, "Patch on", None)
    states.append(document.target(0))
    document.set({"threshold": 0.7}, "Threshold")
    states.append(document.target(0))
    document.set_locked(0, locked, "Lock")
    states.append(document.target(0))
    document.set({"modality": "far"}, "Modality")
    states.append(document.target(0))

    def looks(target: Any) -> tuple[Any, ...]:
        arrays = [None if a is None else a.tolist() for a in (target.edits, target.locked)]
        return (state_key(target.plan), *arrays)

    texts = ["Modality", "Lock", "Threshold", "Patch on"]
    for text, state in zip(texts, states[-2::-1], strict=True):
        assert document.undo_text == text
        assert document.undo() == text
        assert looks(document.target(0)) == looks(state)
    assert document.undo() == ""
    for text, state in zip(texts[::-1], states[1:], strict=True):
        assert document.redo_text == text
        assert document.redo() == text
        assert looks(document.target(0)) == looks(state)
    assert document.redo() == ""


def test_a_new_change_forgets_what_was_undone(document: Document) -> None:
    document.edit(0, np.s_[0:1, 0:1], 1, "Patch on", None)
    document.undo()
    document.edit(0, np.s_[0:1, 1:2], 0, "Patch off", None)
    assert document.redo() == ""
    assert edits(document) == [[-1, 0, -1], [-1, -1, -1]]


def test_one_drag_is_one_step(document: Document) -> None:
    for column in range(3):
        document.edit(0, np.s_[0:1, column : column + 1], 1, "Patch on", "stroke 1")
    document.edit(0, np.s_[1:2, 0:1], 1, "Patch on", "stroke 2")
    document.undo()
    assert edits(document) == [[1, 1, 1], [-1, -1, -1]]
    document.undo()
    assert edits(document) is None
    document.redo()
    assert edits(document) == [[1, 1, 1], [-1, -1, -1]]
    for value in (0.4, 0.5, 0.6):
        document.set({"threshold": value}, "Threshold")
    document.seal()
    document.set({"threshold": 0.7}, "Threshold")
    document.undo()
    assert document.settings.threshold == 0.6
    document.undo()
    assert document.settings.threshold is None


def test_a_canvas_of_other_cells_has_edits_of_its_own(document: Document) -> None:
    document.edit(0, np.s_[0:1, 0:1], 1, "Patch on", None)
    document.set({"modality": "far"}, "Modality")
    assert edits(document) is None
    document.edit(0, np.s_[3:4, 5:6], 0, "Patch off", None)
    document.set({"modality": "near"}, "Modality")
    assert edits(document) == [[1, -1, -1], [-1, -1, -1]]
    document.set({"tile": 96}, "Tile size")  # other tiles, the same cells
    assert edits(document) == [[1, -1, -1], [-1, -1, -1]]


def test_settings_that_do_not_work_change_nothing(document: Document) -> None:
    for changes in ({"threshold": 7.0}, {"modality": "x-ray"}, {"diameter": 9.0}):
        with pytest.raises(InputError):
            document.set(changes, "Setting")
    assert document.settings == SegmentRequest(modality="near", axes="ZYX")
    assert (document.revision, document.undo_text) == (0, "")


def test_targets_tell_whether_labels_can_differ(document: Document) -> None:
    first = document.target(0)
    assert first.is_same(document.target(0))
    document.edit(1, WHOLE, 1, "Patch on", None)
    assert first.is_same(document.target(0))
    document.set({"min_size": 3}, "Smallest object")
    second = document.target(0)
    assert not first.is_same(second)
    assert encoding_key(first.plan) == encoding_key(second.plan)
    document.set({"modality": "far"}, "Modality")
    assert encoding_key(document.target(0).plan) != encoding_key(second.plan)
    document.undo()
    document.edit(0, WHOLE, 1, "Patch on", None)
    assert not second.is_same(document.target(0))


def test_installing_replaces_everything(document: Document) -> None:
    document.edit(2, WHOLE, 1, "Patch on", None)
    locked = np.ones((64, 96), np.uint32)
    wanted = SegmentRequest(modality="near", axes="ZYX", threshold=0.3)
    document.install(wanted, {0: np.zeros((2, 3), np.int8)}, {1: locked})
    assert document.settings == wanted
    assert edits(document, 0) == [[0, 0, 0], [0, 0, 0]]
    assert edits(document, 2) is None
    assert document.touched() == {0, 1}
    assert document.undo() == ""
    with pytest.raises(InputError, match="prompt canvas"):
        document.install(wanted, {0: np.zeros((3, 3), np.int8)}, {})
    assert document.touched() == {0, 1}

"""The session: whatever is done in whatever order, the labels are those of a fresh run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.studio.events import Failed, PlaneReady
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.session import Session

Array = np.ndarray[Any, np.dtype[Any]]
TIMEOUT = 120.0
SHAPE = (72, 112)
"""Six tiles of 64 px; the canvas has 3 x 4 cells of 32 px."""


@pytest.fixture
def stack(rng: np.random.Generator) -> Array:
    return (rng.random((4, *SHAPE)) * 250).astype(np.uint8)


@pytest.fixture
def plane(discs: Callable[..., Array]) -> Array:
    """Three discs, each under a cell of its own, and an empty cell."""
    return discs((64, 96), [(14, 14), (14, 48), (48, 80)])


def finish(session: Session) -> None:
    assert session.wait(TIMEOUT)


def from_one(labels: Array) -> Array:
    """Number objects by their first pixel, as decoding does."""
    values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(values > 0, first, -1)))
    return (order + (0 if values[0] == 0 else 1))[inverse].reshape(labels.shape)


def fresh(segmenter: Segmenter, image: Array, session: Session) -> Array:
    """Segment all planes anew under the settings and edits of a session."""
    n = session.n_planes
    edits = {i: session.edits(i) for i in range(n) if (session.edits(i) >= 0).any()}
    options = session.settings.segment_options()
    del options["planes"]
    return segmenter.segment(image, **options, edits=edits).labels


def assert_like_fresh(segmenter: Segmenter, image: Array, session: Session) -> None:
    expected = fresh(segmenter, image, session)
    stack = image if session.leading_shape else image[None]
    expected = expected if session.leading_shape else expected[None]
    assert len(stack) == len(expected)
    seen = 0
    for i in range(session.n_planes):
        labels = session.labels(i)
        if labels is not None:
            np.testing.assert_array_equal(from_one(labels), from_one(expected[i]))
            seen += 1
    assert seen


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_labels_are_those_of_a_fresh_run(
    name: str, make_segmenter: Any, make_session: Any, log: Any, stack: Array, rng: Any
) -> None:
    segmenter = make_segmenter(name)
    session = make_session(segmenter, stack, min_size=0)
    session.show(2)
    finish(session)
    first = session.labels(2)
    assert first is not None
    assert_like_fresh(segmenter, stack, session)
    rows, columns = session.canvas.shape
    for value in (0, 1):
        y, x = rng.integers(0, rows // 2), rng.integers(0, columns // 2)
        session.edit(2, np.s_[y : y + rows // 2, x : x + columns // 2], value)
    finish(session)
    assert_like_fresh(segmenter, stack, session)
    edited = session.labels(2)
    assert edited is not None
    assert (from_one(edited) != from_one(first)).any()
    ready = log.of(PlaneReady)
    assert {event.plane for event in ready} == {2}
    np.testing.assert_array_equal(log.labels(stack.shape)[2], edited)
    assert not ready[-1].labels.flags.writeable
    assert ready[-1].revision == session.revision


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
@pytest.mark.parametrize("seed", range(3))
def test_any_race_ends_in_what_a_fresh_run_gives(
    name: str, seed: int, make_segmenter: Any, make_session: Any, stack: Array
) -> None:
    """Random edits, undo, settings, modalities and planes, faster than they can be computed."""
    rng = np.random.default_rng(seed)
    segmenter = make_segmenter(name, far_scale=1.5 if seed % 2 else 1.0)
    memory = (2**30, 1, 200_000)[seed]
    session = make_session(segmenter, stack, min_size=0, max_bytes=memory)
    session.show(0)
    session.run([1, 3])

    def edit() -> None:
        plane, (rows, columns) = int(rng.integers(4)), session.canvas.shape
        y, x = (np.sort(rng.integers(0, n + 1, 2)) for n in (rows, columns))
        box = (slice(int(y[0]), int(y[1])), slice(int(x[0]), int(x[1])))
        session.edit(plane, box, int(rng.integers(-1, 2)))

    actions: list[Callable[[], object]] = [
        edit,
        edit,
        edit,
        session.undo,
        session.undo,
        session.redo,
        lambda: session.show(int(rng.integers(4))),
        lambda: session.set("threshold", float(rng.uniform(0.3, 0.6))),
        lambda: session.set("prompt_threshold", [None, 0.4, 0.45, 0.5][rng.integers(4)]),
        lambda: session.set("min_size", int(rng.integers(0, 30))),
        lambda: session.set("smoothing", float(rng.uniform(0, 2))),
        lambda: session.set("output", ["objects", "split", "mask"][rng.integers(3)]),
        lambda: session.set("modality", ["near", "far"][rng.integers(2)]),
        lambda: session.copy_edits(int(rng.integers(4)), int(rng.integers(4))),
        session.seal,
    ]
    for step in range(60):
        actions[rng.integers(len(actions))]()
        if step % 20 == 19:
            session.wait(0.05)
    finish(session)
    assert_like_fresh(segmenter, stack, session)


def test_undo_gives_the_very_array_back(
    make_segmenter: Any, make_session: Any, gate_model: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(gate_model), plane)
    session.show(0)
    finish(session)
    states = [session.labels(0)]
    assert sorted(np.unique(states[0])) == [0, 1, 2, 3]
    session.edit(0, np.s_[0:1, 0:1], 0, what="Erase patch")
    finish(session)
    states.append(session.labels(0))
    session.edit(0, np.s_[0:1, 2:3], 1)
    session.set("threshold", 0.4)
    finish(session)
    states.append(session.labels(0))
    assert states[1][14, 14] == 0
    assert (states[1][14, 48], states[1][48, 80]) == (states[0][14, 48], states[0][48, 80])
    assert session.undo() == "Threshold"
    assert session.undo() == "Edit prompt"
    assert session.undo_text == "Erase patch"
    finish(session)
    np.testing.assert_array_equal(session.labels(0), states[1])
    session.undo()
    finish(session)
    np.testing.assert_array_equal(session.labels(0), states[0])
    for _ in range(3):
        session.redo()
    finish(session)
    np.testing.assert_array_equal(session.labels(0), states[2])
    assert session.redo() == ""


def test_a_new_object_gets_an_id_that_no_plane_has(
    make_segmenter: Any, make_session: Any, gate_model: Any, plane: Array
) -> None:
    """And the others keep theirs."""
    stack = np.stack([plane, plane[:, ::-1]])
    session = make_session(make_segmenter(gate_model), stack)
    session.edit(0, np.s_[0:1, 0:1], 0)
    session.show(0)
    session.run()
    finish(session)
    before = session.labels(0)
    assert set(np.unique(before)) == {0, 1, 2}
    assert set(np.unique(session.labels(1))) == {0, 3, 4, 5}
    session.clear_edits(0)
    finish(session)
    after = session.labels(0)
    assert after[14, 14] == 6
    np.testing.assert_array_equal(after[before > 0], before[before > 0])


def test_no_setting_of_the_output_encodes_again(
    make_segmenter: Any, make_session: Any, gate_model: Any, stack: Array
) -> None:
    segmenter = make_segmenter(gate_model)
    session = make_session(segmenter, stack, advise=False)
    session.show(0)
    session.run()
    finish(session)
    encoded, decoded = gate_model.n_encoded, gate_model.n_decoded
    assert encoded == 4 * 6
    for name, value in {
        "threshold": 0.7,
        "min_size": 2,
        "max_hole": 3,
        "smoothing": 1.0,
        "split_neck": 0.5,
        "output": "split",
    }.items():
        session.set(name, value)
        finish(session)
        assert all(session.is_current(i) for i in range(4))
    assert (gate_model.n_encoded, gate_model.n_decoded) == (encoded, decoded)
    session.set("prompt_threshold", 0.6)
    finish(session)
    assert gate_model.n_encoded == encoded
    assert_like_fresh(segmenter, stack, session)


def test_planes_whose_memory_was_needed_follow_settings_without_encoding(
    make_segmenter: Any, make_session: Any, gate_model: Any, stack: Array
) -> None:
    segmenter = make_segmenter(gate_model)
    session = make_session(segmenter, stack, max_bytes=1, min_size=0, advise=False)
    session.show(0)
    session.run()
    finish(session)
    encoded = gate_model.n_encoded
    session.set("threshold", 0.7)
    session.set("min_size", 4)
    finish(session)
    assert gate_model.n_encoded - encoded <= 6  # the visible plane alone, for its prompts
    assert_like_fresh(segmenter, stack, session)


def test_memory_that_is_needed_in_the_middle_of_a_stroke_mixes_nothing_up(
    make_segmenter: Any, make_session: Any, gate_model: Any, plane: Array
) -> None:
    segmenter, image = make_segmenter(gate_model), np.stack([plane, plane])
    session = make_session(segmenter, image, max_bytes=1, min_size=0, advise=False)
    renderer = session._workshop.renderer  # worked by hand: the pauses decide
    list(renderer.update(0))
    session._document.edit(0, np.s_[0:2, 0:3], 0, "Erase", None)
    stroke = renderer.update(0)
    decoded = gate_model.n_decoded
    while gate_model.n_decoded < decoded + 2:  # both tiles; the plane is not shown yet
        next(stroke)
    list(renderer.update(1))
    stroke.close()
    session._document.undo()
    session._document.set({"threshold": 0.6}, "Threshold")
    list(renderer.update(0))
    expected = segmenter.segment(plane, "near", axes="YX", post=session.settings.post).labels
    np.testing.assert_array_equal(renderer.shown(0).labels > 0, expected > 0)
    assert expected.any()


def test_a_stroke_decodes_the_tiles_that_it_touches(
    make_segmenter: Any, make_session: Any, gate_model: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(gate_model), stack)
    session.show(1)
    finish(session)
    decoded = gate_model.n_decoded
    box = np.s_[0:1, 0:1]
    tiles = session.canvas.tiles_of(box)
    session.edit(1, box, 0)
    finish(session)
    assert gate_model.n_decoded - decoded == len(tiles) < 6


def test_modalities_come_back_from_the_cache(
    make_segmenter: Any, make_session: Any, gate_model: Any, stack: Array
) -> None:
    segmenter = make_segmenter(gate_model, far_scale=1.5)
    session = make_session(segmenter, stack, diameter=None)
    session.show(0)
    session.edit(0, np.s_[0:1, 0:2], 0)
    finish(session)
    near = session.labels(0)
    session.set("modality", "far")
    finish(session)
    assert (session.edits(0) == -1).all()
    assert_like_fresh(segmenter, stack, session)
    encoded = gate_model.n_encoded
    session.set("modality", "near")
    finish(session)
    assert gate_model.n_encoded == encoded
    np.testing.assert_array_equal(session.labels(0), near)
    with pytest.raises(ModalityError, match="x-ray"):
        session.set("modality", "x-ray")
    assert session.settings.modality == "near"


def test_edits_are_copied_from_plane_to_plane(
    make_segmenter: Any, make_session: Any, gate_model: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(gate_model), np.stack([plane, plane]))
    session.run()
    session.show(0)
    session.edit(0, np.s_[0:1, 0:1], 0)
    session.edit(1, np.s_[1:2, 2:3], 0)
    session.copy_edits(0, 1)
    session.show(1)
    finish(session)
    np.testing.assert_array_equal(session.edits(1), session.edits(0))
    np.testing.assert_array_equal(session.labels(1) > 0, session.labels(0) > 0)
    assert session.undo() == "Copy prompt edits"
    assert session.edits(1)[1, 2] == 0


def test_locked_objects_stay_whatever_is_decoded(
    make_segmenter: Any, make_session: Any, gate_model: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(gate_model), plane)
    with pytest.raises(InputError, match="no labels yet"):
        session.lock(0, [1])
    session.show(0)
    finish(session)
    before = session.labels(0)
    session.lock(0, [before[14, 14]])
    session.edit(0, np.s_[0:2, 0:3], 0)
    finish(session)
    np.testing.assert_array_equal(session.labels(0), np.where(before == before[14, 14], before, 0))
    session.clear_edits(0)
    finish(session)
    np.testing.assert_array_equal(session.labels(0), before)
    session.unlock(0)
    session.edit(0, np.s_[0:2, 0:3], 0)
    finish(session)
    assert not session.labels(0).any()
    assert session.locked(0) is None


@pytest.mark.parametrize("output", ["objects", "mask"])
def test_what_is_painted_is_not_lost(
    output: str, make_segmenter: Any, make_session: Any, gate_model: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(gate_model), plane, output=output)
    session.show(0)
    finish(session)
    before = session.labels(0)
    after = before.copy()
    after[40:50, 5:20] = 1 if output == "mask" else 9  # a new object
    after[10:14, 10:60] = before[14, 48]  # one that grows over another
    session.paint(0, before, after)
    session.set("max_hole", 3)
    finish(session)
    np.testing.assert_array_equal(session.labels(0), after)
    session.edit(0, np.s_[0:2, 0:3], 0)
    finish(session)
    left = session.labels(0)
    changed = before != after
    np.testing.assert_array_equal(left[changed], after[changed])
    if output == "objects":
        assert left[48, 80] == 0
        np.testing.assert_array_equal(left[:, :64], after[:, :64])
    assert session.undo() == "Edit prompt"
    assert session.undo() == "Largest hole filled"
    assert session.undo() == "Paint"
    finish(session)
    np.testing.assert_array_equal(session.labels(0), before)
    with pytest.raises(InputError, match=r"shape \(3, 3\)"):
        session.paint(0, before[:3, :3], after[:3, :3])


def test_a_region_is_worked_on_as_if_it_were_the_image(
    make_segmenter: Any, make_session: Any, log: Any, stack: Array
) -> None:
    segmenter = make_segmenter()
    region = Region(8, 20, 60, 100)
    lazy = da.from_array(stack, chunks=(1, 50, 50))  # type: ignore[no-untyped-call]
    session = make_session(segmenter, lazy, region=region, min_size=0)
    session.show(1)
    session.edit(1, np.s_[0:1, 0:2], 1)
    finish(session)
    part = stack[:, 8:60, 20:100]
    assert_like_fresh(segmenter, part, session)
    event = log.of(PlaneReady)[-1]
    assert event.offset == session.offset == (8, 20)
    assert event.labels.shape == session.plane_shape == (52, 80)
    assert not log.labels(stack.shape)[1][:8].any()
    scale, shift = session.canvas.image_affine()
    assert event.prompts.scale == scale
    assert event.prompts.translate == (shift[0] + 8, shift[1] + 20)
    with pytest.raises(InputError, match="Choose one inside"):
        make_session(segmenter, stack, region=Region(0, 0, 73, 40))


@pytest.mark.parametrize(
    ("axes", "shape", "options"),
    [
        ("YX", (72, 80), {}),
        ("YXS", (72, 80, 3), {}),
        ("CYX", (2, 72, 80), {"channel": 1}),
        ("TZYX", (2, 2, 72, 80), {}),
        ("YXZ", (72, 80, 3), {}),
    ],
)
def test_axes_are_those_of_a_run(
    axes: str, shape: Any, options: Any, make_segmenter: Any, make_session: Any, log: Any, rng: Any
) -> None:
    image = (rng.random(shape) * 250).astype(np.uint8)
    segmenter = make_segmenter()
    session = make_session(segmenter, image, axes=axes, min_size=0, **options)
    session.show(0)
    session.run()
    finish(session)
    expected = fresh(segmenter, image, session)
    found = log.labels(expected.shape)
    np.testing.assert_array_equal(found > 0, expected > 0)
    assert not log.of(Failed)


def test_prompts_are_shown_with_the_visible_plane(
    make_segmenter: Any, make_session: Any, log: Any, gate_model: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(gate_model), plane)
    session.show(0)
    session.edit(0, np.s_[0:1, 0:1], 0)
    session.edit(0, np.s_[1:2, 0:1], 1)
    finish(session)
    prompts = log.of(PlaneReady)[-1].prompts
    np.testing.assert_array_equal(prompts.state, [[3, 1, 0], [2, 0, 1]])
    assert prompts.heat.dtype == np.float32
    assert prompts.heat.shape == (2, 3)
    assert prompts.scale == (32.0, 32.0)
    assert prompts.translate == (15.5, 15.5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", 7.0, "outside 0.01 to 0.99"),
        ("colour", 1, "no setting"),
        ("checkpoint", "other", "Start another session"),
        ("axes", "YX", "Start another session"),
        ("diameter", 9.0, "diameter is given"),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(
    name: str, value: Any, message: str, make_segmenter: Any, make_session: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(), plane)
    before = session.settings
    with pytest.raises(InputError, match=message):
        session.set(name, value)
    assert session.settings == before
    assert (session.revision, session.undo_text) == (0, "")


def test_a_modality_takes_useless_settings_with_it(
    make_segmenter: Any, make_session: Any, plane: Array
) -> None:
    session = make_session(make_segmenter(), plane, scale=1.5, tile=96)
    session.set("modality", "far")
    assert (session.settings.scale, session.settings.tile) == (1.5, 96)
    session.undo()
    assert session.settings.modality == "near"


def test_planes_that_do_not_exist_are_refused(
    make_segmenter: Any, make_session: Any, stack: Array
) -> None:
    session = make_session(make_segmenter(), stack)
    calls: list[Callable[[], object]] = [
        lambda: session.show(4),
        lambda: session.run([0, -1]),
        lambda: session.edit(9, np.s_[0:1, 0:1], 1),
        lambda: session.copy_edits(0, 4),
        lambda: session.confidence(4),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"4 plane\(s\)"):
            call()

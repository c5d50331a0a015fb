"""A plane under edits: always what a fresh run would give, and no more decoded than was touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_espmedsam.errors import DeviceError, InputError
from napari_espmedsam.inference.live import LivePlane
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import LogitBlender, TileSpec, make_grid
from napari_espmedsam.model.output import Features
from napari_espmedsam.model.registry import create_model

Array = np.ndarray[Any, np.dtype[Any]]
MakeSegmenter = Callable[..., Segmenter]
FINE = PostProcess(output="objects", threshold=0.5, min_size=0, max_hole=0)


@pytest.fixture
def image(discs: Callable[..., Array], rng: np.random.Generator) -> Array:
    plane = discs((90, 160), [(30, 20), (30, 80), (60, 140)])
    plane += rng.integers(0, 40, plane.shape).astype(np.uint8)
    return plane


def random_step(live: LivePlane, generator: np.random.Generator) -> None:
    what = generator.integers(5)
    if what == 0:
        live.set_prompt_threshold([None, 0.3, 0.5, 0.8][generator.integers(4)])
    elif what == 1:
        live.set_edits(generator.integers(-1, 2, live.canvas.shape).astype(np.int8))
    else:
        bounds = [np.sort(generator.integers(0, n + 1, 2)) for n in live.canvas.shape]
        box = slice(*bounds[0].tolist()), slice(*bounds[1].tolist())
        shape = live.edits[box].shape
        one = int(generator.integers(-1, 2))
        live.edit(box, one if what < 4 else generator.integers(-1, 2, shape))


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ({"geometry": "whole", "size": 64}, {}),
        ({}, {"tile": TileSpec(64, 16)}),
        ({}, {"tile": TileSpec(96, 0), "scale": 0.9}),
    ],
    ids=["whole", "tiles", "scaled"],
)
def test_any_walk_ends_where_a_fresh_run_does(
    name: str,
    spec: dict[str, Any],
    options: dict[str, Any],
    image: Array,
    make_segmenter: MakeSegmenter,
) -> None:
    model = create_model(name, modalities=("microscopy",))
    segmenter = Segmenter(model, make_segmenter(**spec).header, device="cpu")
    encoding = segmenter.encode(image, **options)
    live = LivePlane(segmenter, encoding)
    generator = np.random.default_rng(7)
    for k in range(12):
        random_step(live, generator)
        if k % 3:
            continue
        fresh = segmenter.decode(encoding, edits=live.edits, prompt_threshold=live.prompt_threshold)
        np.testing.assert_array_equal(live.logits, fresh.logits)
        np.testing.assert_array_equal(live.probability, fresh.array)
        run = segmenter.segment(
            image,
            **options,
            post=FINE,
            edits={0: live.edits},
            prompt_threshold=live.prompt_threshold,
        )
        np.testing.assert_array_equal(live.labels(FINE), run.labels)
        on = encoding.canvas.combine(fresh.prompt)
        np.testing.assert_array_equal(np.isin(live.prompt_shown, (1, 2)), on)


def test_a_stroke_decodes_the_tiles_that_it_touches(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter()
    live = LivePlane(segmenter, segmenter.encode(image, tile=TileSpec(64, 16)))
    assert live.stale == tuple(range(8))  # 2 rows of 4 tiles, at multiples of 32
    assert live.refresh()
    assert not live.refresh()
    assert model.n_decoded == 8
    before = live.labels(PostProcess())
    assert before[30, 20] > 0
    live.edit(live.canvas.cells_of(20, 10, 40, 30), OFF)
    assert live.stale == (0, 4)  # the disc reaches into rows 0 and 1, the second tiles begin at 32
    labels = live.labels(PostProcess())
    assert (labels[30, 20], before[30, 20]) == (0, 1)
    assert model.n_decoded == 10
    assert not live.stale


def test_what_is_taken_back_is_not_decoded(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter()
    live = LivePlane(segmenter, segmenter.encode(image, tile=TileSpec(64, 16)))
    logits = live.logits
    n_decoded = model.n_decoded
    everything = (slice(0, live.canvas.shape[0]), slice(0, live.canvas.shape[1]))
    for value in (ON, OFF, UNTOUCHED):
        live.edit(everything, value)
    assert not live.stale
    live.set_prompt_threshold(0.9)
    live.set_prompt_threshold(None)
    live.set_edits(np.where(live.prompt_shown == 1, ON, UNTOUCHED))  # says what is proposed
    assert not live.refresh()
    assert live.logits is logits
    assert model.n_decoded == n_decoded
    live.edit((slice(0, 0), slice(0, 2)), OFF)
    assert not live.stale


def test_post_processing_decodes_nothing_and_is_kept(
    image: Array, make_segmenter: MakeSegmenter, model: Any
) -> None:
    segmenter = make_segmenter(threshold=0.9)
    live = LivePlane(segmenter, segmenter.encode(image))
    labels = live.labels(PostProcess(output="mask"))
    n_decoded = model.n_decoded
    assert live.labels(PostProcess(output="mask", threshold=0.9)) is labels
    lax = live.labels(PostProcess(output="mask", threshold=0.1))
    assert lax.sum() > labels.sum()
    assert model.n_decoded == n_decoded


def test_what_was_given_out_never_changes(image: Array, make_segmenter: MakeSegmenter) -> None:
    """Not even where the blender's own array has the size of the image: a network of stride 1."""

    class Fine(type(make_segmenter()._runner._model)):  # type: ignore[misc]
        def decode_features(
            self, features: Features, modality: Tensor, prompt: Tensor | None = None
        ) -> Tensor:
            coarse = super().decode_features(features, modality, prompt)
            return F.interpolate(coarse, scale_factor=4.0, mode="nearest")

    plane = image[:64, :128]
    segmenter = make_segmenter(Fine())
    live = LivePlane(segmenter, segmenter.encode(plane, tile=TileSpec(64, 0)))
    given: list[Array] = [live.logits, live.probability, live.labels(FINE), live.prompt_shown]
    kept = [array.copy() for array in given]
    live.edit((slice(0, 2), slice(0, 1)), OFF)
    assert (live.labels(FINE) != kept[2]).any()
    for array, copy in zip(given, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    for array in (*given, live.proposal_shown, live.edits):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_the_prompt_shows_who_set_what(image: Array, make_segmenter: MakeSegmenter) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    edits = encoding.canvas.empty()
    edits[0, 0], edits[2, 2], edits[2, 3] = OFF, ON, OFF
    live = LivePlane(segmenter, encoding, edits=edits)
    edits[:] = ON  # the plane keeps a copy
    shown = live.prompt_shown
    assert (shown[0, 0], shown[2, 2], shown[2, 3]) == (3, 2, 3)
    untouched = live.edits == UNTOUCHED
    proposed = encoding.canvas.combine(encoding.prompt)
    np.testing.assert_array_equal(shown[untouched], proposed[untouched])
    np.testing.assert_array_equal(live.proposal_shown >= 0.5, proposed)
    live.set_prompt_threshold(0.01)
    assert (live.prompt_shown == 1).sum() >= (shown == 1).sum()


def test_a_device_that_runs_full_loses_nothing(
    image: Array, make_segmenter: MakeSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image, tile=TileSpec(64, 16))
    live = LivePlane(segmenter, encoding)
    plain = Segmenter.decode_tile

    def fail(self: Segmenter, encoding: Any, i: int, prompt: Any = None) -> Any:
        if i == 3:
            raise DeviceError("full")
        return plain(self, encoding, i, prompt)

    monkeypatch.setattr(Segmenter, "decode_tile", fail)
    with pytest.raises(DeviceError):
        live.refresh()
    assert live.stale == (3, 4, 5, 6, 7)
    monkeypatch.undo()
    np.testing.assert_array_equal(live.logits, segmenter.decode(encoding).logits)


def test_wrong_edits_are_refused_and_change_nothing(
    image: Array, make_segmenter: MakeSegmenter
) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    live = LivePlane(segmenter, encoding)
    live.refresh()
    box = (slice(0, 2), slice(0, 2))
    with pytest.raises(InputError, match=r"shape \(2,\).*2 x 2 cells"):
        live.edit(box, [0, 1])
    with pytest.raises(InputError, match=r"beyond -1, 0 and 1"):
        live.edit(box, 2)
    with pytest.raises(InputError, match=r"does not lie on the prompt canvas"):
        live.edit((slice(0, 9), slice(0, 1)), ON)
    with pytest.raises(InputError, match=r"shape \(1, 1\)"):
        live.set_edits(np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"outside 0\.01 to 1"):
        live.set_prompt_threshold(1.5)
    assert (live.edits == UNTOUCHED).all()
    assert not live.stale
    with pytest.raises(InputError, match=r"shape \(1, 1\)"):
        LivePlane(segmenter, encoding, edits=np.zeros((1, 1)))


def test_memory_is_counted_once(image: Array, make_segmenter: MakeSegmenter) -> None:
    segmenter = make_segmenter()
    encoding = segmenter.encode(image)
    live = LivePlane(segmenter, encoding)
    empty = live.nbytes
    assert empty >= encoding.nbytes + live.edits.nbytes
    labels = live.labels(FINE)
    planes = labels.nbytes + live.logits.nbytes + live.probability.nbytes
    tiles = sum(16 * 16 * 4 for _ in encoding.features)
    assert live.nbytes == empty + planes + tiles


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    tile=st.sampled_from([TileSpec(64, 0), TileSpec(64, 16), TileSpec(96, 16), TileSpec(128, 32)]),
    seed=st.integers(0, 999),
)
def test_blending_a_part_again_gives_the_same_bits(
    sides: tuple[int, int], tile: TileSpec, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    grid = make_grid((32 * sides[0], 32 * sides[1]), tile)
    shape = (len(grid), grid.tile[0] // 4, grid.tile[1] // 4)
    tiles = generator.normal(0, 9, shape).astype(np.float32)
    blender = LogitBlender(grid)
    blender.replace(list(tiles), range(len(grid)))
    for _ in range(3):
        changed = np.flatnonzero(generator.random(len(grid)) < 0.3).tolist()
        for i in changed:
            tiles[i] = generator.normal(0, 9, shape[1:])
        blender.replace(list(tiles), changed)
        fresh = LogitBlender(grid)
        for i, each in enumerate(tiles):
            fresh.add(i, each)
        np.testing.assert_array_equal(blender.result(), fresh.result())

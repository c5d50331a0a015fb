"""Trust: a planted doubtful object comes first, a clear-cut modality is preferred."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.trust import (
    confidence,
    decisiveness,
    object_scores,
    review_order,
    suggest_modality,
)

Array = np.ndarray[Any, np.dtype[Any]]


def _four() -> tuple[Array, Array]:
    """Plant four objects (ids 1, 5, 6, 9) with p = 0.95 on p = 0.05."""
    labels = np.zeros((20, 40), np.uint32)
    for label, column in zip((1, 5, 6, 9), (0, 10, 20, 30), strict=True):
        labels[5:15, column : column + 8] = label
    return labels, np.where(labels > 0, 0.95, 0.05).astype(np.float32)


def test_confidence_is_the_distance_from_a_half() -> None:
    result = confidence(np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 0.5]], np.float32))
    assert result.dtype == np.float32
    assert result.tolist() == [[1, 0.5, 0], [0.5, 1, 0]]


def test_a_faint_object_is_first_in_the_review() -> None:
    labels, probability = _four()
    probability[labels == 6] = 0.6
    probability[labels == 1] = 0.8
    scores = object_scores(labels, probability)
    assert review_order(scores).tolist() == [6, 1, 5, 9]
    np.testing.assert_allclose(scores["mean_probability"], [0.8, 0.95, 0.6, 0.95], rtol=1e-6)
    np.testing.assert_allclose(scores["doubt"], [0.4, 0.1, 0.8, 0.1], rtol=1e-5)
    assert np.isnan(scores["prompt_agreement"]).all()
    assert np.isnan(scores["agreement_with_other"]).all()


def test_an_object_outside_the_prompt_is_doubtful() -> None:
    labels, probability = _four()
    prompt = np.ones(labels.shape, bool)
    prompt[labels == 9] = False
    prompt[:10, 10:20] = False  # half of object 5
    scores = object_scores(labels, probability, prompt)
    assert scores["prompt_agreement"].tolist() == [1, 0.5, 1, 0]
    assert review_order(scores).tolist() == [9, 5, 1, 6]
    np.testing.assert_allclose(scores["doubt"], [0.1, 0.325, 0.1, 0.55], rtol=1e-5)


def test_an_object_that_the_other_model_does_not_see_is_doubtful() -> None:
    labels, probability = _four()
    scores = object_scores(labels, probability, None, labels != 5)
    assert scores["agreement_with_other"].tolist() == [1, 0, 1, 1]
    assert review_order(scores)[0] == 5


def test_scores_are_those_of_a_plain_loop(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 7, (30, 40)).astype(np.uint32)
    labels[labels == 6] = 2**32 - 1
    probability = rng.random((30, 40), dtype=np.float32)
    prompt, other = rng.random((2, 30, 40)) > 0.4
    scores = object_scores(labels, probability, prompt, other)
    ids = [int(i) for i in np.unique(labels) if i]
    assert scores["label"].tolist() == ids
    for column, plane in (
        ("mean_probability", probability),
        ("prompt_agreement", prompt),
        ("agreement_with_other", other),
    ):
        np.testing.assert_allclose(scores[column], [plane[labels == i].mean() for i in ids], 1e-5)
    assert ((scores["doubt"] >= 0) & (scores["doubt"] <= 1)).all()


def test_a_plane_without_objects_has_no_scores() -> None:
    scores = object_scores(np.zeros((5, 6), np.uint32), np.zeros((5, 6), np.float32))
    assert {len(column) for column in scores.values()} == {0}
    assert review_order(scores).shape == (0,)


def test_shapes_are_checked() -> None:
    labels, probability = _four()
    with pytest.raises(InputError, match=r"labels \(20, 40\), probability \(20, 39\)"):
        object_scores(labels, probability[:, 1:])
    with pytest.raises(InputError, match=r"prompt_on \(2, 2\)"):
        object_scores(labels, probability, np.ones((2, 2), bool))
    with pytest.raises(InputError, match=r"other \(2, 2\)"):
        object_scores(labels, probability, None, np.ones((2, 2), bool))


# --- modalities -------------------------------------------------------------------------------


def test_decisiveness_of_known_maps() -> None:
    labels, _ = _four()
    crisp = (labels > 0).astype(np.float32)
    assert decisiveness(crisp) == 1
    vague = np.where(labels > 0, 0.6, 0.4).astype(np.float32)
    share = float((labels > 0).mean())
    foreground = 2 * 0.6 * share / (0.6 * share + 0.4 * (1 - share) + share)
    assert decisiveness(vague) == pytest.approx(foreground, rel=1e-5)
    assert decisiveness(1 - vague) == pytest.approx(foreground, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_nothing_set_apart_is_not_decisive(value: float) -> None:
    assert decisiveness(np.full((8, 8), value, np.float32)) == 0
    assert decisiveness(np.zeros((0, 0), np.float32)) == 0


def test_the_modality_that_sees_clearly_is_suggested() -> None:
    labels, clear = _four()
    vague = np.where(labels > 0, 0.6, 0.4).astype(np.float32)
    blind = np.full(labels.shape, 0.001, np.float32)  # the surest of all, of nothing
    maps = {"ultrasound": vague, "xray": blind, "microscopy": clear}
    assert suggest_modality(maps, "ultrasound") == "microscopy"
    assert suggest_modality(maps, "xray") == "microscopy"
    assert suggest_modality(maps, "microscopy") is None


def test_a_slight_lead_is_no_reason_to_change() -> None:
    labels, clear = _four()
    slightly = np.where(labels > 0, 0.97, 0.05).astype(np.float32)
    assert decisiveness(slightly) > decisiveness(clear)
    assert suggest_modality({"a": clear, "b": slightly}, "a") is None


def test_a_vague_modality_is_not_suggested() -> None:
    labels, _ = _four()
    vague = np.where(labels > 0, 0.55, 0.45).astype(np.float32)
    blind = np.zeros(labels.shape, np.float32)
    assert decisiveness(vague) < 0.6
    assert suggest_modality({"a": blind, "b": vague}, "a") is None


def test_the_current_modality_has_to_be_among_them() -> None:
    with pytest.raises(InputError, match="'xray' has no probability"):
        suggest_modality({"a": np.zeros((2, 2), np.float32)}, "xray")

"""Med-FastSAM in the authors' layout computes what the authors' code computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.model.coarse_prompt import luma, otsu_threshold
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.output import Features, upsample_logits
from napari_espmedsam.model.published import import_published
from napari_espmedsam.model.published_fast import import_authors_file, import_published_fast

Arrays = dict[str, np.ndarray]
Picture = Callable[[int, int, str], Tensor]
RuleState = Callable[[Any], dict[str, Tensor]]


def close(actual: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def expected(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("medfastsam_official")


@pytest.fixture(scope="module")
def image(picture01: Picture) -> Tensor:
    return picture01(1024, 1024, "parity-image-4")


@pytest.fixture(scope="module")
def features(published_fast: MedFastSAM, image: Tensor) -> Features:
    return published_fast.extract(image, torch.zeros(1, dtype=torch.int64), image)


def test_embedding(features: Features, expected: Arrays) -> None:
    close(features.embedding[0, ::32, ::4, ::4], expected["embedding_strided"])


def test_image_detail(features: Features, expected: Arrays) -> None:
    quarter, eighth = features.skips
    close(quarter[0, ::4, ::16, ::16], expected["r_quarter_strided"])
    close(eighth[0, ::4, ::8, ::8], expected["r_eighth_strided"])


def test_coarse_mask(image: Tensor, features: Features, expected: Arrays) -> None:
    assert otsu_threshold(luma(image), "unit").item() == pytest.approx(0.49411764705882355)
    quarter = F.interpolate(features.prompt, size=(256, 256), mode="bilinear")
    np.testing.assert_array_equal(quarter[0, 0, ::4, ::4], expected["otsu_mask256_strided"])


def test_dense_prompt(published_fast: MedFastSAM, features: Features, expected: Arrays) -> None:
    dense = published_fast.coarse_prompt(features.prompt, (64, 64))
    close(dense[0, ::32, ::4, ::4], expected["dense_strided"])


def test_mask_logits(published_fast: MedFastSAM, features: Features, expected: Arrays) -> None:
    masks = published_fast.decode_features(features)
    close(masks[0, 0, ::8, ::8], expected["lowres_strided"])
    close(upsample_logits(masks, (1024, 1024))[0, 0, 8::32, 8::32], expected["logits_strided"])


def test_imported_file_is_the_same_model(
    tmp_path: Path,
    published_fast: MedFastSAM,
    official_entries: dict[str, Any],
    rule_state: RuleState,
    picture01: Picture,
) -> None:
    path = tmp_path / "fast.pth"
    state = rule_state(official_entries["med_fastsam"])
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    model, header = import_authors_file(path, "dermoscopy")
    assert (header.architecture, header.modalities) == ("med_fastsam_published", ("dermoscopy",))
    image = picture01(64, 96, "small")
    with torch.inference_mode():
        actual = model(image, unnormalised=image).mask_logits
        same = published_fast(image, unnormalised=image).mask_logits
    torch.testing.assert_close(actual, same, rtol=0, atol=0)


def test_import_refuses_an_incomplete_file(
    tmp_path: Path, official_entries: dict[str, Any], rule_state: RuleState
) -> None:
    path = tmp_path / "fast.pth"
    state = rule_state(official_entries["med_fastsam"])
    state["surplus.weight"] = state.pop("mask_decoder.mask_tokens.weight")
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"missing: decoder\.mask_tokens; left over: surplus"):
        import_published_fast(path, "dermoscopy")


def test_each_importer_refuses_the_other_papers_file(
    tmp_path: Path, official_entries: dict[str, Any], rule_state: RuleState
) -> None:
    fast, esp = tmp_path / "fast.pth", tmp_path / "esp.pth"
    torch.save(rule_state(official_entries["med_fastsam"]), fast)
    torch.save(rule_state(official_entries["esp_medsam"]), esp)
    with pytest.raises(CheckpointError, match=r"missing: .* in all\); left over: .* in all\)"):
        import_published(fast, "microscopy")
    with pytest.raises(CheckpointError, match=r"missing: .* in all\); left over: .* in all\)"):
        import_published_fast(esp, "microscopy")
    assert import_authors_file(esp, "microscopy")[1].architecture == "esp_medsam_published"

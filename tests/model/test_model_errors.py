"""Wrong calls get a sentence with the value, the limit and the fix."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.registry import create_model, list_models, model_config

ZERO = torch.tensor([0])


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1)])
def test_image_below_one_cell(
    tiny_esp: ESPMedSAM, tiny_fast: MedFastSAM, size: tuple[int, int]
) -> None:
    image = torch.rand(1, 3, *size)
    with pytest.raises(InputError, match=f"{size[0]} x {size[1]} px.* 32 px"):
        tiny_esp(image, ZERO)
    with pytest.raises(InputError, match=f"{size[0]} x {size[1]} px.* 32 px"):
        tiny_fast(image, unnormalised=image)


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (3, 64, 64), (1, 4, 64, 64)])
def test_image_of_another_shape(
    tiny_esp: ESPMedSAM, tiny_fast: MedFastSAM, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"needs \(B, 3, H, W\)"):
        tiny_esp(torch.rand(shape), ZERO)
    with pytest.raises(InputError, match=r"needs \(B, 3, H, W\)"):
        tiny_fast(torch.rand(shape), unnormalised=torch.rand(shape))


def test_integer_image(tiny_esp: ESPMedSAM) -> None:
    with pytest.raises(InputError, match="uint8"):
        tiny_esp(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), ZERO)


@pytest.mark.parametrize("value", [-1, 3])
def test_modality_that_the_model_lacks(tiny_esp: ESPMedSAM, value: int) -> None:
    with pytest.raises(ModalityError, match=rf"\[{value}\] is outside 0\.\.2.*a, b, c"):
        tiny_esp(torch.rand(1, 3, 64, 64), torch.tensor([value]))


def test_fast_checks_the_modality_it_ignores(tiny_fast: MedFastSAM) -> None:
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(ModalityError, match="microscopy"):
        tiny_fast(image, torch.tensor([1]), unnormalised=image)


@pytest.mark.parametrize("modality", [torch.tensor([0, 0]), torch.tensor([0.0]), torch.tensor(0)])
def test_modality_of_another_shape_or_type(tiny_esp: ESPMedSAM, modality: torch.Tensor) -> None:
    with pytest.raises(InputError, match="one integer for each of the 1 images"):
        tiny_esp(torch.rand(1, 3, 64, 64), modality)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 1, 2, 3), (1, 2, 2, 2)])
def test_prompt_grid_of_another_shape(tiny_esp: ESPMedSAM, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"needs \(B, 1, 2, 2\)"):
        tiny_esp(torch.rand(1, 3, 64, 64), ZERO, torch.ones(shape))


def test_one_grid_corrects_all_rows(tiny_esp: ESPMedSAM) -> None:
    images, modality = torch.rand(2, 3, 64, 64), torch.tensor([0, 1])
    grid = torch.tensor([[[[-1.0, 1.0], [0.0, -1.0]]]])
    wanted = tiny_esp(images, modality, grid.expand(2, -1, -1, -1)).mask_logits
    assert torch.equal(tiny_esp(images, modality, grid).mask_logits, wanted)


@pytest.mark.parametrize("shape", [(1, 1, 32, 64), (1, 3, 64, 64), (64, 64), (1, 1, 65, 64)])
def test_coarse_mask_of_another_shape(tiny_fast: MedFastSAM, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"H in 49\.\.64, W in 49\.\.64"):
        tiny_fast(torch.rand(1, 3, 64, 64), coarse_mask=torch.ones(shape))


def test_fast_needs_the_unnormalised_image(tiny_fast: MedFastSAM) -> None:
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(InputError, match="unnormalised is None"):
        tiny_fast.extract(image, ZERO)
    with pytest.raises(InputError, match="unnormalised is None"):
        tiny_fast(image, ZERO)
    with pytest.raises(InputError, match=r"\(1, 3, 32, 64\).*\(1, 3, 64, 64\)"):
        tiny_fast.extract(image, ZERO, image[..., :32, :])


def test_unknown_model() -> None:
    with pytest.raises(InputError, match=r"'sam'.*esp_medsam"):
        create_model("sam")


@pytest.mark.parametrize("name", list_models())
def test_unknown_setting(name: str) -> None:
    with pytest.raises(InputError, match="token_per_block"):
        model_config(name, token_per_block=2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"modalities": ()}, "at least one"),
        ({"modalities": ("a", "a")}, "distinct"),
        ({"query_rows": (0, 9)}, "exceed the table"),
        ({"query_rows": (0,)}, "1 query_rows for 2"),
        ({"query_rows": ()}, "0 query_rows for 2"),
        ({"decoder": {"heads": 3}}, "16 channels does not fit 3 heads"),
        ({"decoder": {"heads": 2, "attention_downsample": 16}}, "1 channels does not fit 2 heads"),
        ({"trunk": {"out_channels": 6}}, "out_channels is 6.* an even 8 or more"),
        ({"tokens_per_block": 0}, "tokens_per_block"),
        ({"kv_tokens": "both"}, "kv_tokens"),
    ],
)
def test_settings_that_do_not_fit(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model_config("esp_medsam_test", **overrides)


def test_fast_settings_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="distinct"):
        model_config("med_fastsam_test", modalities=("a", "a"))
    with pytest.raises(InputError, match="experts"):
        model_config("med_fastsam_test", experts="both")


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_unstrided_stem_in_a_whole_model(name: str) -> None:
    with pytest.raises(InputError, match="patch_stride is 1; a whole model needs 4"):
        create_model(name, trunk={"patch_stride": 1})

"""Parameters and operations are those that the papers print and the authors' code has."""

from __future__ import annotations

import pytest

from napari_espmedsam.model.complexity import complexity
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.registry import create_model, list_models, model_config


def test_esp_medsam_published() -> None:
    cost = complexity(model_config("esp_medsam_published"))
    assert cost.parameters == 28_510_597  # paper: 28.46 M
    assert cost.macs / 1e9 == pytest.approx(56.717, abs=0.02)  # paper: 55.88
    assert cost.discarded_macs == 0


@pytest.mark.parametrize(("size", "gmacs"), [(512, 14.805), (256, 4.177)])
def test_esp_medsam_published_at_smaller_sizes(size: int, gmacs: float) -> None:
    macs = complexity(model_config("esp_medsam_published"), size).macs
    assert macs / 1e9 == pytest.approx(gmacs, abs=0.02)


def test_med_fastsam_published() -> None:
    cost = complexity(model_config("med_fastsam_published"))
    assert cost.parameters == 14_479_104  # paper: 14.48 M
    assert (cost.macs + cost.discarded_macs) / 1e9 == pytest.approx(69.063, abs=0.02)
    assert cost.macs < 58e9  # the dropped branch is not computed


def test_med_fastsam_computes_both_branches() -> None:
    cost = complexity(model_config("med_fastsam"))
    assert cost.macs > 66e9
    assert cost.discarded_macs == 0


def test_one_modality_more_is_one_bag_more() -> None:
    sizes = [
        complexity(model_config("esp_medsam_published", modalities=names, query_rows=rows), 32)
        for names, rows in ((("a",), (0,)), (("a", "b"), (0, 1)))
    ]
    assert sizes[0].parameters == 12_789_587
    assert sizes[1].parameters - sizes[0].parameters == 3_144_202


def test_parts_of_the_published_layout() -> None:
    model = create_model("esp_medsam_published")
    assert isinstance(model, ESPMedSAM)
    trunk, decoder = model.encoder.trunk, model.decoder
    parts = {
        "neck": (trunk.neck, 672_768),
        "patch generator": (model.patch_generator, 65_793),
        "dense prompt": (model.dense_prompt, 1_024),
        "transformer": (decoder.transformer, 3_291_264),
        "upscaling": (decoder.upscale, 73_952),
        "mask MLPs": (decoder.mask_mlps, 139_808),
    }
    for name, (module, count) in parts.items():
        assert sum(p.numel() for p in module.parameters()) == count, name


@pytest.mark.parametrize("name", [name for name in list_models() if name.endswith("_test")])
def test_test_models_are_tiny(name: str) -> None:
    assert complexity(model_config(name), 64).parameters < 100_000


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_parts_add_up(name: str) -> None:
    cost = complexity(model_config(name), 64)
    assert sum(part.parameters for part in cost.parts.values()) == cost.parameters
    assert sum(part.macs for part in cost.parts.values()) == cost.macs
    assert {"encoder", "decoder"} <= set(cost.parts)

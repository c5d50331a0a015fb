"""The U-Net yardstick: the models' interface, at full resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
from napari_espmedsam.model.output import upsample_logits
from napari_espmedsam.model.registry import create_model, model_config
from training.checkpoints import open_segmenter
from training.config import FinetuneConfig, LossConfig, ModalityConfig, OptimiserConfig
from training.evaluate import LabelledSet, score_samples
from training.export import export, read_curve
from training.finetune import finetune
from training.losses import segmentation_loss
from training.unet import PlainUNet, YardstickUNet, build_unet, load_unet, save_unet

TINY = {"channels": (4, 4, 8, 8, 8), "residual_units": 1}
SPEC = InputSpec(geometry="tiled", size=64, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def tiny() -> YardstickUNet:
    torch.manual_seed(0)
    return build_unet(("a", "b"), **TINY)


def pixels(batch: int, height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def test_both_halves_together_are_monais_network(tiny: YardstickUNet) -> None:
    network = tiny.networks[0]
    assert isinstance(network, PlainUNet)
    x = pixels(2)
    expected = network.head(network.body(x))
    assert torch.equal(network.expand(*network.contract(x))[0], expected)


def test_the_default_has_five_levels_and_the_weights_of_a_usual_unet() -> None:
    model = build_unet(("a",))
    with torch.no_grad():
        features = model.extract(pixels(1), torch.tensor([0]))
    assert features.embedding.shape == (1, 512, 4, 6)
    assert [s.shape[1] for s in features.skips] == [32, 64, 128, 256]
    count = sum(p.numel() for p in model.parameters())
    assert 6.4e6 < count < 6.7e6
    assert sum(p.numel() for p in build_unet(("a", "b")).parameters()) == 2 * count
    assert sum(p.numel() for p in build_unet(("a", "b"), networks="one").parameters()) == count


@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 70), (64, 96)])
def test_there_is_a_logit_for_every_pixel(tiny: YardstickUNet, height: int, width: int) -> None:
    output = tiny(pixels(2, height, width), torch.tensor([1, 0]))
    h, w = -(-height // 16), -(-width // 16)
    assert output.mask_logits.shape == (2, 1, 16 * h, 16 * w)
    assert output.embedding.shape == (2, 8, h, w)
    assert output.prompt_logits is None
    full = upsample_logits(output.mask_logits, (height, width))
    assert torch.equal(full, output.mask_logits[..., :height, :width])


def test_the_share_of_foreground_is_free(tiny: YardstickUNet) -> None:
    """Normalising the one output channel would give every image the same mean logit."""
    x = torch.stack([torch.zeros(3, 64, 64), pixels(1, 64, 64)[0]])
    means = tiny(x, torch.tensor([0, 0])).mask_logits.detach().mean(dim=(1, 2, 3))
    assert abs(float(means[0] - means[1])) > 1e-3


def test_mixed_batch_equals_single_images(tiny: YardstickUNet) -> None:
    x, modality = pixels(4), torch.tensor([1, 0, 1, 0])
    together = tiny(x, modality)
    for i in range(4):
        alone = tiny(x[i : i + 1], modality[i : i + 1])
        torch.testing.assert_close(together.mask_logits[i], alone.mask_logits[0])
        torch.testing.assert_close(together.embedding[i], alone.embedding[0])
    same = tiny(x[:1].expand(2, -1, -1, -1), torch.tensor([0, 1])).mask_logits
    assert not torch.equal(same[0], same[1])


def test_one_network_is_not_told_the_modality() -> None:
    model = build_unet(("a", "b"), networks="one", **TINY)
    x = pixels(1).expand(2, -1, -1, -1)
    masks = model(x, torch.tensor([0, 1])).mask_logits
    assert torch.equal(masks[0], masks[1])


def test_a_step_on_one_modality_leaves_the_other_networks_alone(tiny: YardstickUNet) -> None:
    target = torch.zeros(1, 1, 64, 96)
    target[..., 10:40, 20:60] = 1
    loss = segmentation_loss(tiny(pixels(1), torch.tensor([1])), target, LossConfig())
    loss["total"].backward()
    assert all(p.grad is None for p in tiny.networks[0].parameters())
    assert all(p.grad is not None for p in tiny.networks[1].parameters())


def test_wrong_shapes_prompts_and_settings_are_refused(tiny: YardstickUNet) -> None:
    with pytest.raises(InputError, match="needs \\(B, 3, H, W\\)"):
        tiny(torch.rand(1, 1, 64, 64), torch.tensor([0]))
    features = tiny.extract(pixels(1), torch.tensor([0]))
    with pytest.raises(InputError, match="without prompts"):
        tiny.decode_features(features, torch.tensor([0]), torch.ones(1, 1, 64, 96))
    with pytest.raises(InputError, match="chanels"):
        build_unet(("a",), chanels=(1, 2, 3, 4, 5))
    with pytest.raises(InputError, match="distinct"):
        build_unet(("a", "a"))


def test_a_saved_unet_segments_as_before(tiny: YardstickUNet, tmp_path: Path) -> None:
    path = save_unet(
        tmp_path / "u.safetensors", tiny, name="u", inputs={"a": SPEC, "b": SPEC}, licence="CC0-1.0"
    )
    loaded = load_unet(path)
    assert loaded.header.modalities == ("a", "b")
    assert loaded.model.config == tiny.config
    for name, tensor in tiny.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)

    segmenter = open_segmenter(path, device="cpu")
    image = (np.random.default_rng(0).random((64, 64)) * 255).astype(np.uint8)
    encoding = segmenter.encode(image, "b")
    logits = segmenter.decode(encoding).logits
    x = torch.from_numpy(encoding.geometry.to_model(encoding.intensity.rescale(image)))
    with torch.no_grad():
        expected = loaded.model(x.expand(1, 3, -1, -1), torch.tensor([1])).mask_logits[0, 0]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    assert not encoding.prompt.any()


def test_tiles_are_blended_at_full_resolution(tiny: YardstickUNet) -> None:
    header = CheckpointHeader(
        name="u",
        architecture="unet",
        config=tiny.config.model_dump(mode="json"),
        modalities=("a", "b"),
        inputs={"a": SPEC, "b": SPEC},
        licence="CC0-1.0",
    )
    segmenter = Segmenter(tiny, header, device="cpu")
    image = (np.random.default_rng(1).random((96, 128)) * 255).astype(np.uint8)
    labels = segmenter.segment(image, "a", tile=TileSpec(64, 16)).labels
    assert labels.shape == (96, 128)
    logits = segmenter.decode(segmenter.encode(image, "a", tile=TileSpec(64, 16))).logits
    # Enlarged from S/4, neighbouring pixels would lie on a line.
    assert np.abs(np.diff(logits, 2, axis=1)).mean() > 0.01 * logits.std()


@pytest.mark.usefixtures("pack")
def test_a_unet_is_trained_and_exported_by_the_models_own_loop(tmp_path: Path) -> None:
    parts = {name: {"packs": ["discs"], "input": SPEC.model_dump()} for name in ("a", "b")}
    recipe = FinetuneConfig(
        name="yardstick",
        architecture="unet",
        model=TINY,
        modalities={name: ModalityConfig.model_validate(part) for name, part in parts.items()},
        warm_start="none",
        crop=64,
        batch_size=4,
        steps=60,
        ema_decay=0.5,
        precision="float32",
        device="cpu",
        validate_every=20,
        optimiser=OptimiserConfig(lr=1e-2, warmup_steps=2),
        threads=1,
        licence="CC0-1.0",
        data_licence="made by the test",
    )
    finetune(recipe, tmp_path / "run", report=lambda line: None)
    curve = read_curve(tmp_path / "run")
    assert curve[-1]["loss"] < curve[0]["loss"]
    path = export(tmp_path / "run", tmp_path / "u.safetensors")
    labelled = LabelledSet.from_pack("discs", "val", "b")
    scores = score_samples(open_segmenter(path, device="cpu"), labelled)
    assert scores[0].dice > 0.7


def test_other_files_go_to_the_models_or_are_refused(tmp_path: Path) -> None:
    config = model_config("esp_medsam_test", modalities=("a",))
    header = CheckpointHeader(
        name="m",
        architecture="esp_medsam_test",
        config=config.model_dump(mode="json"),
        modalities=("a",),
        inputs={"a": SPEC},
        licence="CC0-1.0",
    )
    model = create_model("esp_medsam_test", modalities=("a",))
    path = save_checkpoint(tmp_path / "m.safetensors", model, header)
    assert open_segmenter(path, device="cpu").name == "m"
    with pytest.raises(CheckpointError, match="esp_medsam_test"):
        load_unet(path)
    with pytest.raises(CheckpointError):
        open_segmenter(tmp_path / "absent.safetensors")

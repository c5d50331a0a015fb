"""Packs, sampling weights and augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from napari_espmedsam.errors import InputError
from training.augment import ScaledCrop, TrainingTransform
from training.config import DataConfig, FinetuneConfig, load_config
from training.data import PackDataset, Sample, list_samples, median_diameter, read_pair
from training.metrics import overlap

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


def test_samples_follow_the_split(pack: Path, recipe: FinetuneConfig) -> None:
    assert [s.name for s in list_samples(pack, "train")] == ["im0", "im1", "im2", "im3"]
    data = PackDataset(list_samples(pack, "train"), recipe.input)
    image, mask = data[1]
    assert image.shape == (3, 72, 72)
    assert image.dtype == torch.float32
    assert float(image.min()) == 0.0
    assert float(image.max()) == 1.0
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert data.kinds() == ["grey-dark", "colour-dark"] * 2


def test_balance_gives_rare_kinds_their_share(pack: Path, recipe: FinetuneConfig) -> None:
    data = PackDataset(list_samples(pack, "train")[:3], recipe.input)  # grey, colour, grey
    assert data.weights(0).tolist() == [1, 1, 1]
    assert data.weights(1).tolist() == [0.5, 1, 0.5]


def test_damaged_packs_are_named(pack: Path) -> None:
    with pytest.raises(InputError, match="no split 'holdout'"):
        list_samples(pack, "holdout")
    (pack / "masks" / "im3.png").unlink()
    with pytest.raises(InputError, match="im3"):
        list_samples(pack, "train")
    with pytest.raises(InputError, match="ESPMEDSAM_DATA"):
        list_samples(pack.parent / "absent", "train")
    (pack / "images" / "im0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"im0\.png cannot be read"):
        read_pair(Sample("im0", pack / "images" / "im0.png", pack / "masks" / "im0.png"))


def test_median_diameter_of_discs(pack: Path) -> None:
    assert median_diameter(list_samples(pack, "train")) == pytest.approx(14, abs=1.5)


def test_crop_keeps_image_and_mask_together_at_the_scale() -> None:
    """A disc of 10 px becomes one of 20 px, in both, whatever the offset."""
    yy, xx = np.mgrid[:100, :100]
    disc = torch.from_numpy(((yy - 50) ** 2 + (xx - 50) ** 2 <= 100).astype(np.float32))[None]
    torch.manual_seed(0)
    for _ in range(5):
        crop = ScaledCrop(192, 2.0, (1.0, 1.0))
        image, mask = crop(tv_tensors.Image(disc.expand(3, -1, -1)), tv_tensors.Image(disc))
        assert image.shape == (3, 192, 192)
        assert mask.shape == (1, 192, 192)
        assert torch.equal(image[0], mask[0])
        assert float((mask > 0.5).sum()) == pytest.approx(4 * float(disc.sum()), rel=0.03)


def test_small_images_are_extended_and_values_stay_in_range() -> None:
    transform = TrainingTransform(DataConfig(packs=("x",), crop=64, zoom=(0.5, 0.6)), 1.0)
    torch.manual_seed(0)
    for _ in range(20):
        image, mask = transform(torch.rand(3, 40, 50), (torch.rand(1, 40, 50) > 0.5).float())
        assert image.shape == (3, 64, 64)
        assert mask.shape == (1, 64, 64)
        assert float(image.min()) >= 0
        assert float(image.max()) <= 1
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_overlap_counts_pixels() -> None:
    a = np.array([[1, 1, 0, 0]], bool)
    b = np.array([[0, 1, 1, 1]], bool)
    assert overlap(a, b).dice == pytest.approx(2 / 5)
    assert overlap(a, b).iou == pytest.approx(1 / 4)
    nothing = np.zeros((1, 4), bool)
    assert overlap(nothing, nothing).dice == 1.0
    assert overlap(a, nothing).dice == 0.0


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    config = load_config(path)
    assert not {"ph2", "monuseg2018_test"} & set(config.data.packs)  # unseen: tests alone
    assert config.steps > 0


def test_wrong_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training config"):
        load_config(tmp_path / "absent.toml")
    text = (CONFIGS / "microscopy.toml").read_text()
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace("batch_size = 8", "batch_sise = 8"))
    with pytest.raises(InputError, match="batch_sise"):
        load_config(bad)
    bad.write_text("= 3")
    with pytest.raises(InputError, match="no valid TOML"):
        load_config(bad)

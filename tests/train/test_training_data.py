"""Packs, sampling weights and augmentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from napari_espmedsam.errors import InputError
from training.augment import ScaledCrop, TrainingTransform
from training.config import AugmentConfig, FinetuneConfig
from training.data import (
    Sample,
    SampleSet,
    groups_of,
    list_samples,
    median_diameter,
    read_pair,
)


def test_samples_follow_the_split(pack: Path, recipe: FinetuneConfig) -> None:
    assert [s.name for s in list_samples(pack, "train")] == ["im0", "im1", "im2", "im3"]
    data = SampleSet(list_samples(pack, "train"), recipe.modalities["microscopy"].input)
    image, mask = data[1]
    assert image.shape == (3, 72, 72)
    assert image.dtype == torch.float32
    assert float(image.min()) == 0.0
    assert float(image.max()) == 1.0
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert data.kinds() == ["grey-dark", "colour-dark"] * 2


def test_balance_gives_rare_kinds_their_share(pack: Path, recipe: FinetuneConfig) -> None:
    data = SampleSet(  # grey, colour, grey
        list_samples(pack, "train")[:3], recipe.modalities["microscopy"].input
    )
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
    transform = TrainingTransform(AugmentConfig(zoom=(0.5, 0.6)), 64, 1.0)
    torch.manual_seed(0)
    for _ in range(20):
        image, mask = transform(torch.rand(3, 40, 50), (torch.rand(1, 40, 50) > 0.5).float())
        assert image.shape == (3, 64, 64)
        assert mask.shape == (1, 64, 64)
        assert float(image.min()) >= 0
        assert float(image.max()) <= 1
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_tiles_and_patients_are_groups(pack: Path) -> None:
    names = ["a_t0", "a_t1", "b"]
    assert groups_of(pack, names) == ["discs/a", "discs/a", "discs/b"]
    (pack / "meta.csv").write_text("id,patient\nim0,7\nim1,7\nim2,\n")
    groups = [s.group for s in list_samples(pack, "train")]
    assert groups == ["discs/7", "discs/7", "discs/im2", "discs/im3"]


def test_whole_images_come_squeezed_and_move_with_their_masks(
    pack: Path, recipe: FinetuneConfig
) -> None:
    spec = recipe.modalities["microscopy"].input.model_copy(
        update={"geometry": "whole", "size": 96}
    )
    image, mask = SampleSet(list_samples(pack, "train"), spec)[0]
    assert image.shape == (3, 96, 96)
    assert mask.shape == (1, 96, 96)
    config = AugmentConfig(
        zoom=(0.8, 1.2), rotation=30, shift=0.2, gamma=0, jitter=0, tint=0, greyscale=0,
        invert=0, blur=0, noise=0,
    )  # fmt: skip
    transform = TrainingTransform(config, 96, None)
    torch.manual_seed(0)
    for _ in range(5):
        moved, moved_mask = transform(mask.expand(3, -1, -1), mask)
        assert not torch.equal(moved_mask, mask)
        assert torch.equal((moved[:1] >= 0.5).float(), moved_mask)


def test_what_does_not_fit_in_memory_is_read_again(pack: Path, recipe: FinetuneConfig) -> None:
    spec = recipe.modalities["microscopy"].input
    kept = SampleSet(list_samples(pack, "train"), spec)
    read = SampleSet(list_samples(pack, "train"), spec, cache_bytes=0)
    for index in (0, 1, 0):
        assert all(torch.equal(a, b) for a, b in zip(kept[index], read[index], strict=True))
    cv2.imwrite(str(pack / "images" / "im0.png"), np.eye(72, dtype=np.uint8) * 255)
    assert not torch.equal(kept[0][0], read[0][0])


def test_an_opaque_alpha_channel_is_no_foreground(pack: Path) -> None:
    labels = cv2.imread(str(pack / "masks" / "im0.png"), cv2.IMREAD_UNCHANGED)
    grey = ((labels > 0) * 255).astype(np.uint8)
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    cv2.imwrite(str(pack / "masks" / "im0.png"), opaque)
    _, mask = read_pair(list_samples(pack, "train")[0])
    assert np.array_equal(mask, labels > 0)

"""The t-SNE figure: pooled embeddings, seeded coordinates, a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.output import Features
from training.data import Sample, read_pair
from training.evaluate import LabelledSet
from training.tsne import embed, pooled_embedding, project, tsne_figure

SPEC = InputSpec(geometry="tiled", size=64, rescale="dtype", mean=(0, 0, 0), std=(1, 1, 1))


class Colours(nn.Module):
    """Stands in for a model: its embedding is the image at S/16; a bag adds 3 to one channel."""

    prompt_kind = "grid"

    def __init__(self, bags: bool) -> None:
        super().__init__()
        self.bags = bags

    def extract(self, images: Tensor, modality: Tensor, unnormalised: Tensor) -> Features:
        embedding = nn.functional.avg_pool2d(images, 16)
        if self.bags:
            embedding[:, int(modality[0])] += 3
        return Features(embedding, torch.zeros(1, 1, 2, 2))


def segmenter(bags: bool = True) -> Segmenter:
    header = CheckpointHeader(
        name="colours",
        architecture="esp_medsam",
        config={"modalities": ["a", "b"]},
        modalities=("a", "b"),
        inputs={"a": SPEC, "b": SPEC},
        licence="CC0-1.0",
    )
    return Segmenter(Colours(bags), header, device="cpu")


def write_set(folder: Path, name: str, modality: str, n: int = 5) -> LabelledSet:
    rng = np.random.default_rng(len(name))
    samples = []
    (folder / name).mkdir()
    for i in range(n):
        pixels = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        path = folder / name / f"{i}.png"
        cv2.imwrite(str(path), pixels)
        cv2.imwrite(str(folder / name / f"{i}-mask.png"), (pixels[..., 0] > 200).astype(np.uint8))
        samples.append(
            Sample(str(i), path, folder / name / f"{i}-mask.png", modality, "val", str(i))
        )
    return LabelledSet(name, "val", tuple(samples))


@pytest.fixture
def sets(tmp_path: Path) -> list[LabelledSet]:
    return [write_set(tmp_path, "one", "a"), write_set(tmp_path, "two", "b")]


def test_an_embedding_is_the_mean_over_the_image(sets: list[LabelledSet]) -> None:
    sample = sets[0].samples[0]
    pixels = np.asarray(read_pair(sample)[0], np.float64) / 255
    point = pooled_embedding(segmenter(bags=False), sample, "a")
    # Tiles of 64 px overlap, so the middle of the image counts twice.
    expected = (pixels[:, :64].mean(axis=(0, 1)) + pixels[:, 32:].mean(axis=(0, 1))) / 2
    np.testing.assert_allclose(point, expected, atol=1e-5)


def test_projection_is_seeded_and_keeps_clusters_apart() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 16) * 20, 8, axis=0)
    points = (centres + rng.normal(size=(24, 16))).astype(np.float32)
    places = project(points, seed=1)
    assert places.shape == (24, 2)
    assert np.array_equal(places, project(points, seed=1))
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    same = np.repeat(np.arange(3), 8)[:, None] == np.repeat(np.arange(3), 8)
    np.fill_diagonal(distance, np.inf)
    assert same[np.arange(24), distance.argmin(axis=1)].all()
    with pytest.raises(InputError, match="at least 4"):
        project(points[:3])


def test_figure_sets_two_models_side_by_side(sets: list[LabelledSet], tmp_path: Path) -> None:
    out = tmp_path / "figures" / "tsne.png"
    models = {"shared": segmenter(bags=False), "with bags": segmenter()}
    panels = tsne_figure(models, sets, out, images_per_set=4)
    assert list(panels) == ["shared", "with bags"]
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[1] > 1000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    rows = out.with_suffix(".csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 8
    apart, mixed = panels["with bags"], panels["shared"]
    assert apart.places.shape == (8, 2)
    assert apart.modalities == ("a",) * 4 + ("b",) * 4
    assert apart.silhouette > 0.8 > 0.4 > mixed.silhouette


def test_one_modality_or_an_unknown_one_is_refused(sets: list[LabelledSet], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two"):
        embed(segmenter(), sets[:1])
    with pytest.raises(ModalityError, match="'c'"):
        embed(segmenter(), [*sets, write_set(tmp_path, "three", "c")])

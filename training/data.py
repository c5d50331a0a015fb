"""Labelled images from packs: ``PACK/images/*``, ``PACK/masks/*.png`` and ``PACK/splits.json``."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.geometry import resize
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.intensity import measure_intensity
from napari_espmedsam.model.checkpoint import InputSpec

DATA_VARIABLE = "ESPMEDSAM_DATA"
SPLITS = ("train", "val", "test")

#: Decoded images are kept in memory up to this many bytes per set; the rest is read again.
CACHE_BYTES = 4 * 2**30


def data_root() -> Path:
    """Folder of the packs: ``$ESPMEDSAM_DATA/data``, else ``../shared/data`` by the checkout."""
    base = os.environ.get(DATA_VARIABLE)
    root = Path(base) if base else Path(__file__).resolve().parents[2] / "shared"
    return root / "data"


@dataclass(frozen=True)
class Sample:
    """One labelled image on disk.

    Attributes
    ----------
    name : str
        Unique within its source.
    image, mask : Path
        The mask is 0 where there is background; object ids are fine.
    modality, split : str
        The split is "train", "val" or "test".
    group : str
        Patient, slide or source image; no group may lie in two splits.
    """

    name: str
    image: Path
    mask: Path
    modality: str = ""
    split: str = ""
    group: str = ""


def splits_of(pack: Path) -> dict[str, list[str]]:
    """Names of the images of every split of a pack.

    Raises
    ------
    InputError
        If the pack has no ``splits.json``, or it holds no lists of names.
    """
    index = pack / "splits.json"
    if not index.is_file():
        raise InputError(
            f"There is no {index}. Set {DATA_VARIABLE} to the folder that holds data/{pack.name}."
        )
    try:
        splits: Any = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{index} is no JSON ({error!s:.100}). Write it again.") from error
    known = {name: splits[name] for name in SPLITS if isinstance(splits, dict) and name in splits}
    if not isinstance(splits, dict) or not all(map(_are_names, known.values())):
        raise InputError(f"{index} does not give each split a list of names. Write it again.")
    return known


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def list_samples(pack: Path, split: str, modality: str = "") -> list[Sample]:
    """Samples of one split, in the order of ``splits.json``.

    Raises
    ------
    InputError
        If the pack, the split, or one of its files is missing (the first ten are named).
    """
    splits = splits_of(pack)
    if split not in splits:
        raise InputError(f"{pack.name} has no split {split!r}; it has {', '.join(splits)}.")
    images = {path.stem: path for path in (pack / "images").iterdir()}
    names = splits[split]
    missing = [n for n in names if n not in images or not (pack / "masks" / f"{n}.png").is_file()]
    if missing:
        raise InputError(f"{pack.name} lacks images or masks for: {', '.join(missing[:10])}.")
    groups = groups_of(pack, names)
    return [
        Sample(n, images[n], pack / "masks" / f"{n}.png", modality, split, group)
        for n, group in zip(names, groups, strict=True)
    ]


def groups_of(pack: Path, names: Sequence[str]) -> list[str]:
    """Patient or source image of each image of a pack, as ``PACK/GROUP``.

    Taken from ``meta.csv``, if it has a column ``id`` and one of ``group``, ``patient``, ``case``;
    else tiles (``NAME_t0``, ``NAME_t1``, ...) belong together, and other images stand alone.
    """
    known: dict[str, str] = {}
    table = pack / "meta.csv"
    try:
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    keys = ("group", "patient", "case")
                    group = next((row[key] for key in keys if key in row), "")
                    if group and "id" in row:
                        known[row["id"]] = group
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{table} is no table in UTF-8 ({error!s:.100}). Save it again."
        ) from error
    return [f"{pack.name}/{known.get(n) or re.sub(r'_t[0-9]+$', '', n)}" for n in names]


def read_pair(sample: Sample) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read an image, (H, W) or (H, W, 3) RGB, and its foreground mask (H, W).

    Raises
    ------
    InputError
        If one of the two cannot be read or their sizes differ.
    """
    image = cv2.imread(str(sample.image), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED)
    if image is None or mask is None:
        bad = sample.image if image is None else sample.mask
        raise InputError(f"{bad} cannot be read as an image. Replace or remove it.")
    if image.shape[:2] != mask.shape[:2]:
        raise InputError(
            f"{sample.name}: the image is {image.shape[:2]} and its mask {mask.shape[:2]}."
        )
    if image.ndim == 3:
        image = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)
    if mask.ndim == 3:
        mask = mask[..., :3].max(axis=-1)  # an opaque alpha channel is no foreground
    return image, mask > 0


def median_diameter(samples: list[Sample]) -> float:
    """Median over images of the median diameter (of a disc of equal area) of their objects, px.

    The masks must be instance masks: one value per object.
    """
    medians = []
    for sample in samples:
        labels = cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED)
        if labels is None:
            raise InputError(f"{sample.mask} cannot be read as an image. Replace or remove it.")
        areas = np.bincount(labels.ravel())[1:]
        if areas.any():
            medians.append(float(np.median(np.sqrt(4 / np.pi * areas[areas > 0]))))
    return float(np.median(medians))


def rescale(image: NDArray[np.generic], spec: InputSpec) -> NDArray[np.float32]:
    """Map pixel values to [0, 1] exactly as inference does, and grey to three channels.

    Parameters
    ----------
    image : ndarray
        (H, W) or (H, W, 3), any real type.
    spec : InputSpec
        Its ``rescale`` rule.

    Returns
    -------
    ndarray
        (3, H, W) float32 in [0, 1].
    """
    stack = PlaneStack.from_array(image, rgb=image.ndim == 3)
    rescaled = measure_intensity(stack, spec).rescale(stack.plane(0))
    channels = rescaled if rescaled.ndim == 3 else np.repeat(rescaled[..., None], 3, axis=-1)
    return np.ascontiguousarray(np.moveaxis(channels, -1, 0))


def normalise(images: Tensor, kinds: Tensor, specs: Sequence[InputSpec]) -> Tensor:
    """Model input of images in [0, 1], by each row's own rule.

    Parameters
    ----------
    images : Tensor
        (B, 3, H, W) float32 in [0, 1].
    kinds : Tensor
        (B,) int64 index into ``specs``.
    specs : sequence of InputSpec
        Value range, mean and deviation.

    Returns
    -------
    Tensor
        (B, 3, H, W) float32, channels-last in memory.
    """

    def table(values: list[tuple[float, ...]]) -> Tensor:
        return torch.tensor(values, device=images.device)[kinds][:, :, None, None]

    gain = table([(s.value_range,) for s in specs])
    mean, std = table([s.mean for s in specs]), table([s.std for s in specs])
    return ((images * gain - mean) / std).contiguous(memory_format=torch.channels_last)


def squeeze(
    image: NDArray[np.float32], mask: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resize (3, H, W) and its mask to size x size, the image as inference does."""
    plane = resize(np.ascontiguousarray(np.moveaxis(image, 0, -1)), (size, size))
    coverage = resize(mask.astype(np.float32), (size, size))
    return np.ascontiguousarray(np.moveaxis(plane, -1, 0)), coverage >= 0.5


class SampleSet:
    """Samples of one modality as training sees them, decoded once as far as memory allows.

    Parameters
    ----------
    samples : sequence of Sample
        What to read.
    spec : InputSpec
        Rescaling rule. With "whole" geometry images come resized to ``size`` x ``size``.
    cache_bytes : int
        Memory for decoded images, which are kept as 8 bit.
    """

    def __init__(
        self, samples: Sequence[Sample], spec: InputSpec, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.samples = list(samples)
        self.spec = spec
        self._free = cache_bytes
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (3, H, W) float32 in [0, 1] and mask (1, H, W) float32 in {0, 1}."""
        image, mask = self._eight_bit(index)
        return image.float() / 255, mask.float()

    def _eight_bit(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self._cache:
            return self._cache[index]
        pixels, truth = read_pair(self.samples[index])
        image = rescale(pixels, self.spec)
        if self.spec.geometry == "whole":
            image, truth = squeeze(image, truth, self.spec.size)
        item = (
            torch.from_numpy((image * 255).round().astype(np.uint8)),
            torch.from_numpy(np.ascontiguousarray(truth))[None],
        )
        size = item[0].nbytes + item[1].nbytes
        if size <= self._free:
            self._free -= size
            self._cache[index] = item
        return item

    def kinds(self) -> list[str]:
        """Name the kind of every image: grey or colour, dark or bright background."""
        kinds = []
        for image, _ in (self._eight_bit(i) for i in range(len(self))):
            colour = "colour" if bool((image[0] != image[1]).any()) else "grey"
            kinds.append(f"{colour}-{'bright' if float(image.float().mean()) > 102 else 'dark'}")
        return kinds

    def weights(self, balance: float) -> Tensor:
        """Sampling weight of every image: ``n_of_its_kind ** -balance``."""
        if balance == 0:
            return torch.ones(len(self), dtype=torch.float64)
        kinds = self.kinds()
        count = Counter(kinds)
        return torch.tensor([count[kind] ** -balance for kind in kinds], dtype=torch.float64)

"""Measure a model on labelled images, through the same path that users run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.inference.postprocess import PostProcess, to_labels
from training.data import Sample, data_root, list_samples, read_pair
from training.metrics import agreement
from training.papers import modality_of
from training.scores import ImageScore
from training.selection import check_selection

Report = Callable[[str], None]


class Header(Protocol):
    """What evaluation needs to know of a model: from which probability on it sees foreground."""

    @property
    def threshold(self) -> float:
        """Where no modality is named."""

    def threshold_for(self, modality: str) -> float:
        """Of one modality."""


class Decoded(Protocol):
    """An answer of a model."""

    @property
    def array(self) -> NDArray[np.float32]:
        """(H, W) float32 probability, 0 to 1, on the pixels of the image."""


class Predictor(Protocol):
    """Anything that can be measured: a ``Segmenter``, or another model in its clothes."""

    @property
    def header(self) -> Header:
        """Description of the model."""

    def encode(self, plane: NDArray[Any], modality: str | None = None) -> Any:
        """Read an image, (H, W) or (H, W, 3); the result is passed to :meth:`decode` alone."""

    def decode(self, encoding: Any) -> Decoded:
        """Segment an encoded image."""


@dataclass(frozen=True)
class LabelledSet:
    """Images to measure on.

    Attributes
    ----------
    name, split : str
        For headings, tables and files.
    samples : tuple of Sample
        At least one.

    Raises
    ------
    InputError
        If there are no samples.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not self.samples:
            raise InputError(
                f"{self.name} has no images in its split {self.split!r}. Name another."
            )

    @classmethod
    def from_pack(cls, pack: str, split: str, modality: str = "") -> LabelledSet:
        """One split of a pack, a folder below the data root.

        The modality may be left out for sets that :mod:`training.papers` knows, and where the
        model has one only.

        Parameters
        ----------
        pack : str
            The folder.
        split : str
            "train", "val" or "test".
        modality : str
            Of all images.

        Returns
        -------
        LabelledSet
            Called after the pack.
        """
        samples = list_samples(data_root() / pack, split, modality or modality_of(pack))
        return cls(pack, split, tuple(samples))

    @classmethod
    def from_samples(cls, name: str, samples: Sequence[Sample], split: str) -> LabelledSet:
        """Those of the samples (of a manifest, say) that belong to a split.

        Parameters
        ----------
        name : str
            For headings, tables and files.
        samples : sequence of Sample
            Of any split.
        split : str
            "train", "val" or "test".

        Returns
        -------
        LabelledSet
            In the order of the samples.
        """
        return cls(name, split, tuple(s for s in samples if s.split == split))


def score_samples(
    predictor: Predictor,
    labelled: LabelledSet,
    *,
    model: str = "",
    modality: str | None = None,
    thresholds: Sequence[float] = (),
    report: Report = lambda line: None,
) -> list[ImageScore]:
    """Segment every image of a set and compare the masks.

    Parameters
    ----------
    predictor : Predictor
        The model to measure.
    labelled : LabelledSet
        Images and masks.
    model : str
        Name of the model in the scores.
    modality : str, optional
        Instead of the samples' own.
    thresholds : sequence of float
        Probability thresholds to score; the model's own for each modality when empty.
    report : callable
        Receives one line per image.

    Returns
    -------
    list of ImageScore
        In the order of the samples; one after another for each threshold.

    Raises
    ------
    InputError
        If several thresholds are to be compared on test images, or an image cannot be used.
    ModalityError
        If the model lacks the modality, or has several and none is named.
    """
    cuts = tuple(dict.fromkeys(thresholds))
    if len(cuts) > 1:
        check_selection(labelled.samples)
    scores: list[ImageScore] = []
    for number, sample in enumerate(labelled.samples, start=1):
        image, truth = read_pair(sample)
        wanted = modality or sample.modality
        try:
            masks = predict(predictor, image, wanted, cuts or (_own_threshold(predictor, wanted),))
        except ModalityError:
            raise
        except InputError as error:  # an image without contrast, say
            raise InputError(f"{sample.image}: {error}") from error
        measured = [
            ImageScore(
                name=sample.name,
                modality=wanted,
                colour=image.ndim == 3,
                **asdict(agreement(mask, truth)),
                group=sample.group,
                model=model,
                dataset=labelled.name,
                split=labelled.split,
                threshold=cut,
            )
            for cut, mask in masks.items()
        ]
        report(f"{number}/{len(labelled.samples)} {sample.name} Dice {measured[0].dice:.4f}")
        scores += measured
    return scores


def _own_threshold(predictor: Predictor, modality: str) -> float:
    header = predictor.header
    return header.threshold_for(modality) if modality else header.threshold


def predict(
    predictor: Predictor, image: NDArray[Any], modality: str, thresholds: Sequence[float]
) -> dict[float, NDArray[np.bool_]]:
    """Segment one image and clean up its masks as users get them.

    Parameters
    ----------
    predictor : Predictor
        The model.
    image : ndarray
        (H, W) or (H, W, 3), any real type.
    modality : str
        May be "" where the model has one.
    thresholds : sequence of float
        Probabilities from which a pixel counts as foreground.

    Returns
    -------
    dict of float to ndarray of bool, (H, W)
        By threshold.
    """
    probability = predictor.decode(predictor.encode(image, modality or None)).array
    return {
        cut: to_labels(probability, PostProcess(output="mask", threshold=cut)) > 0
        for cut in thresholds
    }


def by_threshold(scores: Sequence[ImageScore]) -> dict[float, list[ImageScore]]:
    """Sort scores by their threshold, in the order in which thresholds first come."""
    groups: dict[float, list[ImageScore]] = {}
    for score in scores:
        groups.setdefault(score.threshold, []).append(score)
    return groups


def evaluate(
    predictor: Predictor,
    pack: str,
    split: str,
    *,
    modality: str | None = None,
    thresholds: Sequence[float] = (),
    report: Report = lambda line: None,
) -> dict[float, list[ImageScore]]:
    """Measure one model on one split of a pack.

    Parameters
    ----------
    predictor, modality, thresholds, report
        See :func:`score_samples`.
    pack, split : str
        Folder below the data root, and one of its splits.

    Returns
    -------
    dict of float to list of ImageScore
        For each threshold one score per image, in the order of the split.
    """
    labelled = LabelledSet.from_pack(pack, split)
    return by_threshold(
        score_samples(predictor, labelled, modality=modality, thresholds=thresholds, report=report)
    )

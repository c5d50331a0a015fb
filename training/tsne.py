"""t-SNE of image embeddings by modality and domain: ESP-MedSAM's figure 5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.segmenter import Segmenter
from training.data import Sample, read_pair
from training.evaluate import LabelledSet
from training.prompt_study import evenly_spaced
from training.scores import result_file

Points = NDArray[np.float32]

#: Images of each set in the figure.
IMAGES_PER_SET = 60
_MARKERS = "o^sDPv*X"


@dataclass(frozen=True)
class Embedded:
    """Images as one model sees them.

    Attributes
    ----------
    embeddings : ndarray
        (n, C) float32, each the mean over all places of the image.
    places : ndarray
        (n, 2) float32: their t-SNE coordinates, no unit.
    modalities, datasets, names : tuple of str
        Of each image.
    silhouette : float
        Of the modalities in the embeddings themselves, -1 to 1: how much nearer an image is to
        its own modality than to the next one.
    """

    embeddings: Points
    places: Points
    modalities: tuple[str, ...]
    datasets: tuple[str, ...]
    names: tuple[str, ...]
    silhouette: float


def pooled_embedding(segmenter: Segmenter, sample: Sample, modality: str) -> Points:
    """Mean of the embedding over all places of an image: (C,) float32."""
    encoding = segmenter.encode(read_pair(sample)[0], modality)
    tiles = [features.embedding.float().mean(dim=(0, 2, 3)) for features in encoding.features]
    return np.asarray(torch.stack(tiles).mean(dim=0).cpu().numpy(), np.float32)


def project(embeddings: Points, *, seed: int = 0, perplexity: float = 30.0) -> Points:
    """t-SNE coordinates (n, 2) of embeddings (n, C); the same input gives the same output.

    The perplexity is lowered to a third of the other images where there are few.

    Raises
    ------
    InputError
        If there are fewer than 4 images.
    """
    n = len(embeddings)
    if n < 4:
        raise InputError(f"t-SNE has {n} images; it needs at least 4. Take more, or more sets.")
    found = TSNE(
        perplexity=min(perplexity, (n - 1) / 3), init="pca", random_state=seed
    ).fit_transform(embeddings)
    return np.asarray(found, np.float32)


def embed(
    segmenter: Segmenter,
    sets: Sequence[LabelledSet],
    *,
    images_per_set: int = IMAGES_PER_SET,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Embedded:
    """Embed and project the images of several sets with one model.

    Parameters
    ----------
    segmenter : Segmenter
        Any model; it must know the sets' modalities.
    sets : sequence of LabelledSet
        Their samples name the modality.
    images_per_set : int
        At most this many images of each set, evenly spaced.
    seed : int
        Of t-SNE.
    report : callable
        Receives one line per set.

    Raises
    ------
    InputError, ModalityError
        If there are fewer than 4 images or 2 modalities, or the model lacks a modality.
    """
    rows: list[tuple[Points, str, str, str]] = []
    for labelled in sets:
        chosen = evenly_spaced(labelled.samples, images_per_set)
        for sample in chosen:
            modality = sample.modality or segmenter.modalities[0]
            point = pooled_embedding(segmenter, sample, modality)
            rows.append((point, modality, labelled.name, sample.name))
        report(f"{segmenter.name}: {len(chosen)} images of {labelled.name}")
    points, modalities, datasets, names = zip(*rows, strict=True)
    if len(set(modalities)) < 2:
        raise InputError(
            f"All images are of one modality, {modalities[0]!r}. The figure is about how "
            "modalities lie apart; name sets of at least two."
        )
    embeddings = np.stack(points)
    return Embedded(
        embeddings=embeddings,
        places=project(embeddings, seed=seed),
        modalities=modalities,
        datasets=datasets,
        names=names,
        silhouette=float(silhouette_score(embeddings, modalities)),
    )


def tsne_figure(
    models: Mapping[str, Segmenter],
    sets: Sequence[LabelledSet],
    out: Path,
    *,
    images_per_set: int = IMAGES_PER_SET,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Embedded]:
    """Draw one panel per model, one colour per modality, one marker per set.

    Parameters
    ----------
    models : mapping of str to Segmenter
        By title. The paper sets a baseline that shares all parameters beside ESP-MedSAM.
    sets : sequence of LabelledSet
        Images. The masks are not used.
    out : Path
        PNG. The coordinates are written beside it as CSV.
    images_per_set, seed, report
        See :func:`embed`.

    Returns
    -------
    dict of str to Embedded
        By title.

    Raises
    ------
    InputError, ModalityError, OutputError
        See :func:`embed`; the last one if a file cannot be written.
    """
    panels = {
        title: embed(segmenter, sets, images_per_set=images_per_set, seed=seed, report=report)
        for title, segmenter in models.items()
    }
    figure = Figure(figsize=(5.2 * len(panels), 5.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, embedded) in zip(axes, panels.items(), strict=True):
        _draw(ax, title, embedded)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(3, len(panels))  # long names need a panel's width
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    with result_file(out) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    _write_csv(out.with_suffix(".csv"), panels)
    return panels


def _draw(ax: Any, title: str, embedded: Embedded) -> None:
    """One panel: a scatter per set."""
    modalities = sorted(set(embedded.modalities))
    keys = list(zip(embedded.modalities, embedded.datasets, strict=True))
    for number, (modality, dataset) in enumerate(sorted(set(keys))):
        here = np.array([key == (modality, dataset) for key in keys])
        ax.scatter(
            *embedded.places[here].T,
            s=16,
            color=f"C{modalities.index(modality)}",
            marker=_MARKERS[number % len(_MARKERS)],
            label=f"{modality}: {dataset}, n = {int(here.sum())}",
        )
    ax.set_title(f"{title}\nsilhouette of modalities {embedded.silhouette:.2f}", fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])


def _write_csv(path: Path, panels: Mapping[str, Embedded]) -> None:
    lines = ["model,modality,dataset,name,x,y"]
    for title, e in panels.items():
        lines += [
            f'"{title}",{m},{d},{n},{x:.4f},{y:.4f}'
            for m, d, n, (x, y) in zip(e.modalities, e.datasets, e.names, e.places, strict=True)
        ]
    with result_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

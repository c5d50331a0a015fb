"""Linking the objects of a labels layer through Z and T into a new layer. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.arrays import read_array
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.linking import link_stack, tracks_table
from napari_espmedsam.widgets.layers import METADATA_KEY, Geometry
from napari_espmedsam.widgets.objects_source import ObjectSource

WAYS = {"Z": "through Z", "T": "through time", "ZT": "through Z, then time"}
"""What objects can be linked along, in words."""


@dataclass(frozen=True, eq=False)
class LinkJob:
    """What the worker gets, and what the new layers need.

    Attributes
    ----------
    source : ObjectSource
        The labels.
    along : str
        "Z", "T", or "ZT" for both in turn.
    min_overlap : float
        Share of the smaller of two objects that has to lie on the other, 0 to 1.
    tracks : bool
        Whether to list the tracks as well.
    name : str
        Name of the labels layer.
    geometry : Geometry
        Its place.
    record : dict
        What we know of it.
    """

    source: ObjectSource
    along: str
    min_overlap: float
    tracks: bool
    name: str
    geometry: Geometry
    record: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Linked:
    """Outcome of a job.

    Attributes
    ----------
    job : LinkJob
        What was done.
    labels : ndarray
        uint32, axes of the layer.
    n_objects : int
        Number of objects.
    tracks : ndarray or None
        (n, 1 + axes of the layer) float64 for a tracks layer.
    """

    job: LinkJob
    labels: npt.NDArray[np.uint32]
    n_objects: int
    tracks: npt.NDArray[np.float64] | None


def ways_to_link(source: ObjectSource) -> dict[str, str]:
    """Return along which axes objects can be linked, in words, the most thorough way first."""
    present = [letter for letter in "ZT" if letter in source.axes]
    ways = ["ZT", "T", "Z"] if len(present) == 2 else present
    return {way: WAYS[way] for way in ways}


def link(job: LinkJob) -> Linked:
    """Link the objects: for a worker thread. The labels that were given are not changed.

    Raises
    ------
    InputError
        If tracks are wanted and napari cannot show any on such a layer.
    """
    source = job.source
    if job.tracks and (source.data_axes[0] != "T" or len(source.data_axes) > 4):
        raise InputError(
            f"'{job.name}' has the axes {source.data_axes}. Tracks need T first and at most four "
            "axes. Link without tracks."
        )
    labels = read_array(source.read_labels())
    for axis in job.along:
        labels = link_stack(labels, source.axes, axis, min_overlap=job.min_overlap)
    tracks = None
    if job.tracks:
        table = tracks_table(labels)
        places = [source.layer_point(row) for row in table[:, 1:]]
        tracks = np.column_stack([table[:, 0], np.reshape(places, (-1, len(source.data_axes)))])
    return Linked(job, _as_layer(labels, source), int(labels.max(initial=0)), tracks)


def add_linked(viewer: Any, linked: Linked) -> Any:
    """Add what was linked to a viewer: one layer, or two with tracks; returns the labels layer."""
    job = linked.job
    how = {"along": job.along, "min_overlap": job.min_overlap, "labels": job.name}
    record = {"axes": job.source.data_axes, **job.record, "linked": how}
    layer = viewer.add_labels(
        linked.labels,
        name=f"{job.name} linked",
        metadata={METADATA_KEY: record},
        **job.geometry.layer_arguments(),
    )
    if linked.tracks is not None and len(linked.tracks):
        viewer.add_tracks(
            linked.tracks, name=f"{job.name} tracks", **job.geometry.layer_arguments()
        )
        viewer.layers.selection.active = layer
    return layer


def count_objects(count: int) -> str:
    """Write a number of objects in words: ``1 object``, ``12 objects``."""
    return f"{count} object{'s'[: count != 1]}"


def _as_layer(labels: npt.NDArray[np.uint32], source: ObjectSource) -> npt.NDArray[np.uint32]:
    """Return labels in the order of the layer's axes."""
    if source.axes == source.data_axes:
        return labels
    extra = [letter for letter in source.data_axes if letter not in source.axes]
    letters = [*extra, *source.axes]
    whole = labels[(None,) * len(extra)]
    return np.ascontiguousarray(whole.transpose([letters.index(a) for a in source.data_axes]))

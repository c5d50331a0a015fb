"""The kinds of files that labels are written to: one table for command line, batch and napari."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.coco import write_coco
from napari_espmedsam.io.geojson import write_geojson
from napari_espmedsam.io.labels import write_labels_tiff
from napari_espmedsam.io.roi_zip import write_roi_zip
from napari_espmedsam.io.tables import write_objects_csv
from napari_espmedsam.io.zarr_labels import write_labels_zarr


class LabelWriter(Protocol):
    """What all writers of labels have in common."""

    def __call__(
        self,
        path: str | os.PathLike[str],
        labels: Any,
        axes: str,
        *,
        spacing: Mapping[str, float] | None = None,
        provenance: Mapping[str, Any] | None = None,
        overwrite: bool = True,
    ) -> Path:
        """Write labels, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            File or folder to write.
        labels : array-like of integer
            Ids from 0 (background) on, with axes `axes`.
        axes : str
            One letter per dimension out of ``TZCYX``.
        spacing : Mapping of str to float, optional
            Step along ``Z``, ``Y``, ``X`` in micrometres and ``T`` in seconds, as far as known.
        provenance : Mapping, optional
            How the labels were made, as JSON values; stored where the format has a place for it.
        overwrite : bool
            False: an existing file is an error.

        Returns
        -------
        Path
            `path`.

        Raises
        ------
        InputError
            If `axes` do not describe `labels`, or `labels` are no whole numbers.
        OutputError
            If the format cannot hold the labels, or they cannot be written.
        """


@dataclass(frozen=True)
class LabelFormat:
    """A kind of file.

    Attributes
    ----------
    name : str
        How the command line calls it.
    suffix : str
        Ending of its files, with all its dots.
    title : str
        What it is, for people.
    write : LabelWriter
        Writes it.
    is_folder : bool
        Whether it is a folder of files.
    keeps_pixels : bool
        Whether the labels can be read back as an image; else it holds outlines or numbers.
    """

    name: str
    suffix: str
    title: str
    write: LabelWriter
    is_folder: bool = False
    keeps_pixels: bool = False

    def file_name(self, stem: str) -> str:
        """Return the name of the result of an image: ``STEM_labels.tif`` and alike."""
        return f"{stem}_labels{self.suffix}"


FORMATS: Mapping[str, LabelFormat] = {
    each.name: each
    for each in (
        LabelFormat("tiff", ".tif", "ImageJ TIFF", write_labels_tiff, keeps_pixels=True),
        LabelFormat(
            "ome-zarr",
            ".ome.zarr",
            "OME-Zarr labels",
            write_labels_zarr,
            is_folder=True,
            keeps_pixels=True,
        ),
        LabelFormat("geojson", ".geojson", "QuPath GeoJSON", write_geojson),
        LabelFormat("roi", ".roi.zip", "ImageJ ROIs", write_roi_zip),
        LabelFormat("coco", ".coco.json", "COCO instances", write_coco),
        LabelFormat("csv", ".csv", "Table of objects", write_objects_csv),
    )
}
"""All formats by name; each holds stacks as well as planes."""


def format_named(name: str) -> LabelFormat:
    """Return a format by its name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    try:
        return FORMATS[name]
    except KeyError as error:
        raise InputError(
            f"there is no format {name!r} for labels; choose out of {', '.join(FORMATS)}, "
            "and give several one by one."
        ) from error

"""Run records as napari opens them: the image and the labels that they name."""

from __future__ import annotations

from pathlib import Path

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.open_image import open_image
from napari_espmedsam.io.run_record import SUFFIX, read_run_files
from napari_espmedsam.widgets.image_readers import (
    LayerData,
    Paths,
    Reader,
    as_list,
    labels_of,
    layers_of,
    warn,
)

_LABELS = (".tif", ".tiff", ".zarr")


def get_reader(path: Paths) -> Reader | None:
    """Tell napari whether we read a file: by its name alone, and never with an error.

    Parameters
    ----------
    path : str, path-like or sequence of them
        One file, or several that shall be opened together.

    Returns
    -------
    callable or None
        :func:`read_runs` where every name ends with ``.esprun.json``.
    """
    try:
        names = as_list(path)
    except TypeError:
        return None
    return read_runs if names and all(name.lower().endswith(SUFFIX) for name in names) else None


def read_runs(path: Paths) -> list[LayerData]:
    """Open the image and the labels of each run.

    Parameters
    ----------
    path : str, path-like or sequence of them
        Records.

    Returns
    -------
    list of tuple
        Image layers, then labels layers. Files that are missing or cannot be read are named in a
        napari warning; results that are no images (tables, outlines) are left out.

    Raises
    ------
    InputError
        If a file is no record, or nothing that it names can be opened.
    """
    return [layer for each in as_list(path) for layer in _layers(Path(each))]


def _layers(path: Path) -> list[LayerData]:
    files = read_run_files(path)
    notes = [f"{path} names {name}, which is not there." for name in files.missing]
    layers: list[LayerData] = []
    images = [] if files.image is None else [(files.image, layers_of)]
    labels = [(each, labels_of) for each in files.outputs if each.name.lower().endswith(_LABELS)]
    for file, convert in images + labels:
        try:
            image = open_image(file)
            layers += convert(image)
            notes += image.warnings
        except InputError as error:
            notes.append(str(error))
    if not layers:
        raise InputError(
            f"{path} names no image and no labels that can be opened; move it back beside them. "
            + " ".join(notes)
        )
    warn(notes)
    return layers

"""Images as napari opens them: which files we claim, and the layers that they become."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_espmedsam.io.content import DICOM_SUFFIXES, holds_dicom, is_zarr
from napari_espmedsam.io.lazy_image import LazyImage

# What napari itself opens without axes, sizes, channels or levels. PNG, JPEG and films are its own.
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".scn", ".bif", ".qptiff", ".ptif")

LayerData = tuple[Any, dict[str, Any], str]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Reader = Callable[[Paths], list[LayerData]]


def get_reader(path: Paths) -> Reader | None:
    """Tell napari whether we read something: files by name, folders by a glance; never an error.

    Parameters
    ----------
    path : str, path-like or sequence of them
        One file or folder, or several files that shall become one stack.

    Returns
    -------
    callable or None
        :func:`read_images` for TIFF and slides by their ending, for DICOM by its ending, and for
        folders that are Zarr or hold DICOM. Several files are only ours where all are DICOM:
        napari stacks others well.
    """
    try:
        names = as_list(path)
        if not names or any("://" in name for name in names):
            return None
        if len(names) > 1:
            return read_images if all(_ends(name, DICOM_SUFFIXES) for name in names) else None
        only = Path(names[0])
        if only.is_dir():
            return read_images if is_zarr(only) or holds_dicom(only) else None
        return read_images if _ends(names[0], TIFF_SUFFIXES + DICOM_SUFFIXES) else None
    except (OSError, TypeError, ValueError):  # whatever it is, it is no path of ours
        return None


def read_images(path: Paths) -> list[LayerData]:
    """Open an image without reading all of it.

    Parameters
    ----------
    path : str, path-like or sequence of them
        A file or folder; several DICOM files become one stack.

    Returns
    -------
    list of tuple
        An image layer per channel, see :func:`layers_of`, then the labels that an OME-Zarr image
        carries. What is wrong with the file, and that it holds further images, is said by a
        napari warning.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from napari_espmedsam.io.dicom import open_dicom_series
    from napari_espmedsam.io.ome_zarr import is_labels, label_images
    from napari_espmedsam.io.open_image import open_image

    names = [Path(each) for each in as_list(path)]
    if len(names) > 1:
        return _told(open_dicom_series(names[0].parent, names))
    only = names[0]
    if not is_zarr(only):
        return _told(open_image(only))
    if is_labels(only):
        return labels_of(open_image(only))
    layers = _told(open_image(only))
    for each in label_images(only):
        layers += labels_of(open_image(each))
    return layers


def layers_of(image: LazyImage) -> list[LayerData]:
    """Turn an opened image into layers.

    Parameters
    ----------
    image : LazyImage
        Any.

    Returns
    -------
    list of tuple
        One layer; where there is an axis C, napari makes one of each channel out of it. Lazy
        data, several levels where there are; name, scale (micrometres, seconds), units, axis
        labels, contrast limits, colours.
    """
    attributes = _placed(image) | {"name": image.name, "rgb": image.rgb}
    if "C" not in image.axes:
        if image.contrast_limits:
            attributes["contrast_limits"] = image.contrast_limits[0]
        return [(_data(image), attributes, "image")]
    n = image.n_channels
    channels = image.channel_names or [f"channel {number}" for number in range(n)]
    # napari takes a lone vector for one value per channel where their numbers agree by chance.
    attributes |= {key: [attributes[key]] * n for key in ("scale", "units", "axis_labels")}
    return [
        (
            _data(image),
            attributes
            | {
                "channel_axis": image.axes.index("C"),
                "name": [f"{image.name} [{channel}]" for channel in channels],
                "contrast_limits": [list(limits) for limits in image.contrast_limits],
            },
            "image",
        )
    ]


def labels_of(image: LazyImage) -> list[LayerData]:
    """Turn opened labels into a labels layer; nothing where they are no whole numbers."""
    if image.dtype.kind not in "iu" or set(image.axes) & set("CS"):
        return []
    return [(_data(image), _placed(image) | {"name": image.name}, "labels")]


def _data(image: LazyImage) -> Any:
    return list(image.levels) if len(image.levels) > 1 else image.levels[0]


def _placed(image: LazyImage) -> dict[str, Any]:
    axes = [axis for axis in image.axes if axis not in "CS"]
    return {
        "multiscale": len(image.levels) > 1,
        "scale": [image.spacing.get(axis, 1.0) for axis in axes],
        "units": [image.units[axis] for axis in axes],
        "axis_labels": [axis.lower() for axis in axes],
    }


def _told(image: LazyImage) -> list[LayerData]:
    """Say what is to be said of an image, and return its layers."""
    notes = list(image.warnings)
    if image.n_series > 1:
        notes.append(f"{image.source} holds {image.n_series} images; the first one is opened.")
    warn(notes)
    return layers_of(image)


def warn(notes: Sequence[str]) -> None:
    """Show sentences as napari warnings."""
    if not notes:
        return
    from napari.utils.notifications import show_warning

    for note in notes:
        show_warning(note)


def as_list(path: Paths) -> list[str]:
    """Return paths as text.

    Raises
    ------
    TypeError
        If something among them is no path.
    """
    if isinstance(path, str | os.PathLike):
        return [os.fspath(path)]
    return [os.fspath(each) for each in path]


def _ends(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)

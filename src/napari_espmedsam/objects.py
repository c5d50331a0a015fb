"""The objects of labels as columns: number, size, place and brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_espmedsam.errors import InputError

Columns = dict[str, NDArray[Any]]
_COLOURS = ("red", "green", "blue")
_BASIC = ("label", "area", "centroid", "bbox")


def check_fit(labels: NDArray[Any], axes: str, image: NDArray[Any] | None = None) -> None:
    """Check that axes and image belong to labels.

    Raises
    ------
    InputError
        If not.
    """
    if len(axes) != labels.ndim or axes[-2:] != "YX" or not set(axes) <= set("TZYX"):
        raise InputError(
            f"axes {axes!r} do not fit labels of shape {labels.shape}; give {labels.ndim} letters "
            "out of T, Z, Y, X with Y and X last."
        )
    if image is not None and image.shape not in (labels.shape, (*labels.shape, 3)):
        raise InputError(
            f"image of shape {image.shape} does not fit labels of shape {labels.shape}; pass the "
            "channel that was segmented, or its 3 colours as the last axis."
        )


def region_columns(
    labels: NDArray[Any],
    image: NDArray[Any] | None = None,
    *,
    extra: tuple[str, ...] = (),
    spacing: tuple[float, ...] | None = None,
) -> Columns:
    """Measure the objects of one plane or volume with scikit-image.

    Parameters
    ----------
    labels : ndarray of integer
        (Y, X) or (Z, Y, X), ids up to 2**32 - 1; 0 is background.
    image : ndarray, optional
        Shape of `labels`, or that with a last axis of 3 colours.
    extra : tuple of str
        Further properties of `skimage.measure.regionprops`.
    spacing : tuple of float, optional
        Size of a step along each axis; 1 when None.

    Returns
    -------
    dict of str to ndarray
        Columns in the order of the label: ``label``, ``area``, ``centroid-0``... (both in the
        units of `spacing`), ``bbox-0``... (pixels), `extra`, and with `image` ``mean_intensity``
        or ``mean_red``, ``mean_green``, ``mean_blue``. Without objects they are empty.
    """
    from skimage.measure import regionprops_table

    ids: NDArray[Any] | None = None
    if int(labels.max(initial=0)) > labels.size:  # regionprops makes a list as long as the last id
        ids = np.append(labels.dtype.type(0), np.unique(labels[labels > 0]))
        labels = np.searchsorted(ids, labels)
    intensity = () if image is None else ("mean_intensity",)
    table: Columns = regionprops_table(
        labels, image, properties=(*_BASIC, *extra, *intensity), spacing=spacing
    )
    if ids is not None:
        table["label"] = ids[table["label"]]
    for c, colour in enumerate(_COLOURS):
        if f"mean_intensity-{c}" in table:
            table[f"mean_{colour}"] = table.pop(f"mean_intensity-{c}")
    return table

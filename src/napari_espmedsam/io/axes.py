"""Axes of files to axes of ours: ``TZCYX`` in any order, colour samples (S) last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_espmedsam.errors import InputError

Array = TypeVar("Array", bound=Any)  # numpy or dask


def our_axes(path: Path, array: Array, axes: str) -> tuple[Array, str]:
    """Drop axes of length one, name unnamed stacks, put colour samples last without alpha.

    Parameters
    ----------
    path : Path
        Named in errors.
    array : numpy.ndarray or dask.array.Array
        Any image; only viewed, never computed or copied.
    axes : str
        A letter per dimension as tifffile has them; I and Q are stacks of unknown meaning.

    Returns
    -------
    array, str
        Letters out of ``TZCYXS``.

    Raises
    ------
    InputError
        If an axis has no meaning here or stands there twice, or there are no pixels.
    """
    if 0 in array.shape:
        raise InputError(f"{path} holds no pixels (its shape is {array.shape}); export it again.")
    keep = [a in "YX" or n > 1 for a, n in zip(axes, array.shape, strict=True)]
    array = array[tuple(slice(None) if k else 0 for k in keep)]
    axes = "".join(a for a, k in zip(axes, keep, strict=True) if k)
    for letter in axes:
        if letter in "IQ":
            name = next((free for free in "ZTC" if free not in axes), letter)
            axes = axes.replace(letter, name, 1)
    if "S" in axes:
        array, axes = _samples_last(array, axes)
    unknown = sorted(set(axes) - set("TZCYXS"))
    if unknown or len(set(axes)) != len(axes) or not set("YX") <= set(axes):
        raise InputError(
            f"{path} has axes {axes} with shape {array.shape}, but only T, Z, C, Y, X and colour "
            "samples (S), each once, can be read; name them with --axes or save the part that "
            "you need as its own file."
        )
    return array, axes


def _samples_last(array: Array, axes: str) -> tuple[Array, str]:
    at = axes.index("S")
    if at != len(axes) - 1:
        array = np.moveaxis(array, at, -1)
    if array.shape[-1] > 3:
        array = array[..., :3]
    axes = axes[:at] + axes[at + 1 :] + "S"
    return (array[..., 0], axes[:-1]) if array.shape[-1] == 2 else (array, axes)  # grey, alpha


def rename(path: Path, arrays: Sequence[Any], own: str, axes: str) -> tuple[list[Any], str]:
    """Give arrays the axes that the user named.

    Parameters
    ----------
    path : Path
        Named in errors.
    arrays : sequence of array
        Levels of one image, all with the axes `own`.
    own : str
        The file's own axes, after those of length one were dropped.
    axes : str
        A letter per dimension, out of ``TZCYXS``, in any case.

    Returns
    -------
    list of array, str
        With colour samples moved to the end.

    Raises
    ------
    InputError
        If `axes` does not fit the shape.
    """
    axes, shape = axes.strip().upper(), arrays[0].shape
    fits = (
        len(axes) == len(shape)
        and len(set(axes)) == len(axes)
        and set("YX") <= set(axes) <= set("TZCYXS")
        and ("S" not in axes or shape[axes.index("S")] == 3)
    )
    if not fits:
        raise InputError(
            f"axes {axes!r} do not fit {path} with shape {shape}; give {len(shape)} "
            "different letters out of T, Z, C, Y, X and S (S: the 3 colours), Y and X among them "
            f"(the file's own axes: {own})."
        )
    if "S" not in axes:
        return list(arrays), axes
    at = axes.index("S")
    return [np.moveaxis(a, at, -1) for a in arrays], axes.replace("S", "") + "S"

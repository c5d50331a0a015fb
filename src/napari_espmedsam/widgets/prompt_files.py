"""Prompt files as napari opens and saves them: a layer that carries a record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.inference.prompts import OFF, ON, UNTOUCHED
from napari_espmedsam.studio.plane_record import PlaneRecord
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.studio.record_file import SUFFIX, read_record, write_record
from napari_espmedsam.widgets.prompt_cells import USER_OFF, USER_ON

PROMPTS_KEY = "napari-espmedsam-prompts"
"""Key of a `PromptRecord` in ``layer.metadata``."""
_PLANE_KEY = "napari-espmedsam-prompts-plane"  # position in the record of what the layer shows

LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Tell napari whether we read a file: by its name alone, and never with an error.

    Parameters
    ----------
    path : str, path-like or sequence of them
        One file, or several that shall be opened together.

    Returns
    -------
    callable or None
        :func:`read_prompts` where every name ends with ``.espprompts.json``.
    """
    names = [str(each).lower() for each in _as_list(path)]
    return read_prompts if names and all(name.endswith(SUFFIX) for name in names) else None


def read_prompts(path: Paths) -> list[LayerData]:
    """Read prompt files: a labels layer "Prompts of NAME" for each.

    Parameters
    ----------
    path : str, path-like or sequence of them
        Files.

    Returns
    -------
    list of tuple
        The edits of the first edited plane, one pixel for each prompt cell: 0 as the model
        proposes, 2 on and 3 off by hand; scaled to the pixels of the image. The record itself is
        in ``metadata[PROMPTS_KEY]``.

    Raises
    ------
    InputError
        If a file is not what it should be.
    """
    return [_layer_of(read_record(each), Path(each)) for each in _as_list(path)]


def write_prompts(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write the record that a labels layer carries.

    Parameters
    ----------
    path : str
        Where to; the name gets the ending ``.espprompts.json`` where it has none.
    data : array-like
        Data of the layer. What was painted on a layer of :func:`read_prompts` is saved.
    attributes : mapping
        Attributes of the layer, ``metadata`` among them.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    OutputError
        If the layer carries no record, or the file cannot be written. (An InputError is a
        ValueError, and napari takes those of a writer for "no writer found".)
    """
    metadata = attributes.get("metadata") or {}
    record = metadata.get(PROMPTS_KEY)
    if not isinstance(record, PromptRecord):
        raise OutputError(
            f"The layer {attributes.get('name', '')!r} carries no prompts, so there is nothing to "
            f"write into {path}. Save a layer 'Prompts of ...' or the labels of a session with "
            "prompts; save other labels as TIFF."
        )
    target = _with_suffix(str(path))
    try:
        painted = _take_over(record, metadata.get(_PLANE_KEY), np.asarray(data))
        # A name that was completed here is one that the user was not asked about.
        write_record(target, painted, overwrite=target == str(path))
    except InputError as error:
        raise OutputError(str(error)) from error
    return [target]


def _layer_of(record: PromptRecord, path: Path) -> LayerData:
    name = record.image_name or path.name[: -len(SUFFIX)]
    metadata: dict[str, Any] = {PROMPTS_KEY: record}
    attributes: dict[str, Any] = {"name": f"Prompts of {name}", "metadata": metadata}
    if not record.planes:
        return np.zeros((1, 1), np.uint8), attributes, "labels"
    edited = [i for i, plane in enumerate(record.planes) if plane.is_edited]
    metadata[_PLANE_KEY] = edited[0] if edited else 0
    plane = record.planes[metadata[_PLANE_KEY]]
    step = record.cell_size or _guess_step(record, plane)
    corner = (0, 0) if record.region is None else record.region.offset
    attributes["scale"] = step
    # A cell's centre lies half a cell from its edge, and the edge half a pixel before the first.
    attributes["translate"] = tuple(c + (s - 1) / 2 for c, s in zip(corner, step, strict=True))
    return plane.shown(), attributes, "labels"


def _guess_step(record: PromptRecord, plane: PlaneRecord) -> tuple[float, float]:
    """Size of a cell in image px where the record does not say: as if none reached beyond."""
    (height, width), (rows, columns) = record.worked_shape, plane.edits.shape
    return height / rows, width / columns


def _take_over(record: PromptRecord, position: object, data: npt.NDArray[Any]) -> PromptRecord:
    """Put what was painted on a layer of the reader into its record."""
    if not isinstance(position, int) or not 0 <= position < len(record.planes):
        return record
    plane = record.planes[position]
    if data.shape != plane.edits.shape or np.array_equal(data, plane.shown()):
        return record
    edits = np.select([data == USER_OFF, data >= USER_ON], [OFF, ON], UNTOUCHED).astype(np.int8)
    planes = list(record.planes)
    planes[position] = replace(plane, edits=edits)
    return replace(record, planes=tuple(planes))


def _with_suffix(path: str) -> str:
    if path.lower().endswith(SUFFIX):
        return path
    stem = path[: -len(".json")] if path.lower().endswith(".json") else path
    return stem + SUFFIX


def _as_list(path: Paths) -> list[str | os.PathLike[str]]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)

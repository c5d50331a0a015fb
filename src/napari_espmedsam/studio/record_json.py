"""A record as JSON values: one object of format, version, checksum, and what a record holds.

The checksum is over all else in a canonical spelling, so that another layout of the same content
is accepted, and a damaged digit is not.
"""

from __future__ import annotations

import json
import math
from dataclasses import astuple
from hashlib import blake2b
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.plane_record import MAX_CELLS, MAX_ID, PlaneRecord
from napari_espmedsam.studio.record import MAX_BYTES, PromptRecord
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.runs import decode_runs, encode_runs

FORMAT = "napari-espmedsam prompts"
VERSION = 1

_Length = Annotated[int, Field(ge=1, le=MAX_CELLS)]
_Place = Annotated[int, Field(ge=0, le=2**31)]
_Anchor = Annotated[list[Annotated[int, Field(ge=0, le=MAX_ID)]], Field(min_length=3, max_length=3)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Canvas(_Part):
    shape: Annotated[list[_Length], Field(min_length=2, max_length=2)]
    runs: list[int]


class _Plane(_Part):
    index: list[_Place]
    pixels_hash: str
    edits: _Canvas
    anchors: list[_Anchor] | None = None
    locked: _Canvas | None = None


class _Image(_Part):
    name: str
    shape: Annotated[list[Annotated[int, Field(ge=1, le=2**31)]], Field(max_length=5)]
    dtype: str
    axes: str
    region: Annotated[list[_Place], Field(min_length=4, max_length=4)] | None = None


class _Model(_Part):
    checkpoint: str
    weights_sha256: str


class _Content(_Part):
    software: str
    created: str
    image: _Image
    model: _Model
    settings: dict[str, Any]
    cell_size: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    planes: list[_Plane]


def record_to_json(record: PromptRecord) -> dict[str, Any]:
    """Turn a record into plain JSON values: the content of its file."""
    region = record.region
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "software": record.version,
        "created": record.created,
        "image": {
            "name": record.image_name,
            "shape": list(record.image_shape),
            "dtype": record.image_dtype,
            "axes": record.axes,
            "region": None if region is None else list(astuple(region)),
        },
        "model": {"checkpoint": record.checkpoint, "weights_sha256": record.weights_sha256},
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in record.settings.items()
        },
        "cell_size": None if record.cell_size is None else list(record.cell_size),
        "planes": [_plane_to_json(plane) for plane in record.planes],
    }
    return content | {"checksum": _checksum(content)}


def record_from_json(content: Any) -> PromptRecord:
    """Turn the content of a file into a record.

    Raises
    ------
    InputError
        As :func:`read_record`, without the name of the file.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'this is no prompt file (its "format" is not "{FORMAT}").')
    version = content.get("version")
    version = version if type(version) is int else 0  # True is 1 elsewhere
    if version > VERSION:
        raise InputError(
            f"the prompts are of version {version}, and this napari-espmedsam reads up to version "
            f"{VERSION}. Update the package."
        )
    found = {key: value for key, value in content.items() if key != "checksum"}
    if version != VERSION or content.get("checksum") != _checksum(found):
        raise InputError(
            "the checksum does not fit: the file is damaged or was edited by hand. Save the "
            "prompts again."
        )
    own = {key: value for key, value in found.items() if key not in ("format", "version")}
    try:
        parsed = _Content.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise InputError(f"{place:.80}: {first['msg']:.200}. Save the prompts again.") from error
    return _from_content(parsed)


def _from_content(content: _Content) -> PromptRecord:
    canvases = [plane.edits for plane in content.planes]
    locked = [plane.locked for plane in content.planes if plane.locked is not None]
    n_bytes = sum(math.prod(each.shape) for each in canvases)
    n_bytes += 4 * sum(math.prod(each.shape) for each in locked)
    if n_bytes > MAX_BYTES:
        raise InputError(
            f"the canvases would take {n_bytes:,} bytes; the limit is {MAX_BYTES:,}. Save fewer "
            "planes."
        )
    cell, region = content.cell_size, content.image.region
    return PromptRecord(
        image_shape=tuple(content.image.shape),
        image_dtype=content.image.dtype,
        axes=content.image.axes,
        checkpoint=content.model.checkpoint,
        weights_sha256=content.model.weights_sha256,
        settings=content.settings,
        planes=tuple(map(_plane_from_json, content.planes)),
        version=content.software,
        created=content.created,
        image_name=content.image.name,
        cell_size=None if cell is None else (cell[0], cell[1]),
        region=None if region is None else Region(*region),
    )


def _plane_to_json(plane: PlaneRecord) -> dict[str, Any]:
    return {
        "index": list(plane.index),
        "pixels_hash": plane.pixels_hash,
        "edits": _canvas_to_json(plane.edits),
        "anchors": None if plane.anchors is None else plane.anchors.tolist(),
        "locked": None if plane.locked is None else _canvas_to_json(plane.locked),
    }


def _canvas_to_json(canvas: Any) -> dict[str, Any]:
    return {"shape": list(canvas.shape), "runs": encode_runs(canvas)}


def _plane_from_json(plane: _Plane) -> PlaneRecord:
    anchors = None
    if plane.anchors is not None:
        anchors = np.array(plane.anchors, np.int64).reshape(-1, 3)
    return PlaneRecord(
        index=tuple(plane.index),
        pixels_hash=plane.pixels_hash,
        edits=_canvas_from_json(plane.edits, np.int8),
        anchors=anchors,
        locked=None if plane.locked is None else _canvas_from_json(plane.locked, np.uint32),
    )


def _canvas_from_json(canvas: _Canvas, dtype: type[np.integer[Any]]) -> Any:
    return decode_runs(canvas.runs, (canvas.shape[0], canvas.shape[1]), dtype)


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=16).hexdigest()

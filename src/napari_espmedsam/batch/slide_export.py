"""The objects of a finished slide as files for other programs, streamed from its OME-Zarr."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError, OutputError
from napari_espmedsam.io.formats import format_named
from napari_espmedsam.io.geojson import write_geojson_stream
from napari_espmedsam.io.tables import write_objects_csv_stream
from napari_espmedsam.io.zarr_labels import PROVENANCE, holds_zarr

WRITERS: dict[str, Callable[..., Path]] = {
    "geojson": write_geojson_stream,
    "csv": write_objects_csv_stream,
}
"""What the objects of a slide can be written to, by the names of ``io.formats.FORMATS``."""


def export_paths(labels: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Return where the objects of ``NAME.zarr`` go: ``NAME.geojson`` and alike, beside it.

    Raises
    ------
    InputError
        If a format cannot be written for slides.
    """
    for name in formats:
        if name not in WRITERS:
            raise InputError(
                f"a slide cannot be written as {name!r}; choose out of {', '.join(WRITERS)} "
                "(the OME-Zarr is always written)."
            )
    stem = labels.name.removesuffix(".zarr").removesuffix(".ome")
    return {
        name: labels.with_name(stem + format_named(name).suffix) for name in dict.fromkeys(formats)
    }


def check_exports(paths: dict[str, Path], *, overwrite: bool) -> None:
    """Refuse to replace files, before any work.

    Raises
    ------
    OutputError
        If one of them exists already and may not be replaced.
    """
    for path in paths.values():
        if path.exists() and not overwrite:
            raise OutputError(
                f"{path} exists already; pass --overwrite, or choose another output name."
            )


def check_result(labels: Path, record: Mapping[str, Any]) -> None:
    """Refuse a finished result that is of another slide, model or setting than `record`.

    Raises
    ------
    OutputError
        With what differs; or if the folder is damaged or not the result of a slide.
    """
    import zarr

    try:
        about: Any = dict(zarr.open_group(str(labels), mode="r").attrs).get(PROVENANCE)
    except Exception as error:  # zarr and JSON have many words for a damaged file
        raise OutputError(
            f"{labels} is damaged ({error!s:.100}); pass --overwrite to compute it again."
        ) from error
    if not isinstance(about, dict):
        raise OutputError(f"{labels} is not the result of a slide; choose another output name.")
    wanted = json.loads(json.dumps(record))
    other = [key for key in wanted if about.get(key) != wanted[key]]
    if other:
        key = other[0]
        raise OutputError(
            f"{labels} was made with another {key} ({about.get(key)}, now {wanted[key]}); use the "
            "settings of then, or --overwrite to compute it again."
        )


def export_slide(
    labels: Path, formats: Sequence[str], *, overwrite: bool = False
) -> dict[str, Path]:
    """Write the objects of a slide's result; memory does not grow with the slide.

    Parameters
    ----------
    labels : Path
        The OME-Zarr folder that ``run_slide`` has made.
    formats : sequence of str
        Names out of :data:`WRITERS`.
    overwrite : bool
        Whether files that exist are replaced.

    Returns
    -------
    dict of str to Path
        The file of each format.

    Raises
    ------
    InputError
        If `labels` is no result of a slide, or a format cannot be written.
    OutputError
        If a file exists already or cannot be written.
    """
    import zarr

    paths = export_paths(labels, formats)
    check_exports(paths, overwrite=overwrite)
    if not holds_zarr(labels):
        raise InputError(f"{labels} is no OME-Zarr folder; give the result of a slide.")
    group = zarr.open_group(str(labels), mode="r")
    attributes = dict(group.attrs)
    plane = group["0"] if "0" in group and PROVENANCE in attributes else None
    if not isinstance(plane, zarr.Array) or plane.ndim != 2:
        raise InputError(
            f"{labels} is not the result of a slide (1 plane of labels with a record)."
        )
    about = {"spacing": _spacing(attributes), "provenance": attributes[PROVENANCE]}
    for name, path in paths.items():
        WRITERS[name](path, plane, **about, overwrite=overwrite)
    return paths


def _spacing(attributes: dict[str, Any]) -> dict[str, float]:
    """Read the size of a pixel in micrometres; empty where the slide did not state it."""
    described = attributes["multiscales"][0]
    (scale,) = described["datasets"][0]["coordinateTransformations"]
    return {
        axis["name"].upper(): float(step)
        for axis, step in zip(described["axes"], scale["scale"], strict=True)
        if axis.get("unit") == "micrometer"
    }

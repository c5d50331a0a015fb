"""What the tab "Batch" remembers from one session to the next. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_espmedsam.batch.job import DEFAULT_FORMATS
from napari_espmedsam.io.formats import FORMATS

MAX_WORKERS = 256  # processes of one machine
_MOST = 20_000  # characters of all inputs: a list of thousands of files is not for the next session


@dataclass(frozen=True)
class BatchSettings:
    """Fields of the form; those that belong to one kind of image, or replace results, are not here.

    Attributes
    ----------
    inputs : tuple of str
        Folders, files and patterns.
    results : str
        Folder of the results.
    formats : tuple of str
        Names out of ``io.formats.FORMATS``.
    recursive : bool
        Whether folders stand for those inside them too.
    dicom_series : bool
        Whether a folder with DICOM files is one image.
    pattern : str
        Which files to take; "" takes all images.
    workers : int
        Processes of this machine that do the work; 0: this one does.
    scheduler : str
        Address of a cluster that does the work instead; "" for none.
    """

    inputs: tuple[str, ...] = ()
    results: str = ""
    formats: tuple[str, ...] = DEFAULT_FORMATS
    recursive: bool = False
    dicom_series: bool = False
    pattern: str = ""
    workers: int = 0
    scheduler: str = ""

    @classmethod
    def from_json(cls, values: object) -> BatchSettings:
        """Read what :meth:`changed` returns; what is unknown or not allowed is left out."""
        given = values if isinstance(values, Mapping) else {}
        found: dict[str, Any] = {}
        for field in fields(cls):
            value = given.get(field.name)
            if isinstance(value, list) and all(isinstance(each, str) for each in value):
                value = tuple(value)
            if type(value) is type(field.default):
                found[field.name] = value
        if "formats" in found:
            known = tuple(name for name in found["formats"] if name in FORMATS)
            found["formats"] = known or DEFAULT_FORMATS
        if not 0 <= found.get("workers", 0) <= MAX_WORKERS:
            del found["workers"]
        return cls(**found)

    def changed(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain JSON values."""
        found = {
            field.name: value
            for field in fields(self)
            if (value := asdict(self)[field.name]) != field.default
        }
        if sum(map(len, self.inputs)) > _MOST:
            del found["inputs"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}

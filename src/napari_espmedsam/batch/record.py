"""The record of one image's run: ``NAME.esprun.json``, written last, after the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_espmedsam.errors import InputError
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.io.run_record import MAX_BYTES

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputPart(_Part):
    """The image: path below the folder of all inputs, hash, bytes, axes, shape and dtype."""

    path: str
    sha256: _Sha256
    bytes: int
    axes: str = ""
    shape: list[int] = []
    dtype: str = ""


class OutputPart(_Part):
    """One file of the result, by its name in the folder of the record."""

    format: str
    name: str
    sha256: _Sha256
    bytes: int


class WeightsPart(_Part):
    """The weights: name as given, hash."""

    checkpoint: str
    sha256: str


class TimesPart(_Part):
    """Start and end in UTC (ISO 8601), and the seconds of work between them."""

    started: str
    finished: str = ""
    seconds: float = 0.0


class RunRecord(_Part):
    """How the results of one image were made.

    Attributes
    ----------
    state : {"writing", "done"}
        "writing" stands while the results get their names: they are ours, and may be incomplete.
    input, weights, settings, settings_sha256
        What the results depend on.
    outputs : list of OutputPart
        The results with their hashes.
    prompts : OutputPart or None
        The prompt file by which somebody corrected the results; its settings hold in place of
        `settings`, which are those of the job.
    found, image : str
        What was found, and axes and shape, for people.
    provenance : dict
        As in ``Segmentation.provenance``.
    times, machine
        When, how long and where.
    warnings : list of str
        What is wrong with the image although it could be used, and why another device than the one
        asked for computed it.
    thumbnail : str
        A small picture of the outlines as data URL (JPEG).
    """

    format: Literal["napari-espmedsam run"] = "napari-espmedsam run"
    version: Literal[1] = 1
    software: str
    state: Literal["writing", "done"]
    input: InputPart
    weights: WeightsPart
    settings: dict[str, Any]
    settings_sha256: _Sha256
    outputs: list[OutputPart]
    prompts: OutputPart | None = None
    found: str = ""
    image: str = ""
    provenance: dict[str, Any] = {}
    times: TimesPart
    machine: dict[str, Any] = {}
    warnings: list[str] = []
    thumbnail: str = ""


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_record(path: Path) -> RunRecord | None:
    """Read a record; None where there is no such file.

    Raises
    ------
    InputError
        If the file is no record, damaged, or of a later version.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES:,} bytes: it is no record of a run.")
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is no record that this version reads ({where:.60}: {first['msg']:.120}); move "
            "it away, or pass --overwrite."
        ) from error

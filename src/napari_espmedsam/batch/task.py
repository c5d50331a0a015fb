"""One image of a job: what is to be done, and what came of it. Both may cross processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.io.run_record import SUFFIX

State = Literal["done", "skipped", "failed", "cancelled"]
PROMPTS_SUFFIX = ".espprompts.json"


@dataclass(frozen=True)
class FileTask:
    """One image, with all that is needed to segment it anywhere.

    Attributes
    ----------
    path : Path
        The image.
    relative : str
        Its path below the folder that all inputs share, with ``/``: its name in the reports.
    folder : Path
        Where its results go.
    stem : str
        What the names of its results start with.
    formats : tuple of str
        Names of the results, see ``io.formats``.
    request : SegmentRequest
        Settings.
    weights_sha256 : str
        Hash of the weight file that the job was made with.
    overwrite : bool
        False: a finished result is kept, and a file that this package did not write is an error.
        True: everything is computed and replaced.
    problem : str
        Why this image cannot be segmented, where that is known before; "" elsewhere.
    size : int
        Bytes of the image when the job was planned; what the remaining time is estimated from.
    """

    path: Path
    relative: str
    folder: Path
    stem: str
    formats: tuple[str, ...]
    request: SegmentRequest
    weights_sha256: str
    overwrite: bool = False
    problem: str = ""
    size: int = 0

    @property
    def record_path(self) -> Path:
        """Where the record of the run of this image belongs."""
        return self.folder / (self.stem + SUFFIX)

    @property
    def prompts_path(self) -> Path:
        """Where the prompts of this image belong, if somebody corrects its labels."""
        return self.folder / (self.stem + PROMPTS_SUFFIX)


@dataclass(frozen=True)
class FileResult:
    """What came of a task.

    Attributes
    ----------
    relative : str
        The image, as in its task.
    state : {"done", "skipped", "failed", "cancelled"}
        "skipped": finished by an earlier run and kept.
    reason : str
        Why it failed, was skipped or was cancelled.
    outputs : tuple of Path
        Files that hold the result.
    found : str
        What was found, for people: ``"12 objects"`` or ``"3.1 % foreground"``.
    image : str
        Axes and shape of the image, for people: ``"ZYX 5 x 512 x 512"``.
    seconds : float
        Time it took.
    stops_job : bool
        Whether every other file would fail for the same reason: the disk is full, or the model
        cannot be used.
    traceback : str
        Of a fault in this package; "" elsewhere.
    warnings : tuple of str
        What is wrong with the image although it could be used, e.g. planes that are not there.
    """

    relative: str
    state: State
    reason: str = ""
    outputs: tuple[Path, ...] = ()
    found: str = ""
    image: str = ""
    seconds: float = 0.0
    stops_job: bool = False
    traceback: str = ""
    warnings: tuple[str, ...] = ()

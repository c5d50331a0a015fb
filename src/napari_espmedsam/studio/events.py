"""What a session says: plain data, sent from its own thread.

Arrays are read-only and shared with the session; copy what is to be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_espmedsam.studio.record import PromptRecord


@dataclass(frozen=True, eq=False)
class PromptView:
    """The prompts of a plane, to be shown and painted on.

    Attributes
    ----------
    heat : ndarray
        (rows, cols) float32, 0 to 1: what the model proposes for each cell.
    state : ndarray
        (rows, cols) uint8: 0 off, 1 on by the model, 2 on by the user, 3 off by the user.
    scale, translate : tuple of float
        The centre of the cell (r, c) lies at ``scale * (r, c) + translate``, in px of the whole
        image (the offset of a region is in it).
    """

    heat: npt.NDArray[np.float32]
    state: npt.NDArray[np.uint8]
    scale: tuple[float, float]
    translate: tuple[float, float]


@dataclass(frozen=True, eq=False)
class PlaneReady:
    """The labels of a plane are new, or the plane is on the screen.

    Attributes
    ----------
    plane : int
        Number of the plane.
    index : tuple of int
        Where it lies along the leading axes of the image; () for a 2-D image.
    offset : tuple of int
        Row and column of the whole image where the labels begin: (0, 0) without a region.
    labels : ndarray
        (H, W) uint32 of the session's region, 0 is background.
    modality : str
        Modality that was decoded.
    revision : int
        State of the settings and edits that were used (``Session.revision``). A smaller one than
        the session's means that a newer result is on its way.
    prompts : PromptView or None
        For the visible plane; None for others.
    """

    plane: int
    index: tuple[int, ...]
    offset: tuple[int, int]
    labels: npt.NDArray[np.uint32]
    modality: str
    revision: int
    prompts: PromptView | None


@dataclass(frozen=True)
class Progress:
    """One tile has been encoded.

    Attributes
    ----------
    task : str
        What for: "visible", "others", "ahead", "compare", ...
    plane : int
        Number of the plane.
    tile, n_tiles : int
        Number of the tile (from 0), and how many the plane has.
    n_done, n_planes : int
        How many planes have labels that are up to date, and how many shall have.
    """

    task: str
    plane: int
    tile: int
    n_tiles: int
    n_done: int
    n_planes: int


@dataclass(frozen=True, eq=False)
class Failed:
    """Something could not be done; the session goes on.

    Attributes
    ----------
    task : str
        What: "visible", "others", "ahead", "confidence", "record", ...
    plane : int or None
        Number of the plane, where it was about one.
    error : BaseException
        What was raised. The message of an EspMedSamError can be shown as it is.
    """

    task: str
    plane: int | None
    error: BaseException


@dataclass(frozen=True, eq=False)
class ConfidenceReady:
    """How sure the model is of each pixel, as asked for.

    Attributes
    ----------
    plane : int
        Number of the plane.
    offset : tuple of int
        See :class:`PlaneReady`.
    confidence : ndarray
        (H, W) float32: 0 undecided, 1 certain.
    """

    plane: int
    offset: tuple[int, int]
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoresReady:
    """Scores of the objects of a plane, as asked for.

    Attributes
    ----------
    plane : int
        Number of the plane.
    scores : dict
        Columns of equal length: "label" and what
        :func:`napari_espmedsam.inference.trust.object_scores` says of it.
    """

    plane: int
    scores: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ComparisonReady:
    """A plane under another modality, as asked for. The session has not switched.

    Attributes
    ----------
    plane : int
        Number of the plane.
    index, offset
        See :class:`PlaneReady`.
    modality : str
        The other modality.
    labels : ndarray
        (H, W) uint32. An object has the id of the object on the screen that it matches.
    """

    plane: int
    index: tuple[int, ...]
    offset: tuple[int, int]
    modality: str
    labels: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class ModalitySuggested:
    """Another modality is clearly more sure of what it sees.

    Attributes
    ----------
    plane : int
        Number of the plane that was looked at.
    modality : str or None
        The other modality; None if the current one is as good as any.
    """

    plane: int
    modality: str | None


@dataclass(frozen=True, eq=False)
class RecordReady:
    """The session as data, as asked for: it gives the labels on the screen back.

    Attributes
    ----------
    record : PromptRecord
        To be written to a file.
    """

    record: PromptRecord


@dataclass(frozen=True, eq=False)
class Restored:
    """A record was taken over; settings, edits and locked objects are the record's.

    Attributes
    ----------
    record : PromptRecord
        As given.
    """

    record: PromptRecord


@dataclass(frozen=True)
class Idle:
    """Everything that was asked for is done."""


Event = (
    PlaneReady
    | Progress
    | Failed
    | ConfidenceReady
    | ScoresReady
    | ComparisonReady
    | ModalitySuggested
    | RecordReady
    | Restored
    | Idle
)

"""A session as data: what its user changed, and everything else that decides its labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_espmedsam import __version__
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.studio.plane_record import MAX_TEXT, PlaneRecord, check_text
from napari_espmedsam.studio.region import Region

if TYPE_CHECKING:
    from napari_espmedsam.inference.image import PlaneStack
    from napari_espmedsam.inference.segmenter import Segmenter

NOT_SETTINGS = ("checkpoint", "device", "backend")
"""Fields of a request that are no settings: a path and a machine differ from user to user."""
MAX_BYTES = 2**30
"""Memory that the arrays of one record may take."""


@dataclass(frozen=True, eq=False)
class PromptRecord:
    """All that gives the labels of a session back, given the image and the weights.

    Attributes
    ----------
    image_shape : tuple of int
        Shape of the image.
    image_dtype : str
        Name of its data type, e.g. "uint16".
    axes : str
        Its axes, letters of "TZCYX" (colours are C).
    checkpoint : str
        Name or path of the weights as the session knew them.
    weights_sha256 : str
        Hash of the weights; "" for a model that came from no file.
    settings : dict
        Fields of ``SegmentRequest`` that decide the result: all but `NOT_SETTINGS`.
    planes : tuple of PlaneRecord
        Planes with edits, locked objects or numbers of their own; at least the plane on the
        screen should be here, so that another image is noticed.
    version : str
        Version of the software.
    created : str
        UTC time in ISO 8601.
    image_name : str
        Name of the image for people; "" where unknown.
    cell_size : tuple of float or None
        Height and width of a prompt cell in image px, to draw the canvas; None where unknown.
    region : Region or None
        The part of each plane that was worked on as if it were the image; None for all of it.
        Hashes, anchors and locked objects of planes are of the region.

    Raises
    ------
    InputError
        If a value is not as said, or values do not fit each other.
    """

    image_shape: tuple[int, ...]
    image_dtype: str
    axes: str
    checkpoint: str
    weights_sha256: str
    settings: dict[str, Any]
    planes: tuple[PlaneRecord, ...]
    version: str
    created: str
    image_name: str = ""
    cell_size: tuple[float, float] | None = None
    region: Region | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(int(n) for n in self.image_shape))
        object.__setattr__(self, "planes", tuple(self.planes))
        object.__setattr__(self, "settings", _check_settings(self.settings))
        for name in ("image_dtype", "checkpoint", "version", "created"):
            check_text(name, getattr(self, name))
        for name in ("image_name", "weights_sha256"):
            check_text(name, getattr(self, name), empty=True)
        _check_image(self.image_shape, self.axes)
        if self.region is not None:
            self.region.check(self.plane_shape)
        if self.cell_size is not None:
            object.__setattr__(self, "cell_size", _check_cell_size(self.cell_size))
        self._check_planes()
        self.request()

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the axes over which planes are counted, in the image's order."""
        pairs = zip(self.axes, self.image_shape, strict=True)
        return tuple(n for letter, n in pairs if letter in "TZ")

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(H, W) of each plane in image px."""
        height, width = (self.image_shape[self.axes.index(letter)] for letter in "YX")
        return height, width

    @property
    def worked_shape(self) -> tuple[int, int]:
        """(H, W) of what was worked on: the region, or the whole plane."""
        return self.plane_shape if self.region is None else self.region.shape

    @property
    def nbytes(self) -> int:
        """Memory that the canvases of all planes take, in bytes."""
        return sum(plane.nbytes for plane in self.planes)

    def request(
        self, *, checkpoint: str | None = None, device: str = "auto", backend: str = "auto"
    ) -> SegmentRequest:
        """Return the settings as a request.

        Parameters
        ----------
        checkpoint : str, optional
            Where the weights are; the record's own name for them when None.
        device, backend : str
            Where to compute, and with what.
        """
        name = self.checkpoint if checkpoint is None else checkpoint
        return SegmentRequest(
            **self.settings, checkpoint=name, device=device, backend=backend
        ).validate()

    def flat(self, plane: PlaneRecord) -> int:
        """Count a plane over the leading axes, the last of which runs fastest."""
        if not self.leading_shape:
            return 0
        return int(np.ravel_multi_index(plane.index, self.leading_shape))

    def _check_planes(self) -> None:
        limits = self.leading_shape
        indices = [plane.index for plane in self.planes]
        for index in indices:
            if len(index) != len(limits) or any(
                not 0 <= i < n for i, n in zip(index, limits, strict=True)
            ):
                raise InputError(
                    f"A plane has the index {index}, and the image has {limits} planes along T "
                    "and Z. Give one index below each length."
                )
        if len(set(indices)) != len(indices):
            raise InputError(f"Two planes have the same index ({indices}). Give each plane once.")
        if len({plane.edits.shape for plane in self.planes}) > 1:
            raise InputError(
                "The edits of the planes differ in shape, and all planes of one image have the "
                "same canvas. Record the planes of one session."
            )
        for plane in self.planes:
            _check_fits(plane, self.worked_shape)
        if self.nbytes > MAX_BYTES:
            raise InputError(
                f"The canvases of {len(indices)} planes take {self.nbytes:,} bytes; the limit is "
                f"{MAX_BYTES:,}. Keep fewer planes in one record."
            )


def make_record(
    segmenter: Segmenter,
    stack: PlaneStack,
    request: SegmentRequest,
    planes: Sequence[PlaneRecord],
    *,
    image_name: str = "",
    cell_size: tuple[float, float] | None = None,
    region: Region | None = None,
) -> PromptRecord:
    """Record a session as it stands now.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    stack : PlaneStack
        The whole image.
    request : SegmentRequest
        The settings; what it leaves to be guessed is written as it was found.
    planes : sequence of PlaneRecord
        See :class:`PromptRecord`.
    image_name, cell_size, region
        See :class:`PromptRecord`.
    """
    found = {
        "modality": request.modality or segmenter.modalities[0],
        "axes": stack.axes.replace("C", "S") if stack.rgb else stack.axes,
        "channel": stack.channel,
        "rgb": stack.rgb,
        "precision": segmenter.precision,
    }
    return PromptRecord(
        image_shape=tuple(stack.array.shape),
        image_dtype=np.dtype(stack.array.dtype).name,
        axes=stack.axes,
        checkpoint=request.checkpoint,
        weights_sha256=segmenter.sha256,
        settings={name: getattr(request, name) for name in setting_names()} | found,
        planes=tuple(planes),
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        image_name=image_name.encode("utf-8", "replace").decode()[:MAX_TEXT],
        cell_size=cell_size,
        region=region,
    )


def setting_names() -> tuple[str, ...]:
    """Fields of ``SegmentRequest`` that decide the labels, in their order."""
    return tuple(info.name for info in request_options() if info.name not in NOT_SETTINGS)


def _check_fits(plane: PlaneRecord, shape: tuple[int, int]) -> None:
    if plane.locked is not None and plane.locked.shape != shape:
        raise InputError(
            f"The locked objects of plane {plane.index} have the shape {plane.locked.shape}, and "
            f"what was worked on {shape}. Give one id per pixel."
        )
    if plane.anchors is not None and (plane.anchors[:, 1:] >= shape).any():
        raise InputError(
            f"An anchor of plane {plane.index} lies outside of the {shape} px that were "
            "worked on. Give places inside."
        )


def _check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    known = setting_names()
    unknown = sorted(set(settings) - set(known), key=str)
    if unknown:
        raise InputError(
            f"The settings hold {unknown[0]!r:.80}, which napari-espmedsam {__version__} does not "
            f"know; it knows: {', '.join(known)}. Update the package, or leave it out."
        )
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    """Turn numbers of numpy into Python's, and lists, as JSON has them, into tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _check_image(shape: tuple[int, ...], axes: str) -> None:
    valid = (
        isinstance(axes, str)
        and {*"YX"} <= set(axes) <= {*"TZCYX"}
        and len(set(axes)) == len(axes) == len(shape)
        and all(0 < n < 2**31 for n in shape)
        and math.prod(shape) < 2**62
    )
    if not valid:
        raise InputError(
            f"The image has the shape {shape} and the axes {axes!r:.80}. Give one letter of TZCYX "
            "for each axis, Y and X among them, and lengths of 1 and more."
        )


def _check_cell_size(size: tuple[float, float]) -> tuple[float, float]:
    values = tuple(float(n) for n in size)
    if len(values) != 2 or not all(0 < n < 2**31 for n in values):
        raise InputError(f"cell_size is {size}. Give height and width of a cell in image px.")
    return values[0], values[1]

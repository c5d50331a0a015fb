"""``segment --prompts``: the settings and edits of a session instead of those of the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.inference.options import OptionInfo
from napari_espmedsam.inference.request import SegmentRequest, request_options

if TYPE_CHECKING:
    from napari_espmedsam.inference.results import Segmentation
    from napari_espmedsam.inference.segmenter import Segmenter
    from napari_espmedsam.io.image_file import ImageFile
    from napari_espmedsam.studio.record import PromptRecord

_ELSEWHERE = (
    "checkpoint",
    "device",
    "backend",
)  # where weights lie and what computes is no setting


class PromptWork:
    """Replay a prompt file on its image.

    Parameters
    ----------
    path : Path
        The prompt file.
    n_images : int
        How many images are to be segmented.
    request : SegmentRequest
        The options; those that say where the weights and the device are.
    given : frozenset of str
        Names of the options that were given.
    force : bool
        Accept other pixels and other weights.

    Raises
    ------
    InputError
        If the file cannot be used, an option contradicts it, the weights are not to be found, or
        there are several images.
    """

    axes: str | None = None  # the prompts know those of their image

    def __init__(
        self,
        path: Path,
        n_images: int,
        request: SegmentRequest,
        given: frozenset[str],
        *,
        force: bool = False,
    ) -> None:
        from napari_espmedsam.studio.record_file import read_record

        if n_images != 1:
            raise InputError(
                f"--prompts {path} belongs to one image, and {n_images} are given. Name its image."
            )
        self._name, self._force = path.name, force
        self._record = read_record(path)
        own = self._record.request()
        for info in request_options():
            if info.name in given and info.name not in _ELSEWHERE:
                _check_same(info, getattr(request, info.name), getattr(own, info.name), path)
        checkpoint = request.checkpoint if "checkpoint" in given else find_weights(self._record)
        self.request = self._record.request(
            checkpoint=checkpoint, device=request.device, backend=request.backend
        )

    def __call__(
        self, segmenter: Segmenter, image: ImageFile, progress: Callable[[float], None]
    ) -> Segmentation:
        """Segment the image as the session did."""
        from napari_espmedsam.studio.replay import replay

        found = replay(segmenter, image.array, self._record, force=self._force, progress=progress)
        note = found.provenance["prompts"] | {"file": self._name}
        return replace(found, provenance=found.provenance | {"prompts": note})


def find_weights(record: PromptRecord) -> str:
    """Name the weights of a record: bundled ones by their hash, others by the record's own name.

    Raises
    ------
    InputError
        If they are not there.
    """
    from napari_espmedsam.weights import list_checkpoints, resolve_checkpoint

    for entry in list_checkpoints():
        if entry.sha256 and entry.sha256 == record.weights_sha256:
            return entry.name
    try:
        resolve_checkpoint(record.checkpoint)
    except CheckpointError as error:
        raise InputError(
            f"The prompts were made with the weights {record.checkpoint!r} (sha256 "
            f"{record.weights_sha256[:12] or 'unknown'}), which are not here. Give their file by "
            f"--checkpoint. ({error})"
        ) from error
    return record.checkpoint


def _check_same(info: OptionInfo, given: Any, own: Any, path: Path) -> None:
    """Refuse an option that contradicts the file; one that repeats it is welcome."""
    if info.name == "axes" and given is not None:
        given = given.upper()
    if info.name == "precision":
        given, own = (each if each != "auto" else "float32" for each in (given, own))
    if given != own:
        flag = info.flags[0]
        text = own if own is not None else f"automatic ({info.auto})"
        raise InputError(
            f"{flag} is {given}, and {path} says {text}. Prompts bring their own settings: leave "
            f"{flag} out, or segment without --prompts."
        )

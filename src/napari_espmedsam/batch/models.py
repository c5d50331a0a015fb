"""The model of a job: checked before the first image, loaded once in each process."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Protocol

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.inference.request import SegmentRequest

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter


class NeedsModel(Protocol):
    """A task that says which model it was made for."""

    @property
    def request(self) -> SegmentRequest:
        """Model and settings."""

    @property
    def weights_sha256(self) -> str:
        """Hash of the weight file."""


_loaded: dict[tuple[str, ...], Segmenter] = {}  # the last one


def check_model(request: SegmentRequest) -> None:
    """Check by the header of the weights that they suit a request; nothing is loaded.

    Raises
    ------
    CheckpointError
        If there are no such weights or they are damaged.
    InputError, ModalityError
        If no modality is given where there are several, the model lacks it, or a setting has no
        effect on it.
    """
    from napari_espmedsam.inference.plan import resolve_modality
    from napari_espmedsam.inference.scale import SCALE_OPTIONS, check_used
    from napari_espmedsam.model.header import read_header
    from napari_espmedsam.weights import resolve_checkpoint

    header = read_header(resolve_checkpoint(request.checkpoint))
    spec = header.inputs[resolve_modality(header, request.modality)]
    check_used(spec, **{name: getattr(request, name) for name in SCALE_OPTIONS})


def load_model(request: SegmentRequest) -> Segmenter:
    """Load the model of a request, once its header says that it suits the request.

    Raises
    ------
    CheckpointError, DeviceError
        See ``Segmenter``.
    InputError, ModalityError
        See :func:`check_model`.
    """
    check_model(request)

    from napari_espmedsam.inference.segmenter import Segmenter

    return Segmenter.from_checkpoint(**request.model_options())


def model_of(task: NeedsModel) -> Segmenter:
    """Return the model of a task, loaded on first use and kept for the next task of this process.

    Raises
    ------
    CheckpointError, DeviceError, InputError
        As :func:`load_model`, and if the weights are no longer those that the job was made with.
    """
    request = task.request
    key = (*request.model_options().values(), task.weights_sha256)
    found = _loaded.get(key)
    if found is None:
        found = load_model(request)
        if found.sha256 != task.weights_sha256:
            raise CheckpointError(
                f"The weights {request.checkpoint} (sha256 {found.sha256[:12]}) are not those "
                f"that the job began with ({task.weights_sha256[:12]}). Start the job again."
            )
        _loaded.clear()
        _loaded[key] = found
    return found  # not looked up again: another thread may have its own model by now


def release_model() -> None:
    """Let go of the model that is kept; a job that goes on keeps its own until its next image."""
    if not _loaded:
        return
    (device,) = {str(each.device.device) for each in _loaded.values()}  # one model at most
    _loaded.clear()
    if device != "cpu":
        from napari_espmedsam.inference.device import free_memory

        gc.collect()
        free_memory(device)

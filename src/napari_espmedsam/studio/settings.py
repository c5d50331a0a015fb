"""Which settings a session can change, and what follows from a change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.inference.scale import unused_options

if TYPE_CHECKING:
    from napari_espmedsam.inference.image import PlaneStack
    from napari_espmedsam.model.header import CheckpointHeader

FIXED = ("checkpoint", "device", "precision", "backend", "axes", "rgb", "planes")
"""Settings that say which model and which image a session is about."""


def settle(header: CheckpointHeader, settings: SegmentRequest, stack: PlaneStack) -> SegmentRequest:
    """Write down what a request leaves to be guessed: modality and axes.

    Raises
    ------
    ModalityError
        If the checkpoint lacks the modality, or has several and none is given.
    """
    from napari_espmedsam.inference.plan import resolve_modality

    return replace(
        settings,
        modality=resolve_modality(header, settings.modality),
        axes=stack.axes,
        channel=stack.channel,
        rgb=stack.rgb,
    )


def check_names(changes: Mapping[str, Any]) -> None:
    """Refuse settings that do not exist or that a session cannot change.

    Raises
    ------
    InputError
        For the first one.
    """
    known = {info.name for info in request_options()}
    for name in changes:
        if name not in known:
            raise InputError(
                f"{name!r} is no setting. Choose one of: {', '.join(sorted(known - {*FIXED}))}."
            )
        if name in FIXED:
            raise InputError(
                f"{name} cannot change during a session: it says which model or which image it is "
                "about. Start another session."
            )


def with_modality(
    header: CheckpointHeader, settings: SegmentRequest, modality: str | None
) -> dict[str, Any]:
    """Say which settings change with the modality: those that it has no use for become None."""
    from napari_espmedsam.inference.plan import resolve_modality

    chosen = resolve_modality(header, modality)
    unused = unused_options(header.inputs[chosen])
    given = [name for name in unused if getattr(settings, name) is not None]
    return {"modality": chosen} | dict.fromkeys(given)


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Name changes for a menu: the caption of the first one, as forms show it."""
    labels = {info.name: info.label for info in request_options()}
    return labels[next(iter(changes))]

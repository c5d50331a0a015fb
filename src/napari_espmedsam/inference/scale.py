"""How large the model sees the objects: which settings decide it, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.options import check_values
from napari_espmedsam.inference.request import (
    MAX_SCALE,
    MIN_SCALE,
    SegmentRequest,
    check_one_scale,
)

if TYPE_CHECKING:
    from napari_espmedsam.model.header import InputSpec

SCALE_OPTIONS = ("diameter", "pixel_size", "scale", "tile")
"""Fields of a request that some modalities have no use for."""


def unused_options(spec: InputSpec) -> dict[str, str]:
    """Say which of :data:`SCALE_OPTIONS` a modality has no use for.

    Parameters
    ----------
    spec : InputSpec
        What the checkpoint was trained for.

    Returns
    -------
    dict of str to str
        By the option's name the reason, a clause for a message or a tooltip.
    """
    if spec.geometry == "whole":
        return dict.fromkeys(
            SCALE_OPTIONS,
            f"the model sees images of this modality as a whole, resized to {spec.size} x "
            f"{spec.size} px",
        )
    trained = {"diameter": spec.diameter, "pixel_size": spec.pixel_size}
    return {
        name: f"the model does not say which {name.replace('_', ' ')} it was trained for"
        for name, value in trained.items()
        if value is None
    }


def check_used(spec: InputSpec, **options: object) -> None:
    """Refuse options that a modality has no use for.

    Parameters
    ----------
    spec : InputSpec
        What the checkpoint was trained for.
    **options
        Any of :data:`SCALE_OPTIONS`; None where it is not given.

    Raises
    ------
    InputError
        For the first one that is given in vain.
    """
    unused = unused_options(spec)
    given = [name for name, value in options.items() if value is not None and name in unused]
    if given:
        advice = "Leave it out." if spec.geometry == "whole" else "Set the scale instead."
        raise InputError(f"{given[0]} is given, and {unused[given[0]]}. {advice}")


def resolve_scale(
    spec: InputSpec,
    *,
    scale: float | None = None,
    diameter: float | None = None,
    pixel_size: float | None = None,
) -> float:
    """Say how many model pixels one image pixel becomes.

    Parameters
    ----------
    spec : InputSpec
        What the checkpoint was trained for.
    scale : float, optional
        The answer itself.
    diameter : float, optional
        Typical object diameter in image px: ``spec.diameter / diameter``.
    pixel_size : float, optional
        Micrometres per image px: ``pixel_size / spec.pixel_size``.

    Returns
    -------
    float
        From 0.05 to 20; ``spec.scale`` when nothing is given.

    Raises
    ------
    InputError
        If more than one is given, the checkpoint has no use for it (:func:`unused_options`), or
        the scale is out of range.
    """
    named = {"scale": scale, "diameter": diameter, "pixel_size": pixel_size}
    check_values(SegmentRequest, **named)
    check_one_scale(**named)
    check_used(spec, **named)
    if diameter is not None and spec.diameter is not None:
        return _within_limits(spec.diameter / diameter, "diameter", diameter)
    if pixel_size is not None and spec.pixel_size is not None:
        return _within_limits(pixel_size / spec.pixel_size, "pixel_size", pixel_size)
    return spec.scale if scale is None else float(scale)


def _within_limits(scale: float, name: str, value: float) -> float:
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise InputError(
            f"{name}={value:g} gives a scale of {scale:.3g}, outside {MIN_SCALE} to "
            f"{MAX_SCALE:g}. Check the value and its unit."
        )
    return float(scale)

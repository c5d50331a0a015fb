"""Settle and check a whole run before its first tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.inference.geometry import PlaneGeometry, plan_geometry
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.options import check_values
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.prompts import UNTOUCHED, Edits, PromptCanvas
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.tiling import GRID, TileSpec

if TYPE_CHECKING:
    from napari_espmedsam.model.header import CheckpointHeader, InputSpec


@dataclass(frozen=True, eq=False)
class RunPlan:
    """Everything about one run that is known without reading a pixel.

    Attributes
    ----------
    modality : str
        One of the checkpoint's.
    modality_index : int
        Its index in the model.
    spec : InputSpec
        How its images enter the model.
    stack : PlaneStack
        The image.
    geometry : PlaneGeometry
        Scale and tiles of each plane.
    post : PostProcess
        With the threshold filled in.
    planes : tuple of int
        Planes to segment, in this order.
    cell : int
        Side of a prompt cell in model px.
    edits : dict
        Edits of the prompt canvas by plane number, of the planes that have any.
    prompt_threshold : float or None
        Where the proposed prompt is cut; None takes the model's own.
    """

    modality: str
    modality_index: int
    spec: InputSpec
    stack: PlaneStack
    geometry: PlaneGeometry
    post: PostProcess
    planes: tuple[int, ...]
    cell: int
    edits: Mapping[int, Edits]
    prompt_threshold: float | None

    @property
    def canvas(self) -> PromptCanvas:
        """The common grid of the prompt cells of all tiles, the same in each plane."""
        return PromptCanvas(self.geometry, self.cell)


def plan_run(
    header: CheckpointHeader,
    image: Any,
    modality: str | None = None,
    *,
    axes: str | None = None,
    channel: int | None = None,
    rgb: bool | None = None,
    scale: float | None = None,
    diameter: float | None = None,
    pixel_size: float | None = None,
    tile: TileSpec | None = None,
    post: PostProcess | None = None,
    planes: Sequence[int] | None = None,
    edits: Mapping[int, npt.ArrayLike] | None = None,
    prompt_threshold: float | None = None,
    cell: int = GRID,
) -> RunPlan:
    """Check image and settings against a checkpoint; see ``Segmenter.iter_segment``.

    `cell` is the side of the model's prompt cells in model px.

    Raises
    ------
    InputError, ModalityError
        With the value, the limit and the way to mend it.
    """
    check_values(SegmentRequest, modality=modality, axes=axes, channel=channel, rgb=rgb)
    check_values(SegmentRequest, prompt_threshold=prompt_threshold)
    modality = resolve_modality(header, modality)
    spec = header.inputs[modality]
    stack = PlaneStack.from_array(image, axes, channel=channel, rgb=rgb)
    geometry = plan_geometry(
        stack.plane_shape, spec, scale=scale, diameter=diameter, pixel_size=pixel_size, tile=tile
    )
    post = PostProcess() if post is None else post
    if post.threshold is None:
        post = replace(post, threshold=header.threshold_for(modality))
    return RunPlan(
        modality=modality,
        modality_index=header.modalities.index(modality),
        spec=spec,
        stack=stack,
        geometry=geometry,
        post=post,
        planes=_check_planes(planes, len(stack)),
        cell=cell,
        edits=_check_edits(edits, len(stack), geometry, cell),
        prompt_threshold=prompt_threshold,
    )


def resolve_modality(header: CheckpointHeader, modality: str | None) -> str:
    """Return the modality to use; None stands for the only one of a checkpoint.

    Raises
    ------
    ModalityError
        If the checkpoint lacks it, or has several and none is given.
    """
    known = header.modalities
    if modality is None and len(known) == 1:
        return known[0]
    if modality is None or modality not in known:
        problem = "No modality is given" if modality is None else f"modality is {modality!r}"
        raise ModalityError(
            f"{problem}, and the model {header.name!r} was trained for: {', '.join(known)}. "
            "Choose one of these, or another model."
        )
    return modality


def _check_planes(planes: Sequence[int] | None, n: int) -> tuple[int, ...]:
    if planes is None:
        return tuple(range(n))
    chosen = tuple(int(i) for i in planes)
    wrong = [i for i in chosen if not 0 <= i < n]
    if wrong or not chosen:
        what = f"planes holds {wrong[0]}" if wrong else "planes is empty"
        raise InputError(
            f"{what}, and the image has {n} plane(s). Give numbers from 0 to {n - 1}, or None for "
            "all."
        )
    return chosen


def _check_edits(edits: Any, n: int, geometry: PlaneGeometry, cell: int) -> dict[int, Edits]:
    """Copy what changes anything: the caller may go on painting while planes are computed."""
    if edits is None:
        return {}
    if not isinstance(edits, Mapping):
        raise InputError(
            f"edits is a {type(edits).__name__}. Give a dict from the number of a plane (0 for a "
            "2-D image) to the edits of its prompt canvas."
        )
    canvas = PromptCanvas(geometry, cell)
    checked = {i: canvas.check(each) for i, each in edits.items()}
    wrong = [i for i in checked if i not in range(n)]
    if wrong:
        raise InputError(
            f"edits has the plane {wrong[0]!r}, and the image has {n} plane(s). Give numbers from "
            f"0 to {n - 1}."
        )
    return {int(i): each.copy() for i, each in checked.items() if (each != UNTOUCHED).any()}

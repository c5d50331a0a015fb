"""From a record back to the labels of its session, without a window."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.anchors import apply_anchors
from napari_espmedsam.inference.identity import put_locked
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.results import PlaneResult, Segmentation, TileDone, collect
from napari_espmedsam.studio.locks import clear_erased
from napari_espmedsam.studio.plane_record import MAX_ID, PlaneRecord, hash_plane
from napari_espmedsam.studio.record import PromptRecord
from napari_espmedsam.studio.region import crop_stack

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter

Labels = npt.NDArray[np.uint32]


def replay(
    segmenter: Segmenter,
    image: Any,
    record: PromptRecord,
    *,
    force: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Segmentation:
    """Segment an image as a session did, to the same labels and ids.

    Parameters
    ----------
    segmenter : Segmenter
        The model of the session.
    image : array-like
        The image of the session. Axes of length 1 and the alpha of colours may have come or gone,
        as they do between a file and a layer.
    record : PromptRecord
        What was changed, and the settings.
    force : bool
        Accept other pixels and other weights: the labels are then not those of the session.
    progress : callable, optional
        Called after each tile with the share that is done, 0 to 1.

    Returns
    -------
    Segmentation
        Labels uint32 of the whole image: the leading axes of `image`, then Y and X. Planes that
        the settings leave out are 0, and so is what lies outside of the record's region.
        Recorded planes have the ids of the session. Others are numbered on above these, in order.

    Raises
    ------
    InputError
        If the image, its pixels, the weights or the precision are not those of the record; the
        message says which.
    ModalityError, DeviceError
        See ``Segmenter.segment``.
    """
    stack = stack_of(image, record)
    check_weights(segmenter, record, force=force)
    worked = crop_stack(stack, record.region)
    if not force:
        _check_pixels(worked, record)
    recorded = {record.flat(plane): plane for plane in record.planes}
    request = record.request()
    wanted = range(len(worked)) if request.planes is None else request.planes
    order = sorted(dict.fromkeys(wanted), key=lambda i: i not in recorded)
    options = request.segment_options() | {"planes": order, "axes": worked.axes}
    options |= {"channel": worked.channel, "rgb": worked.rgb}
    edits = {i: plane.edits for i, plane in recorded.items() if plane.is_edited}
    events = segmenter.iter_segment(worked.array, **options, edits=edits)
    found = collect(stack, _replayed(events, record, recorded, order, progress))
    note = {"created": record.created, "planes": sorted(recorded), "forced": force}
    return replace(found, provenance=found.provenance | {"prompts": note})


def stack_of(image: Any, record: PromptRecord) -> PlaneStack:
    """Read an image as the session read its own; no pixel is looked at.

    Raises
    ------
    InputError
        If its shape or its type is not that of the record.
    """
    shape = tuple(int(n) for n in image.shape)
    request = record.request()
    problem = (
        f"The prompts were made on an image of {record.image_dtype} with the shape "
        f"{record.image_shape} ({record.axes}), and this one has {np.dtype(image.dtype).name} with "
        f"the shape {shape}. Give the image that they were made on."
    )
    axes = next((each for each in (record.axes, short_axes(record)) if len(each) == len(shape)), "")
    if not axes or np.dtype(image.dtype).name != record.image_dtype:
        raise InputError(problem)
    channel = request.channel if "C" in axes else None
    try:
        stack = PlaneStack.from_array(image, axes, channel=channel, rgb=bool(request.rgb))
    except InputError as error:
        raise InputError(f"{problem} ({error})") from error
    lengths = [[n for n in each.leading_shape if n > 1] for each in (stack, record)]
    if stack.plane_shape != record.plane_shape or lengths[0] != lengths[1]:
        raise InputError(problem)
    return stack


def short_axes(record: PromptRecord) -> str:
    """Axes of the record's image without those of length 1, as image files have them."""
    pairs = zip(record.axes, record.image_shape, strict=True)
    return "".join(letter for letter, n in pairs if n > 1 or letter in "YX")


def check_weights(segmenter: Segmenter, record: PromptRecord, *, force: bool = False) -> None:
    """Check that a model is the one of a record.

    Raises
    ------
    InputError
        If its weights are others (unless forced) or its precision is.
    """
    if segmenter.sha256 != record.weights_sha256 and not force:
        raise InputError(
            f"The prompts were made with the weights {record.checkpoint!r} (sha256 "
            f"{record.weights_sha256[:12] or 'unknown'}), and the model {segmenter.name!r} has "
            f"others (sha256 {segmenter.sha256[:12] or 'unknown'}). Load the weights that they "
            "were made with, or force the prompts onto these."
        )
    precision = record.request().precision
    if segmenter.precision != ("float32" if precision == "auto" else precision):
        raise InputError(
            f"The prompts were made in {precision}, and the model computes in "
            f"{segmenter.precision}. Load it with precision={precision!r}."
        )


def _check_pixels(stack: PlaneStack, record: PromptRecord) -> None:
    for plane in record.planes:
        if hash_plane(stack.plane(record.flat(plane))) != plane.pixels_hash:
            place = f"plane {record.flat(plane)} of " if len(stack) > 1 else ""
            raise InputError(
                f"The pixels are not those that the prompts were made on: {place}the image differs "
                f"from {record.image_name or 'that of the session'!r}. Give that image, or force "
                "the prompts onto this one."
            )


def _replayed(
    events: Generator[TileDone | PlaneResult, None, None],
    record: PromptRecord,
    recorded: dict[int, PlaneRecord],
    order: list[int],
    progress: Callable[[float], object] | None,
) -> Iterator[TileDone | PlaneResult]:
    """Give the planes of a run the ids of the session; recorded planes come first."""
    output = record.request().output
    highest = 0
    for event in events:
        if isinstance(event, TileDone):
            if progress is not None:
                progress(event.fraction)
            yield event
            continue
        labels = event.labels if output == "mask" else _from_one(event.labels)
        plane = recorded.get(order[event.plane])
        if plane is not None:
            labels = _restore(labels, plane, output)
        elif output != "mask":
            labels = _above(labels, highest)
        highest = max(highest, int(labels.max()))
        yield replace(event, labels=_paste(labels, record))


def _from_one(labels: Labels) -> Labels:
    """Number objects from 1 again; a run numbers them on from plane to plane."""
    inside = labels > 0
    if inside.any():
        labels[inside] -= labels[inside].min() - np.uint32(1)
    return labels


def _above(labels: Labels, highest: int) -> Labels:
    """Number objects on from the highest id in use."""
    if highest + int(labels.max()) > MAX_ID:
        raise InputError(
            f"An object of the session has the id {highest}, and no ids are left above it for the "
            f"planes that were not looked at (limit {MAX_ID}). Give the object a lower id."
        )
    labels[labels > 0] += np.uint32(highest)
    return labels


def _restore(labels: Labels, plane: PlaneRecord, output: str) -> Labels:
    """Turn decoded labels into those that the session showed."""
    if plane.anchors is not None and output != "mask":
        labels = apply_anchors(labels, plane.anchors)
    if plane.locked is not None:
        laid = put_locked(labels, plane.locked, output=output)
        labels = clear_erased(laid, plane.locked)
    return labels


def _paste(labels: Labels, record: PromptRecord) -> Labels:
    """Put the labels of a region into an empty plane."""
    if record.region is None:
        return labels
    top, left = record.region.offset
    whole = np.zeros(record.plane_shape, np.uint32)
    whole[top : top + labels.shape[0], left : left + labels.shape[1]] = labels
    return whole

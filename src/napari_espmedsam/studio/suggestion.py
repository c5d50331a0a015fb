"""A look at what other modalities make of a plane. For the worker thread, when it is idle."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.document import Document
from napari_espmedsam.studio.events import ModalitySuggested
from napari_espmedsam.studio.region import Region, crop_stack
from napari_espmedsam.studio.settings import with_modality
from napari_espmedsam.studio.tasks import Steps

if TYPE_CHECKING:
    from napari_espmedsam.inference.plan import RunPlan
    from napari_espmedsam.studio.planes import PlaneCache
    from napari_espmedsam.studio.source import Source


class Adviser:
    """Compares how sure the decoders of all modalities are.

    Parameters
    ----------
    source : Source
        Model and image.
    document : Document
        Says which modality is the current one.
    cache : PlaneCache
        Knows the image's range of grey values; its planes are left alone.
    """

    def __init__(self, source: Source, document: Document, cache: PlaneCache) -> None:
        self._source = source
        self._document = document
        self._cache = cache

    def advise(self, plane: int) -> Steps:
        """Suggest a modality that is clearly more confident, if there is one.

        Every modality sees one tile from the middle of the plane (or the whole plane, where it
        takes that), under its own prompt. Those for which the image is no valid input are left
        out.
        """
        from napari_espmedsam.inference.trust import suggest_modality

        found = {}
        for modality in self._source.header.modalities:
            try:
                found[modality] = yield from self._look(plane, modality)
            except InputError:
                continue
        current = self._document.plan.modality
        best = suggest_modality(found, current) if current in found else None
        yield ModalitySuggested(plane, best)

    def _look(self, plane: int, modality: str) -> Generator[None, None, npt.NDArray[np.float32]]:
        source, settings = self._source, self._document.settings
        settings = replace(settings, **with_modality(source.header, settings, modality))
        plan = source.plan(settings)
        intensity = self._cache.intensity(plan)
        part = crop_stack(plan.stack, _middle(plan)).array
        segmenter = source.segmenter
        steps = segmenter.encode_steps(
            segmenter.plan(part, **settings.segment_options()), plane, intensity
        )
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return segmenter.decode(stop.value).array
            yield None


def _middle(plan: RunPlan) -> Region | None:
    """Region that makes one tile; None for a plane that is none larger."""
    geometry = plan.geometry
    if geometry.scale is None or len(geometry.grid) == 1:
        return None
    height, width = geometry.image_shape
    rows, columns = (
        min(int(side / geometry.scale), length)
        for side, length in zip(geometry.grid.tile, (height, width), strict=True)
    )
    top, left = (height - rows) // 2, (width - columns) // 2
    return Region(top, left, top + rows, left + columns)

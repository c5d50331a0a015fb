"""What a session works on: a model and an image, or a region of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.plan import RunPlan, plan_run
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.region import Region, crop_stack

if TYPE_CHECKING:
    from napari_espmedsam.inference.segmenter import Segmenter


class Source:
    """The only one in a session who holds the model for good, so that it can be let go.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    image : array-like
        See ``Segmenter.segment``.
    settings : SegmentRequest
        Its axes, channel and rgb say how to read the image.
    region : Region or None
        Part of each plane that is worked on as if it were the image.

    Attributes
    ----------
    header : CheckpointHeader
        What the model says of itself.
    whole : PlaneStack
        The image.
    worked : PlaneStack
        Its region, or the image itself.
    region : Region or None
        As given.

    Raises
    ------
    InputError
        If image, settings and region do not fit.
    """

    def __init__(
        self, segmenter: Segmenter, image: Any, settings: SegmentRequest, region: Region | None
    ) -> None:
        self._segmenter: Segmenter | None = segmenter
        self.header = segmenter.header
        self.region = region
        self.whole = PlaneStack.from_array(
            image, settings.axes, channel=settings.channel, rgb=settings.rgb
        )
        self.worked = crop_stack(self.whole, region)
        self._cell = segmenter.plan(self.whole.array, **settings.segment_options()).cell

    @property
    def segmenter(self) -> Segmenter:
        """The model."""
        if self._segmenter is None:
            raise RuntimeError("the session is closed")
        return self._segmenter

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the image where the region begins."""
        return (0, 0) if self.region is None else self.region.offset

    def plan(self, settings: SegmentRequest) -> RunPlan:
        """Plan the work on the region under some settings; no pixel is read."""
        return plan_run(
            self.header, self.worked.array, **settings.segment_options(), cell=self._cell
        )

    def release(self) -> None:
        """Let go of the model, and give its memory back to the device if nobody else holds it."""
        import gc

        from napari_espmedsam.inference.device import free_memory

        if self._segmenter is None:
            return
        device = self._segmenter.device.device
        self._segmenter = None
        if device != "cpu":
            gc.collect()
            free_memory(device)

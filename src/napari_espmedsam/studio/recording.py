"""From a session to a record, and back. Generators are for the worker thread."""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.anchors import anchors_of
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.studio.document import Document, Labels, Target
from napari_espmedsam.studio.events import RecordReady, Restored
from napari_espmedsam.studio.plane_record import PlaneRecord, hash_plane
from napari_espmedsam.studio.record import PromptRecord, make_record
from napari_espmedsam.studio.region import Region
from napari_espmedsam.studio.renderer import Renderer
from napari_espmedsam.studio.replay import check_weights, stack_of
from napari_espmedsam.studio.source import Source
from napari_espmedsam.studio.tasks import Steps, Tasks
from napari_espmedsam.studio.view import View


@dataclass(frozen=True, eq=False)
class _Moment:
    """A session in which labels are what settings and edits say."""

    settings: SegmentRequest
    targets: dict[int, Target]
    labels: dict[int, Labels]


class Recorder:
    """Makes records of a session, and takes them over.

    Parameters
    ----------
    source : Source
        Model and image.
    document, view, renderer, tasks
        The parts of the session.
    """

    def __init__(
        self, source: Source, document: Document, view: View, renderer: Renderer, tasks: Tasks
    ) -> None:
        self._source = source
        self._document, self._view = document, view
        self._renderer, self._tasks = renderer, tasks
        self._hashes: dict[int, str] = {}

    def record(self, image_name: str) -> Steps:
        """Record the session once all planes are up to date."""
        moment = None
        while moment is None:  # until nothing was changed while it was being prepared
            yield from self._tasks.everything("record")
            yield from self._hash_planes()
            moment = self._moment()
        n_planes = len(self._source.worked)
        chosen = None if len(moment.labels) in (0, n_planes) else tuple(sorted(moment.labels))
        planes = []
        for plane in sorted(moment.targets):
            planes.append(self._plane_record(plane, moment))
            yield None
        canvas = self._document.plan.canvas
        record = make_record(
            self._source.segmenter,
            self._source.whole,
            replace(moment.settings, planes=chosen),
            planes,
            image_name=image_name,
            cell_size=canvas.image_affine()[0],
            region=self._source.region,
        )
        yield RecordReady(record)

    def check(self, record: PromptRecord) -> SegmentRequest:
        """Say under which settings a record can be taken over. No pixel is read.

        Raises
        ------
        InputError
            If image, region or weights are not those of the record.
        """
        source = self._source
        stack = stack_of(source.whole.array, record)
        check_weights(source.segmenter, record)
        if record.region != source.region:
            raise InputError(
                f"The prompts were made on {_text(record.region)}, and this session works on "
                f"{_text(source.region)}. Start it on the same part of the image."
            )
        now = self._document.settings
        wanted = record.request(checkpoint=now.checkpoint, device=now.device)
        return replace(
            wanted,
            axes=stack.axes,
            channel=stack.channel,
            rgb=stack.rgb,
            planes=now.planes,
            precision=now.precision,
            backend=now.backend,
        )

    def restore(self, record: PromptRecord, settings: SegmentRequest) -> Steps:
        """Check the pixels, and replace everything by what the record says."""
        planes = {record.flat(each): each for each in record.planes}
        for i, each in planes.items():
            yield from self._hash(i)
            if self._hashes[i] != each.pixels_hash:
                raise InputError(
                    f"Plane {i} of the image is not the one that the prompts were made on "
                    f"({record.image_name or 'of the same shape'}). Open the image that they were "
                    "made on."
                )
        edits = {i: each.edits for i, each in planes.items() if each.is_edited}
        locked = {i: each.locked for i, each in planes.items() if each.locked is not None}
        self._document.install(settings, edits, locked)
        self._renderer.forget()
        for i, each in planes.items():
            self._renderer.names.restore(i, each.anchors)
        shown = record.request().planes
        self._view.keep(range(len(self._source.worked)) if shown is None else shown)
        yield Restored(record)

    def _moment(self) -> _Moment | None:
        """Take what belongs together; None if a plane is not up to date."""
        with self._document.frozen():
            labels = {}
            for plane in self._renderer.planes():
                shown = self._renderer.shown(plane)
                if self._renderer.has_failed(plane) or shown is None:
                    continue
                if not self._renderer.is_current(plane):
                    return None
                labels[plane] = shown.labels
            chosen = {*labels, *self._document.touched()}
            if not chosen <= set(self._hashes):
                return None
            targets = {plane: self._document.target(plane) for plane in chosen}
            return _Moment(self._document.settings, targets, labels)

    def _plane_record(self, plane: int, moment: _Moment) -> PlaneRecord:
        target, labels = moment.targets[plane], moment.labels.get(plane)
        named = labels is not None and target.plan.post.output != "mask"
        return PlaneRecord(
            index=self._source.worked.index(plane),
            pixels_hash=self._hashes[plane],
            edits=target.plan.canvas.empty() if target.edits is None else target.edits,
            anchors=anchors_of(labels, target.locked) if named and labels is not None else None,
            locked=target.locked,
        )

    def _hash_planes(self) -> Steps:
        for plane in sorted(self._renderer.planes() | self._document.touched()):
            yield from self._hash(plane)

    def _hash(self, plane: int) -> Steps:
        if plane not in self._hashes:
            self._hashes[plane] = hash_plane(self._source.worked.plane(plane))
            yield None


def _text(region: Region | None) -> str:
    if region is None:
        return "the whole image"
    return f"rows {region.top} to {region.bottom} and columns {region.left} to {region.right}"

"""Settle a slide's run before its first chunk: scale, tiles, tissue, intensity, chunks.

A plan follows from slide, model and request alone, so every process that makes it gets the same.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.batch.slide_geometry import SlideGeometry, Window, plan_slide_geometry
from napari_espmedsam.batch.slide_tissue import Tissue, all_tissue, find_tissue
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.image import PlaneStack
from napari_espmedsam.inference.intensity import IntensityRange, measure_intensity
from napari_espmedsam.inference.plan import resolve_modality
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.scale import resolve_scale
from napari_espmedsam.inference.tiling import TileSpec

if TYPE_CHECKING:
    from napari_espmedsam.batch.slide_source import Slide
    from napari_espmedsam.model.header import CheckpointHeader, InputSpec

CHUNK = 2048
"""Side of a chunk in px of the slide."""
MIN_MARGIN, MAX_MARGIN = 256, 1024
_BLOCK = 256  # px of the slide; intensities are measured in blocks of this side
_BLOCKS = 64  # that many: 4 million px, as for any other image
_SEED = 0

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SlidePlan:
    """Everything about a slide's run that its chunks share. Plain data: it may cross processes.

    Attributes
    ----------
    request : SegmentRequest
        As given.
    modality : str
        One of the checkpoint's.
    geometry : SlideGeometry
        Scale and tiles.
    intensity : IntensityRange
        Grey values that become 0 and 1, the same for all tiles.
    tissue : Tissue
        Where to look.
    computed : ndarray
        (n_tiles,) bool: the tiles that hold tissue. The others count as sure background.
    post : PostProcess
        With the threshold filled in.
    margin : int
        Px of the slide that a chunk sees beyond its own on each side.
    """

    request: SegmentRequest
    modality: str
    geometry: SlideGeometry
    intensity: IntensityRange
    tissue: Tissue
    computed: Mask
    post: PostProcess
    margin: int

    @property
    def chunk_rows(self) -> tuple[int, int]:
        """Number of chunks along Y and X."""
        height, width = self.geometry.shape
        return -(-height // CHUNK), -(-width // CHUNK)

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """Numbers of the chunks that any computed tile touches; chunks are counted row by row."""
        rows, columns = self.chunk_rows
        return tuple(
            i
            for i in range(rows * columns)
            if self.computed[self.geometry.tiles_of(self.core(i))].any()
        )

    def core(self, chunk: int) -> Window:
        """Say which px of the slide are a chunk's own: those that it labels."""
        row, column = divmod(chunk, self.chunk_rows[1])
        height, width = self.geometry.shape
        return (
            slice(row * CHUNK, min((row + 1) * CHUNK, height)),
            slice(column * CHUNK, min((column + 1) * CHUNK, width)),
        )

    def window(self, chunk: int) -> Window:
        """Say which px of the slide a chunk sees: its own and the margin around them."""
        rows, columns = (
            slice(max(0, part.start - self.margin), min(length, part.stop + self.margin))
            for part, length in zip(self.core(chunk), self.geometry.shape, strict=True)
        )
        return rows, columns

    def tiles(self, chunk: int) -> list[int]:
        """List the tiles to compute for a chunk, in the order of their numbers."""
        return [i for i in self.geometry.tiles_of(self.window(chunk)) if self.computed[i]]

    def record(self) -> dict[str, Any]:
        """Describe the plan as plain JSON values; equal records give equal labels."""
        digest = blake2b(np.packbits(self.computed).tobytes(), digest_size=16)
        return {
            "request": asdict(self.request) | {"planes": None},
            "modality": self.modality,
            "shape": list(self.geometry.shape),
            "scale": f"{self.geometry.up}/{self.geometry.down}",
            "tile": asdict(self.geometry.tile),
            "intensity": [self.intensity.low, self.intensity.high],
            "tissue_share": round(self.tissue.share, 6),
            "tiles": [int(self.computed.sum()), int(self.computed.size)],
            "tiles_hash": digest.hexdigest(),
            "post": asdict(self.post),
            "chunk": CHUNK,
            "margin": self.margin,
        }


def plan_slide(
    slide: Slide,
    header: CheckpointHeader,
    request: SegmentRequest,
    *,
    tissue: bool = True,
    intensity: IntensityRange | None = None,
) -> SlidePlan:
    """Plan the segmentation of a slide; an overview and a sample of its pixels are read.

    Parameters
    ----------
    slide : Slide
        The slide.
    header : CheckpointHeader
        Of the model. The modality has to be a tiled one.
    request : SegmentRequest
        The settings.
    tissue : bool
        Whether tiles without tissue are skipped.
    intensity : IntensityRange, optional
        Grey values that become 0 and 1; measured when None. A crop gets the labels of its slide
        only with the range of the slide.

    Returns
    -------
    SlidePlan
        What all chunks share; the same for the same slide, header and settings.

    Raises
    ------
    InputError, ModalityError
        If a setting does not fit; the message says how to mend it.
    """
    modality = resolve_modality(header, request.modality)
    spec = header.inputs[modality]
    geometry = _plan_geometry(slide, spec, request, modality)
    post = request.post
    if post.threshold is None:
        post = replace(post, threshold=header.threshold_for(modality))
    grow = math.ceil(geometry.tile.halo / geometry.scale)
    where = find_tissue(slide, grow) if tissue else all_tissue(slide)
    computed = where.touches([geometry.tile_box(i) for i in range(len(geometry.grid))])
    if intensity is None:
        intensity = measure_slide(slide, spec, where)
    margin = _margin(post)
    return SlidePlan(request, modality, geometry, intensity, where, computed, post, margin)


def measure_slide(slide: Slide, spec: InputSpec, tissue: Tissue) -> IntensityRange:
    """Measure the intensity range on 64 blocks of 256 x 256 px of tissue.

    The blocks are drawn with a fixed seed, so the same slide has the same range. A bright speck
    counts only inside one of them, and k of its px move a percentile by at most k of 4 million
    ranks.

    Raises
    ------
    InputError
        If all pixels are equal.
    """
    sides = [min(_BLOCK, n) for n in slide.shape]
    corners = [
        [min(y, n - side) for y in range(0, n, side)]
        for n, side in zip(slide.shape, sides, strict=True)
    ]
    boxes = [
        (slice(y, y + sides[0]), slice(x, x + sides[1])) for y in corners[0] for x in corners[1]
    ]
    candidates = np.flatnonzero(tissue.touches(boxes))
    if not candidates.size:  # a blank slide: nothing will be computed
        candidates = np.arange(len(boxes))
    if candidates.size > _BLOCKS:
        rng = np.random.default_rng(_SEED)
        candidates = np.sort(rng.choice(candidates, _BLOCKS, replace=False))
    sample = np.concatenate([slide.read(boxes[int(i)]) for i in candidates])
    stack = PlaneStack.from_array(sample, "YXS" if slide.rgb else "YX", rgb=slide.rgb)
    return measure_intensity(stack, spec)


def _plan_geometry(
    slide: Slide, spec: InputSpec, request: SegmentRequest, modality: str
) -> SlideGeometry:
    if spec.geometry != "tiled":
        raise InputError(
            f"The model sees {modality} images as a whole, resized to {spec.size} x {spec.size} "
            "px; a slide needs a modality that is cut into tiles. Use `napari-espmedsam segment`."
        )
    scale = resolve_scale(
        spec, scale=request.scale, diameter=request.diameter, pixel_size=request.pixel_size
    )
    size = spec.size if request.tile is None else request.tile
    return plan_slide_geometry(slide.shape, scale, TileSpec.of_size(size))


def _margin(post: PostProcess) -> int:
    """How far beyond a pixel the clean-up looks: what is too small or a hole, and the smoothing."""
    reach = post.min_size + post.max_hole + math.ceil(3 * post.smoothing) + 2
    if reach > MAX_MARGIN:
        raise InputError(
            f"min_size {post.min_size} and max_hole {post.max_hole} make the clean-up look "
            f"{reach} px far; the limit is {MAX_MARGIN} px, for chunks of a slide are cleaned "
            "separately. Use smaller sizes, and remove larger objects from the result."
        )
    return max(MIN_MARGIN, reach)

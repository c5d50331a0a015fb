"""Where on a slide there is tissue: the rest is neither read nor computed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from napari_espmedsam.batch.slide_source import Slide

OVERVIEW_SIDE = 2048  # px at least, where the slide has as many
_BAND_PIXELS = 2**23
_FLOOR = 0.03  # of the grey range: what differs less from the background is noise

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tissue:
    """Tissue on a coarse grid.

    Attributes
    ----------
    mask : ndarray
        (h, w) bool.
    cell : int
        Side of a cell in px of the slide; the last row and column may reach beyond it.
    """

    mask: Mask
    cell: int

    @property
    def share(self) -> float:
        """Share of the slide that is tissue, 0 to 1."""
        return float(self.mask.mean())

    def touches(self, boxes: list[tuple[slice, slice]]) -> Mask:
        """Say of each box, in px of the slide, whether there is tissue in it."""
        total = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1), np.int64)
        total[1:, 1:] = self.mask.cumsum(0).cumsum(1)
        top, left = (np.array([box[k].start // self.cell for box in boxes]) for k in (0, 1))
        bottom, right = (np.array([-(-box[k].stop // self.cell) for box in boxes]) for k in (0, 1))
        found = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        return np.asarray(found > 0)


def all_tissue(slide: Slide) -> Tissue:
    """Call everything tissue."""
    cell = max(1, max(slide.shape) // OVERVIEW_SIDE)
    return Tissue(np.ones([-(-n // cell) for n in slide.shape], bool), cell)


def find_tissue(slide: Slide, grow: int) -> Tissue:
    """Find the tissue on an overview of the slide.

    The commonest grey level decides whether the background is bright (stained sections) or dark
    (fluorescence). Tissue differs from the background, in any colour, by more than the threshold
    of Otsu or that of the triangle method, whichever is lower. What differs by more than the
    99.9th percentile counts as that percentile, so that a few bright specks do not move it.

    Parameters
    ----------
    slide : Slide
        The slide. A level of its pyramid is read; without one, all of level 0 in bands.
    grow : int
        How far the tissue is grown on all sides, in px of the slide.
    """
    picture, cell = overview(slide)
    mask = tissue_mask(picture, slide.dtype)
    reach = max(1, -(-grow // cell))
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
    return Tissue(cv2.dilate(mask.astype(np.uint8), kernel) > 0, cell)


def tissue_mask(picture: npt.NDArray[np.float32], dtype: np.dtype[np.generic]) -> Mask:
    """Tell tissue from background.

    Parameters
    ----------
    picture : ndarray
        (h, w) or (h, w, 3) float32 in the units of the slide.
    dtype : dtype
        Data type of the slide; 8 bit have a range of 255, others that of the picture.

    Returns
    -------
    ndarray
        (h, w) bool.
    """
    from skimage.filters import threshold_otsu, threshold_triangle

    smooth = cv2.medianBlur(np.ascontiguousarray(picture), 3)
    colours = smooth.reshape(*smooth.shape[:2], -1)
    low, high = np.percentile(colours, (0.1, 99.9))
    span = 255.0 if dtype == np.uint8 else float(high - low)
    if high <= low:
        return np.zeros(smooth.shape[:2], bool)
    counts, edges = np.histogram(colours, 64, range=(float(low), float(high)))
    bright = edges[int(counts.argmax())] > (low + high) / 2
    ground = np.percentile(colours, 99 if bright else 1, axis=(0, 1))
    away = (ground - colours if bright else colours - ground).max(axis=2)
    away = np.clip(away, 0.0, np.percentile(away, 99.9))
    if float(away.max()) <= _FLOOR * span:
        return np.zeros(smooth.shape[:2], bool)
    cut = min(float(threshold_otsu(away)), float(threshold_triangle(away)))
    return np.asarray(away > max(cut, _FLOOR * span))


def overview(slide: Slide) -> tuple[npt.NDArray[np.float32], int]:
    """Shrink a slide so that its longer side has 2048 to 4096 px, if it has as many.

    Returns
    -------
    ndarray
        (h, w) or (h, w, 3) float32 in the units of the slide.
    int
        Side of a pixel in px of the slide.
    """
    height, width = slide.shape
    large = [k for k, lv in enumerate(slide.levels) if max(lv.plane_shape) >= OVERVIEW_SIDE]
    level = large[-1] if large else 0
    shape = slide.levels[level].plane_shape
    total = max(1, max(slide.shape) // OVERVIEW_SIDE)
    step = max(1, round(total * max(shape) / max(slide.shape)))  # px of the level per cell
    cell = max(1, round(step * max(slide.shape) / max(shape)))
    rows = max(1, _BAND_PIXELS // (shape[1] * step)) * step
    bands = []
    for start in range(0, shape[0], rows):
        window = slice(start, min(start + rows, shape[0])), slice(0, shape[1])
        bands.append(_shrink(slide.read(window, level), step))
    picture = np.concatenate(bands)
    # Levels may be rounded down: the last cells then repeat their neighbours.
    missing = [
        max(0, -(-n // cell) - got)
        for n, got in zip((height, width), picture.shape[:2], strict=True)
    ]
    padding = [(0, n) for n in missing] + [(0, 0)] * (picture.ndim - 2)
    return np.pad(picture, padding, mode="edge"), cell


def _shrink(band: npt.NDArray[np.generic], step: int) -> npt.NDArray[np.float32]:
    values = band.astype(np.float32)
    if step == 1:
        return values
    missing = [-n % step for n in values.shape[:2]]
    padding = [(0, n) for n in missing] + [(0, 0)] * (values.ndim - 2)
    values = np.pad(values, padding, mode="edge")
    size = values.shape[1] // step, values.shape[0] // step
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float32)

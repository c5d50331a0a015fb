"""Sample images that are made on the spot: no download, the same on every machine.

Both come with their ground truth, so that a demo can say how good it is.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint32]
Rng = np.random.Generator
LayerData = tuple[NDArray[Any], dict[str, Any], str]

STACK_SPACING = (1.5, 0.5, 0.5)
"""Micrometres per step along Z, Y and X of `nuclei_stack`; its nuclei are about 10 um wide."""

FIELD_SPACING = (0.5, 0.5)
"""Micrometres per step along Y and X of `he_field`: a 20x objective."""


class _Nucleus(NamedTuple):
    """Centre, half axes and in-plane angle of an ellipsoid in pixels; brightness about 1."""

    z: float
    y: float
    x: float
    depth: float
    long: float
    short: float
    angle: float
    brightness: float


@overload
def nuclei_stack(
    seed: int = ..., *, shape: tuple[int, int, int] = ..., return_labels: Literal[False] = ...
) -> NDArray[np.uint16]: ...
@overload
def nuclei_stack(
    seed: int = ..., *, shape: tuple[int, int, int] = ..., return_labels: Literal[True]
) -> tuple[NDArray[np.uint16], Labels]: ...
def nuclei_stack(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (12, 384, 384),
    return_labels: bool = False,
) -> NDArray[np.uint16] | tuple[NDArray[np.uint16], Labels]:
    """Make a fluorescence stack of cell nuclei (DAPI-like).

    Parameters
    ----------
    seed : int
        Seed of the random numbers; the same seed gives the same stack.
    shape : (int, int, int)
        Planes, rows, columns.
    return_labels : bool
        Also return the nuclei that were planted.

    Returns
    -------
    image : ndarray of uint16, `shape`, axes ZYX
        12-bit camera counts: about 100 background, up to 4000 in the nuclei.
    labels : ndarray of uint32, `shape`
        Only if `return_labels`. One id per nucleus through all planes; a pixel belongs to a
        nucleus where the ideal, unblurred body is.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    signal = np.zeros(shape, np.float32)
    count = max(1, round(shape[1] * shape[2] / 1450))
    for number, nucleus in enumerate(_place_nuclei(rng, shape, count), start=1):
        _plant(labels, signal, nucleus, number)
    signal *= _chromatin(rng, shape)
    image = _microscope(rng, signal)
    return (image, labels) if return_labels else image


def _place_nuclei(rng: Rng, shape: tuple[int, int, int], count: int) -> list[_Nucleus]:
    """Draw nuclei that touch now and then but do not share pixels by much."""
    placed: list[_Nucleus] = []
    for _ in range(count * 30):
        if len(placed) == count:
            break
        long = rng.uniform(9.0, 12.5)
        nucleus = _Nucleus(
            z=rng.uniform(0.05, 0.95) * shape[0],
            y=rng.uniform(0, shape[1]),
            x=rng.uniform(0, shape[2]),
            depth=rng.uniform(0.2, 0.34) * shape[0],
            long=long,
            short=long * rng.uniform(0.62, 0.95),
            angle=rng.uniform(0, np.pi),
            brightness=float(np.exp(rng.normal(0.0, 0.3))),
        )
        if all(_far(nucleus, other) for other in placed):
            placed.append(nucleus)
    return placed


def _far(a: _Nucleus, b: _Nucleus) -> bool:
    return bool(np.hypot(a.y - b.y, a.x - b.x) > 0.45 * (a.long + a.short + b.long + b.short))


def _plant(labels: Labels, signal: NDArray[np.float32], nucleus: _Nucleus, number: int) -> None:
    """Add one ellipsoid with a soft, slightly wavy rim where nothing lies yet."""
    reach = int(nucleus.long * 1.3) + 2
    rows = slice(max(0, int(nucleus.y) - reach), min(labels.shape[1], int(nucleus.y) + reach))
    columns = slice(max(0, int(nucleus.x) - reach), min(labels.shape[2], int(nucleus.x) + reach))
    z, y, x = np.ogrid[: labels.shape[0], rows, columns]
    dy, dx = y - nucleus.y, x - nucleus.x
    along = dy * np.sin(nucleus.angle) + dx * np.cos(nucleus.angle)
    across = dy * np.cos(nucleus.angle) - dx * np.sin(nucleus.angle)
    turn = np.arctan2(across, along)
    wave = 1 + 0.05 * np.sin(2 * turn + 9 * nucleus.angle) + 0.03 * np.sin(3 * turn + number)
    flat = np.hypot(along / nucleus.long, across / nucleus.short) / wave
    # The sixth power makes a flat top and bottom, as nuclei of cells on glass have.
    radius = np.sqrt(flat**2 + np.abs((z - nucleus.z) / nucleus.depth) ** 6)
    window = (slice(None), rows, columns)
    free = labels[window] == 0
    labels[window][(radius <= 1) & free] = number
    # Thickness makes the middle a little brighter, as in a widefield microscope.
    body = np.clip((1 - radius) * 8 + 0.5, 0, 1) * (0.75 + 0.25 * np.clip(1 - radius**2, 0, 1))
    signal[window] = np.maximum(signal[window], nucleus.brightness * body)


def _chromatin(rng: Rng, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a texture around 1: clumps of a few pixels and some darker nucleoli."""
    clumps = ndimage.gaussian_filter(rng.standard_normal(shape), (0.8, 1.3, 1.3))
    nucleoli = ndimage.gaussian_filter(rng.standard_normal(shape), (1.2, 2.4, 2.4))
    texture = 1 + 0.13 * clumps / clumps.std() - 0.13 * np.clip(nucleoli / nucleoli.std(), 0.5, 3)
    return np.clip(texture, 0.35, 1.6).astype(np.float32)


def _microscope(rng: Rng, signal: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Blur, add out-of-focus light and uneven illumination, then photon and camera noise."""
    sharp = ndimage.gaussian_filter(signal, (0.45, 0.9, 0.9))
    haze = ndimage.gaussian_filter(signal, (2.5, 8.0, 8.0))
    y, x = np.ogrid[-1 : 1 : signal.shape[1] * 1j, -1 : 1 : signal.shape[2] * 1j]
    vignette = 1 - 0.12 * ((y - 0.2) ** 2 + (x + 0.1) ** 2)
    photons = (1500 * sharp + 350 * haze + 25) * vignette
    counts = rng.poisson(photons * 0.6) / 0.6 + rng.normal(100, 6, signal.shape)
    return np.clip(np.round(counts), 0, 4095).astype(np.uint16)


@overload
def he_field(
    seed: int = ..., *, shape: tuple[int, int] = ..., return_labels: Literal[False] = ...
) -> NDArray[np.uint8]: ...
@overload
def he_field(
    seed: int = ..., *, shape: tuple[int, int] = ..., return_labels: Literal[True]
) -> tuple[NDArray[np.uint8], Labels]: ...
def he_field(
    seed: int = 0, *, shape: tuple[int, int] = (384, 384), return_labels: bool = False
) -> NDArray[np.uint8] | tuple[NDArray[np.uint8], Labels]:
    """Make a field of tissue stained with haematoxylin and eosin.

    Parameters
    ----------
    seed : int
        Seed of the random numbers; the same seed gives the same field.
    shape : (int, int)
        Rows, columns.
    return_labels : bool
        Also return the nuclei that were planted.

    Returns
    -------
    image : ndarray of uint8, (rows, columns, 3), axes YXS
        Red, green, blue: pink stroma, purple nuclei.
    labels : ndarray of uint32, `shape`
        Only if `return_labels`. One id per nucleus, 0 is everything else.
    """
    from skimage.color import hed2rgb

    rng = np.random.default_rng(seed)
    labels, body = _he_nuclei(rng, shape)
    tissue, glass = _stroma(rng, shape)
    nucleus = np.clip(body, 0, 1)
    near = np.clip(ndimage.gaussian_filter(nucleus, 5.0) * 2.2, 0, 1)  # cytoplasm
    grain = 1 + 0.20 * _smooth_noise(rng, shape, 1.3) + 0.18 * _smooth_noise(rng, shape, 3.5)
    stains = np.zeros((*shape, 3))  # haematoxylin, eosin and a brown that warms the pink
    stains[..., 0] = 0.085 * body * np.clip(grain, 0.4, 1.8) + 0.010 * tissue + 0.008 * near
    stains[..., 1] = 0.026 * tissue * (1 + 0.5 * near) * (1 - 0.3 * nucleus) + 0.012 * body
    stains[..., 2] = 0.011 * tissue * (1 - 0.7 * nucleus) + 0.002 * glass
    stains = ndimage.gaussian_filter(stains, (0.8, 0.8, 0))
    rgb = hed2rgb(stains) * 0.965 + rng.normal(0, 0.010, (*shape, 3))
    image = np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    return (image, labels) if return_labels else image


def _he_nuclei(rng: Rng, shape: tuple[int, int]) -> tuple[Labels, NDArray[np.float32]]:
    """Plant round and spindle-shaped nuclei; return ids and the amount of stain."""
    labels = np.zeros((1, *shape), np.uint32)
    body = np.zeros((1, *shape), np.float32)
    placed: list[_Nucleus] = []
    for _ in range(6000):
        if len(placed) == max(1, round(shape[0] * shape[1] / 1600)):
            break
        spindle = rng.random() < 0.25
        long = rng.uniform(11, 15) if spindle else rng.uniform(8.5, 11.5)
        nucleus = _Nucleus(
            z=0.0,
            y=rng.uniform(0, shape[0]),
            x=rng.uniform(0, shape[1]),
            depth=1.0,
            long=long,
            short=long * (rng.uniform(0.38, 0.5) if spindle else rng.uniform(0.7, 0.95)),
            angle=rng.normal(0.5, 0.3) if spindle else rng.uniform(0, np.pi),
            brightness=rng.uniform(0.65, 1.25),
        )
        if all(_far(nucleus, other) for other in placed):
            placed.append(nucleus)
            _plant(labels, body, nucleus, len(placed))
    return labels[0], body[0]


def _stroma(rng: Rng, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the amount of tissue, about 1 and in wavy fibres, and where glass shows through."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    bend = 16 * _smooth_noise(rng, shape, 30.0)
    across = y * np.cos(0.5) - x * np.sin(0.5) + bend
    fibres = sum(
        np.sin(across / period + 1.5 * _smooth_noise(rng, shape, 9.0)) for period in (1.9, 3.1, 6.0)
    )
    speckle = _smooth_noise(rng, shape, 1.0)
    patches = _smooth_noise(rng, shape, 24.0)
    glass = 1 / (1 + np.exp(-(patches - 1.25 + 0.12 * fibres) * 9))
    tissue = (1 + 0.20 * fibres + 0.13 * speckle - 0.25 * patches) * (1 - 0.93 * glass)
    return np.clip(tissue, 0.03, None), glass


def _smooth_noise(rng: Rng, shape: tuple[int, int], sigma: float) -> NDArray[np.float64]:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    smooth: NDArray[np.float64] = noise / noise.std()
    return smooth


def nuclei_stack_layer() -> list[LayerData]:
    """Sample data for napari: `nuclei_stack` as an image layer with its physical scale."""
    metadata = {
        "name": "nuclei stack",
        "scale": STACK_SPACING,
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    return [(nuclei_stack(), metadata, "image")]


def he_field_layer() -> list[LayerData]:
    """Sample data for napari: `he_field` as an RGB image layer with its physical scale."""
    metadata = {
        "name": "H&E field",
        "rgb": True,
        "scale": FIELD_SPACING,
        "units": ("micrometer",) * 2,
        "axis_labels": ("y", "x"),
    }
    return [(he_field(), metadata, "image")]

"""Everything that one run needs, in one frozen object: what forms fill in and workers receive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.backends.choice import BACKENDS
from napari_espmedsam.inference.options import OptionInfo, check, describe, option, same_option
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.tiling import MAX_TILE, MIN_TILE, TileSpec
from napari_espmedsam.weights import DEFAULT_CHECKPOINT

MIN_SCALE, MAX_SCALE = 0.05, 20.0


@dataclass(frozen=True)
class SegmentRequest:
    """One segmentation run, without its image.

    The help, choices and range of each field are in :func:`request_options`; ``validate`` checks
    them. An instance is plain data: it may cross threads, and no widget is read after it is made.
    """

    checkpoint: str = option(
        DEFAULT_CHECKPOINT,
        label="Model",
        help="Name of a model (`napari-espmedsam models` lists them) or path of a .safetensors "
        "file.",
    )
    modality: str | None = option(
        None,
        label="Modality",
        help="Kind of image, one of those that the model was trained for "
        "(`napari-espmedsam models` lists them, and what is found in each).",
        auto="the model's only modality",
    )
    output: str = same_option(PostProcess, "output")
    planes: tuple[int, ...] | None = option(
        None,
        label="Planes",
        help="Planes of a stack to segment, counted from 0 over Z and T in the image's order.",
        auto="all planes",
        advanced=True,
    )
    channel: int | None = option(
        None,
        label="Channel",
        help="Channel to segment, counted from 0. Needed where an image has several.",
        minimum=0,
        maximum=100_000,
        auto="the only channel, or the colours of an RGB image",
    )
    diameter: float | None = option(
        None,
        label="Object diameter",
        help="Typical diameter of your objects. It sets the scale: a wrong scale is the most "
        "common reason for a poor result.",
        minimum=1.0,
        maximum=10_000.0,
        unit="px",
        auto="the scale that the model was trained for",
    )
    pixel_size: float | None = option(
        None,
        label="Pixel size",
        help="Physical size of one pixel. It sets the scale; give this or the diameter, not both.",
        minimum=1e-4,
        maximum=1e4,
        unit="µm",
        auto="the scale that the model was trained for",
    )
    scale: float | None = option(
        None,
        label="Scale",
        help="Magnification before the model sees the image: 2 doubles its width and height. "
        "Instead of diameter or pixel size.",
        minimum=MIN_SCALE,
        maximum=MAX_SCALE,
        auto="the scale that the model was trained for",
        advanced=True,
    )
    threshold: float | None = same_option(PostProcess, "threshold")
    min_size: int = same_option(PostProcess, "min_size")
    max_hole: int = same_option(PostProcess, "max_hole")
    split_neck: float = same_option(PostProcess, "split_neck")
    smoothing: float = same_option(PostProcess, "smoothing")
    prompt_threshold: float | None = option(
        None,
        label="Prompt threshold",
        help="Where the model is made to look: patches whose probability reaches this "
        "(ESP-MedSAM), or pixels at least this bright on a scale of 0 to 1 (Med-FastSAM). Lower "
        "makes it look at more.",
        minimum=0.01,
        maximum=1.0,
        auto="the model's own prompt",
        advanced=True,
    )
    axes: str | None = option(
        None,
        label="Axes",
        help="Order of the image's axes, from T, Z, C, Y and X (S: colour samples), e.g. ZYX.",
        auto="read from the file, or guessed from the shape",
        advanced=True,
    )
    rgb: bool | None = option(
        None,
        label="RGB",
        help="Whether the last axis holds the colours of one picture.",
        auto="yes for 8-bit images with 3 or 4 values in the last axis",
        advanced=True,
    )
    tile: int | None = option(
        None,
        label="Tile size",
        help="Side of the tiles that a plane is cut into, a multiple of 32. Smaller needs less "
        "memory.",
        minimum=MIN_TILE,
        maximum=MAX_TILE,
        unit="px",
        auto="the size that the model was trained for",
        advanced=True,
    )
    device: str = option(
        "auto",
        label="Device",
        help="Where to compute: auto (CUDA, then Apple MPS, then CPU), cpu, cuda, cuda:1 or mps.",
        advanced=True,
    )
    precision: str = option(
        "auto",
        label="Precision",
        help="Arithmetic: bfloat16 is fast and approximate: it changes a few pixels in a "
        "thousand, and pays on processors made for it, best with backend openvino; float16 is for "
        "graphics cards without it. float32 is exact; auto is float32 everywhere.",
        choices=("auto", "float32", "bfloat16", "float16"),
        advanced=True,
    )
    backend: str = option(
        "auto",
        label="Backend",
        help="What computes the encoder on a CPU: torch, onnx or openvino (faster; extras of the "
        "installation), or auto, the fastest that is installed. They differ by rounding.",
        choices=BACKENDS,
        advanced=True,
    )

    def validate(self) -> SegmentRequest:
        """Check each value, and the values against each other.

        Returns
        -------
        SegmentRequest
            The request itself.

        Raises
        ------
        InputError
            With the value, the limit and the way to mend it.
        """
        check(self)
        if self.planes is not None and (not self.planes or min(self.planes) < 0):
            raise InputError(
                f"planes is {self.planes}. Give at least one number, each 0 or more, or None for "
                "all planes."
            )
        check_one_scale(self.scale, self.diameter, self.pixel_size)
        if self.rgb and self.channel is not None:
            raise InputError(
                f"rgb is True and channel is {self.channel}. Give the channel alone to segment "
                "one colour, or rgb alone to use all three."
            )
        if self.tile is not None:
            TileSpec.of_size(self.tile)
        return self

    @property
    def post(self) -> PostProcess:
        """The settings that turn probabilities into labels."""
        names = [info.name for info in describe(PostProcess)]
        return PostProcess(**{name: getattr(self, name) for name in names})

    def model_options(self) -> dict[str, Any]:
        """Arguments of ``Segmenter.from_checkpoint``: which model, and where it runs."""
        return {
            "name_or_path": self.checkpoint,
            "device": self.device,
            "precision": self.precision,
            "backend": self.backend,
        }

    def segment_options(self) -> dict[str, Any]:
        """Arguments of ``Segmenter.iter_segment`` after the image."""
        return {
            "modality": self.modality,
            "axes": self.axes,
            "channel": self.channel,
            "rgb": self.rgb,
            "scale": self.scale,
            "diameter": self.diameter,
            "pixel_size": self.pixel_size,
            "tile": None if self.tile is None else TileSpec.of_size(self.tile),
            "post": self.post,
            "planes": self.planes,
            "prompt_threshold": self.prompt_threshold,
        }


def request_options() -> tuple[OptionInfo, ...]:
    """Describe the fields of :class:`SegmentRequest` for forms and the command line."""
    return describe(SegmentRequest)


def check_one_scale(scale: float | None, diameter: float | None, pixel_size: float | None) -> None:
    """Check that at most one of the three ways to set the scale is used.

    Raises
    ------
    InputError
        If two or more are given.
    """
    named = {"scale": scale, "diameter": diameter, "pixel_size": pixel_size}
    given = [f"{name}={value:g}" for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise InputError(
            f"{' and '.join(given)} are given, and each sets the scale. Give one of them."
        )

"""The model as its users see it: numpy images in, numpy labels out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.device import DeviceChoice, choose_device
from napari_espmedsam.inference.encoding import (
    Encoding,
    EncodingCache,
    content_key,
    settle_prompts,
)
from napari_espmedsam.inference.intensity import IntensityRange, measure_intensity
from napari_espmedsam.inference.plan import RunPlan, plan_run, resolve_modality
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.provenance import make_provenance
from napari_espmedsam.inference.results import Probability, Segmentation, collect
from napari_espmedsam.inference.run import (
    Event,
    encode_plane,
    encode_steps,
    run_planes,
)
from napari_espmedsam.inference.self_check import checked_runner
from napari_espmedsam.inference.tile_run import Tile, segment_tiles
from napari_espmedsam.inference.tiling import LogitBlender, TileSpec
from napari_espmedsam.weights import DEFAULT_CHECKPOINT, check_hash, resolve_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from napari_espmedsam.model.header import CheckpointHeader, InputSpec


class Segmenter:
    """A loaded model on a device. It may be used from several threads; tiles take turns.

    Parameters
    ----------
    model : nn.Module
        A model of ``napari_espmedsam.model``. Its inference form is used, a copy, so what is done
        to the model afterwards has no effect. Any other with the same interface is itself moved to
        the device and into evaluation mode.
    header : CheckpointHeader
        Its description: modalities, input geometry and normalisation.
    sha256 : str
        Hash of the weights, for the provenance; "" for a model that comes from no file.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision : {"auto", "float32", "bfloat16", "float16"}
        "auto" is float32 on every device. bfloat16 is fast on hardware made for it, and
        approximate: it changes a few pixels in a thousand. float16 is for GPUs that lack it.
    backend : {"torch", "auto", "onnx", "openvino"}
        What computes the encoder of tiles of the trained size. The others are for the CPU (in
        bfloat16 "openvino" alone), and agree with torch to 1e-4 in float32; "auto" takes the
        fastest that is installed, see :func:`choose_backend`.

    Attributes
    ----------
    header : CheckpointHeader
        As given.
    sha256 : str
        As given.
    device : DeviceChoice
        The device that is used, and why: the CPU where the device that was asked for computes
        something else than the CPU on a fixed tile. Its ``note`` is in the provenance.
    precision : str
        "float32", "bfloat16" or "float16".

    Raises
    ------
    DeviceError
        If the device is not available.
    InputError
        If the precision or the backend is unknown, or the backend is not installed or does not go
        with device and precision.
    """

    def __init__(
        self,
        model: nn.Module,
        header: CheckpointHeader,
        sha256: str = "",
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
    ) -> None:
        self.header = header
        self.sha256 = sha256
        spec = header.inputs[header.modalities[0]]
        sizes = {each.size for each in header.inputs.values()}
        self.device: DeviceChoice
        self.device, self._runner = checked_runner(
            model, choose_device(device), precision, spec, backend=backend, graph_sizes=sizes
        )
        self.precision = self._runner.precision
        self._cache = EncodingCache()

    @classmethod
    def from_checkpoint(
        cls,
        name_or_path: str | Path = DEFAULT_CHECKPOINT,
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
    ) -> Segmenter:
        """Load a model by its name or from a .safetensors file.

        Parameters
        ----------
        name_or_path : str or Path
            A name that ``napari-espmedsam models`` lists, or a file.
        device, precision, backend : str
            See :class:`Segmenter`.

        Returns
        -------
        Segmenter
            With the model on its device.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged or foreign.
        DeviceError
            If the device is not available.
        InputError
            See :class:`Segmenter`.
        """
        from napari_espmedsam.model.checkpoint import load_checkpoint

        path = resolve_checkpoint(name_or_path)
        loaded = load_checkpoint(path)
        check_hash(path, loaded.sha256)
        how = {"device": device, "precision": precision, "backend": backend}
        return cls(loaded.model, loaded.header, loaded.sha256, **how)

    @property
    def name(self) -> str:
        """Name of the checkpoint."""
        return self.header.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the checkpoint was trained for."""
        return self.header.modalities

    def computed_by(self, modality: str, shape: tuple[int, int]) -> str:
        """Name what computes the encoder of a tile; see `backend`.

        Another backend than torch is made ready for such tiles by this, which takes a while at the
        first time.

        Parameters
        ----------
        modality : str
            One of :attr:`modalities`.
        shape : tuple of int
            (h, w) of the tile in model px.

        Returns
        -------
        str
            "torch", or library and version: ``"onnxruntime 1.23.0"``.

        Raises
        ------
        ModalityError
            If the checkpoint lacks the modality.
        """
        known = resolve_modality(self.header, modality)
        return self._runner.computed_by(self.modalities.index(known), shape)

    def awaits(self, modality: str | None = None) -> str:
        """Name the library that the first tile of a modality has to wait for.

        Its graph of the encoder is made once for each modality and found again later.

        Parameters
        ----------
        modality : str, optional
            One of :attr:`modalities`; may be left out where there is one.

        Returns
        -------
        str
            Library and version: ``"onnxruntime 1.23.0"``; "" if there is nothing to wait for.

        Raises
        ------
        ModalityError
            If the checkpoint lacks the modality.
        """
        known = resolve_modality(self.header, modality)
        return self._runner.awaits(self.modalities.index(known))

    def input_spec(self, modality: str | None = None) -> InputSpec:
        """Say how images of a modality enter the model: geometry, size, scale, diameter.

        Parameters
        ----------
        modality : str, optional
            One of :attr:`modalities`; may be left out where there is one.

        Returns
        -------
        InputSpec
            Of the header.

        Raises
        ------
        ModalityError
            If the checkpoint lacks the modality, or has several and none is given.
        """
        return self.header.inputs[resolve_modality(self.header, modality)]

    def encode(
        self,
        plane: npt.NDArray[Any],
        modality: str | None = None,
        *,
        scale: float | None = None,
        diameter: float | None = None,
        pixel_size: float | None = None,
        tile: TileSpec | None = None,
        intensity: IntensityRange | None = None,
        on_tile: Callable[[int, int], object] | None = None,
    ) -> Encoding:
        """Compute the features of one plane; with the same pixels and settings from a cache.

        Parameters
        ----------
        plane : ndarray
            (H, W) integers or floats, or (H, W, 3) or (H, W, 4) for RGB(A).
        modality : str, optional
            One of :attr:`modalities`; may be left out where there is one.
        scale, diameter, pixel_size, tile
            See :meth:`segment`.
        intensity : IntensityRange, optional
            Grey values that become 0 and 1; measured on this plane when None. For a plane of a
            stack give the range of the stack.
        on_tile : callable, optional
            Called with the number of a tile and their count after each tile that is computed (not
            for a plane from the cache). What it raises ends the encoding and is passed on.

        Returns
        -------
        Encoding
            Features, geometry and the model's own prompt, for :meth:`decode`.

        Raises
        ------
        InputError, ModalityError
            See :meth:`segment`.
        """
        colours = np.ndim(plane) == 3
        plan = plan_run(
            self.header,
            plane,
            modality,
            axes="YXS" if colours else "YX",
            rgb=colours,
            scale=scale,
            diameter=diameter,
            pixel_size=pixel_size,
            tile=tile,
            cell=self._runner.prompt_cell,
        )
        known = measure_intensity(plan.stack, plan.spec) if intensity is None else intensity
        pixels = plan.stack.plane(0)
        key = self._encoding_key(pixels, plan, known)
        return self._cache.get_or_make(
            key, lambda: encode_plane(self._runner, plan, pixels, key, known, on_tile)
        )

    def plan(self, image: Any, **options: Any) -> RunPlan:
        """Settle a run without reading a pixel.

        Parameters
        ----------
        image : array-like
            See :meth:`segment`.
        **options
            Keyword arguments of :meth:`iter_segment`.

        Returns
        -------
        RunPlan
            Planes, geometry and settings as they would be used.

        Raises
        ------
        InputError, ModalityError
            See :meth:`segment`.
        """
        return plan_run(self.header, image, **options, cell=self._runner.prompt_cell)

    def encode_steps(
        self, plan: RunPlan, plane: int, intensity: IntensityRange
    ) -> Generator[int, None, Encoding]:
        """Compute the features of one plane of a plan, with a pause after each tile.

        The same as :meth:`encode`, for those who do other things in between and keep encodings
        themselves: the cache is neither asked nor filled.

        Parameters
        ----------
        plan : RunPlan
            From :meth:`plan`.
        plane : int
            Number of the plane. It is read by the first ``next``.
        intensity : IntensityRange
            Grey values that become 0 and 1.

        Yields
        ------
        int
            Number of the tile that is done.

        Returns
        -------
        Encoding
            Once all tiles are done.
        """
        pixels = plan.stack.plane(plane)
        key = self._encoding_key(pixels, plan, intensity)
        return (yield from encode_steps(self._runner, plan, pixels, key, intensity))

    def decode(
        self,
        encoding: Encoding,
        *,
        prompt: npt.ArrayLike | None = None,
        edits: npt.ArrayLike | None = None,
        prompt_threshold: float | None = None,
    ) -> Probability:
        """Decode features under the model's own prompt or another: milliseconds per tile.

        Parameters
        ----------
        encoding : Encoding
            From :meth:`encode` of this segmenter.
        prompt : array-like, optional
            (n_tiles, gh, gw) as ``encoding.prompt``, or (gh, gw) where there is one tile: bool or
            0 to 1, cut at 0.5. It replaces the proposal of every tile.
        edits : array-like, optional
            What to change of the proposal, on the canvas of all tiles (``encoding.canvas``): -1 as
            proposed, 0 off, 1 on.
        prompt_threshold : float, optional
            Propose the cells whose ``encoding.prompt_values`` reach it, from 0.01 to 1; the
            model's own prompt when None.

        Returns
        -------
        Probability
            Logits and probability on the pixels of the image, and the prompts of all tiles.

        Raises
        ------
        InputError
            If the encoding belongs to another segmenter, the prompt or the edits do not fit it,
            or a prompt is given together with edits or a threshold.
        """
        prompts = settle_prompts(encoding, prompt, edits, prompt_threshold)
        blender = LogitBlender(encoding.geometry.grid)
        for i, each in enumerate(prompts):
            blender.add(i, self.decode_tile(encoding, i, each))
        logits = encoding.geometry.to_image(blender.result())
        shown = [
            encoding.prompt[i] if p is None else np.asarray(p > 0.5) for i, p in enumerate(prompts)
        ]
        return Probability(logits, np.stack(shown))

    def decode_tile(
        self, encoding: Encoding, i: int, prompt: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[np.float32]:
        """Decode one tile under a prompt.

        Parameters
        ----------
        encoding : Encoding
            From :meth:`encode` of this segmenter.
        i : int
            Number of the tile.
        prompt : ndarray, optional
            (gh, gw), bool or what ``encoding.tile_prompt`` returns; the model's own when None.

        Returns
        -------
        ndarray
            Logits of tile i on the model's grid: (h / 4, w / 4) float32.

        Raises
        ------
        InputError
            If the encoding belongs to another segmenter.
        """
        if encoding.owner != self._runner.identity:
            raise InputError(
                "The encoding was made by another Segmenter. Encode the plane with this one first."
            )
        modality = self.modalities.index(encoding.modality)
        return self._runner.decode(encoding.features[i], modality, prompt)

    def iter_logits(
        self,
        tiles: Iterable[npt.NDArray[np.float32]],
        modality: str | None = None,
        prompt_threshold: float | None = None,
    ) -> Generator[npt.NDArray[np.float32], None, None]:
        """Segment tiles that the caller has cut, scaled and rescaled; nothing is kept.

        On a CUDA card they are computed in batches, and up to two batches of tiles are asked for
        before the first logits come.

        Parameters
        ----------
        tiles : iterable of ndarray
            (h, w) or (h, w, 3) float32 in [0, 1] in model px, sides multiples of 32.
        modality, prompt_threshold
            See :meth:`segment`.

        Yields
        ------
        ndarray
            Logits of each tile, in order, on the model's grid: (h / 4, w / 4) float32.
        """
        name = resolve_modality(self.header, modality)
        index, spec = self.modalities.index(name), self.header.inputs[name]
        given = (Tile(each) for each in tiles)
        return segment_tiles(self._runner, given, index, spec, prompt_threshold)

    def segment(
        self,
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
        edits: Mapping[int, npt.ArrayLike] | None = None,
        prompt_threshold: float | None = None,
    ) -> Segmentation:
        """Segment a whole image, plane by plane.

        Parameters
        ----------
        image : array-like
            numpy, dask, zarr or alike: Y and X, with any of T, Z and C (or S) in any order;
            integers or floats without NaN; planes of 16 x 16 px and more. It is read one plane at
            a time and never changed.
        modality : str, optional
            One of :attr:`modalities`; may be left out where there is one.
        axes : str, optional
            Letters for the axes, e.g. "ZCYX"; guessed from the shape when None
            (:func:`napari_espmedsam.inference.image.guess_axes`).
        channel : int, optional
            Channel to segment; needed where there are several that are no colours.
        rgb : bool, optional
            Whether the channel axis holds colours. None: 8-bit images with 3 or 4 channels last.
        scale : float, optional
            Model px per image px; the trained one when None.
        diameter : float, optional
            Typical object diameter in image px, instead of the scale.
        pixel_size : float, optional
            Micrometres per image px, instead of the scale.
        tile : TileSpec, optional
            Tile size and halo; the trained size when None.
        post : PostProcess, optional
            From probability to labels; the defaults when None.
        edits : mapping of int to array-like, optional
            Changes of the prompts by plane number, counted from 0 over the leading axes (0 for a
            2-D image). Each as in :meth:`decode`; planes without any keep what is proposed.
        prompt_threshold : float, optional
            See :meth:`decode`.

        Returns
        -------
        Segmentation
            Labels uint32 with the image's leading axes, then Y and X.

        Raises
        ------
        InputError
            If the image or a setting cannot be used; the message says how to mend it.
        ModalityError
            If the checkpoint lacks the modality, or has several and none is given.
        DeviceError
            If the device runs out of memory.
        """
        plan = plan_run(
            self.header,
            image,
            modality,
            axes=axes,
            channel=channel,
            rgb=rgb,
            scale=scale,
            diameter=diameter,
            pixel_size=pixel_size,
            tile=tile,
            post=post,
            edits=edits,
            prompt_threshold=prompt_threshold,
            cell=self._runner.prompt_cell,
        )
        return collect(plan.stack, self._run(plan))

    def iter_segment(
        self,
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
    ) -> Generator[Event, None, None]:
        """Segment plane by plane, with a sign of life after each tile.

        Image and settings are checked by the call itself, before the first ``next``. Close the
        generator, or stop asking it, to cancel: no further tile is computed.

        Parameters
        ----------
        image, modality, axes, channel, rgb, scale, diameter, pixel_size, tile, post, edits, \
        prompt_threshold
            See :meth:`segment`.
        planes : sequence of int, optional
            Planes to segment in this order, counted from 0 over the leading axes (the last one
            runs fastest); all when None. The intensity range is that of the whole image in any
            case, so a plane gets the same mask alone and in its stack.

        Yields
        ------
        TileDone or PlaneResult
            ``TileDone`` after each tile, ``PlaneResult`` after the last tile of each plane.

        Raises
        ------
        InputError, ModalityError, DeviceError
            See :meth:`segment`.
        """
        plan = plan_run(
            self.header,
            image,
            modality,
            axes=axes,
            channel=channel,
            rgb=rgb,
            scale=scale,
            diameter=diameter,
            pixel_size=pixel_size,
            tile=tile,
            post=post,
            edits=edits,
            prompt_threshold=prompt_threshold,
            cell=self._runner.prompt_cell,
            planes=planes,
        )
        return self._run(plan)

    def _run(self, plan: RunPlan) -> Generator[Event, None, None]:
        intensity = measure_intensity(plan.stack, plan.spec)
        record = make_provenance(self, plan, intensity)
        yield from run_planes(self._runner, plan, intensity, record)

    def _encoding_key(
        self, pixels: npt.NDArray[Any], plan: RunPlan, intensity: IntensityRange
    ) -> str:
        settings = (self.sha256, self.precision, plan.modality, plan.geometry, intensity)
        return content_key(pixels, *settings)

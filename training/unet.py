"""The yardstick: a U-Net with the models' interface, trained and scored as they are.

MONAI's residual U-Net, five levels down to S/16. Three choices keep it from being a straw man:

* One logit per input pixel. The decoders of the papers stop at S/4; a U-Net need not.
* Instance normalisation with a learned scale and shift, as nnU-Net has it. Batches mix modalities
  of very different statistics and may be small or accumulated, all of which batch normalisation
  would have to average over.
* A 1x1 head on the widest map. MONAI's own last block would normalise its one output channel to
  mean 0 per image, so that the network could not say "nothing here".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import ValidationError, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.model.checkpoint import (
    CheckpointHeader,
    InputSpec,
    load_strict,
    read_header,
    save_checkpoint,
)
from napari_espmedsam.model.coarse_prompt import extend_to_grid
from napari_espmedsam.model.config import FrozenModel
from napari_espmedsam.model.no_prompt import refuse_prompt
from napari_espmedsam.model.output import Features, ModelOutput
from napari_espmedsam.model.validate import check_images, check_modality

#: Name in recipes (``architecture = "unet"``) and in the headers of checkpoints.
ARCHITECTURE = "unet"

Maps = tuple[Tensor, ...]


class UNetConfig(FrozenModel):
    """Shape of the yardstick."""

    modalities: tuple[str, ...]
    #: Channels of the five levels, S/2 to S/16; the last two share a resolution.
    channels: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)
    #: Convolutions in every residual unit.
    residual_units: int = 2
    #: "each": a network per modality, trained on that modality's share of every batch (as the
    #: papers train their task-specific baselines). "one": one network that is not told the
    #: modality.
    networks: Literal["each", "one"] = "each"

    @model_validator(mode="after")
    def _modalities_are_distinct(self) -> UNetConfig:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities must be distinct and at least one, got {self.modalities}")
        return self


class PlainUNet(nn.Module):
    """One network, whose two halves can be run apart.

    Parameters
    ----------
    config : UNetConfig
        Channels and residual units.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        from monai.networks.nets.unet import UNet  # takes seconds to import

        width = config.channels[0]
        self.body = UNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=width,
            channels=config.channels,
            strides=(2, 2, 2, 2),
            num_res_units=config.residual_units,
            norm=("instance", {"affine": True}),
        )
        self.head = nn.Conv2d(width, 1, 1)

    def _levels(self) -> tuple[list[nn.Module], nn.Module, list[nn.Module]]:
        """Blocks on the way down, the lowest one, and those on the way up, innermost first."""
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        level: Any = self.body.model
        while isinstance(level, nn.Sequential):  # (down, skip connection round the rest, up)
            down.append(level[0])
            up.append(level[2])
            level = level[1].submodule
        return down, level, up[::-1]

    def contract(self, images: Tensor) -> Maps:
        """(B, 3, 16h, 16w) to the lowest map (B, C, h, w), then the skipped ones, finest first."""
        down, lowest, _ = self._levels()
        skips: list[Tensor] = []
        x = images
        for block in down:
            x = block(x)
            skips.append(x)
        return (lowest(x), *skips)

    def expand(self, lowest: Tensor, *skips: Tensor) -> Maps:
        """Maps of :meth:`contract` to logits (B, 1, 16h, 16w)."""
        x = lowest
        for block, skip in zip(self._levels()[2], reversed(skips), strict=True):
            x = block(torch.cat([skip, x], dim=1))
        return (self.head(x),)


class YardstickUNet(nn.Module):
    """A U-Net per modality, or one for all, behind the interface of the models.

    Parameters
    ----------
    config : UNetConfig
        Its shape.
    """

    #: It takes no prompt; what it proposes is an empty mask.
    prompt_kind: Literal["mask"] = "mask"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        n = len(config.modalities) if config.networks == "each" else 1
        self.networks = nn.ModuleList(PlainUNet(config) for _ in range(n))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of their index."""
        return self.config.modalities

    def _per_network(self, function: Callable[..., Maps], modality: Tensor, *maps: Tensor) -> Maps:
        """Apply ``function(network, *maps)`` to each network's rows; rows keep their order."""
        if len(self.networks) == 1:
            return function(self.networks[0], *maps)
        groups = [(k, torch.nonzero(modality == k).flatten()) for k in modality.unique().tolist()]
        parts = [function(self.networks[k], *(m[rows] for m in maps)) for k, rows in groups]
        back = torch.argsort(torch.cat([rows for _, rows in groups]))
        return tuple(torch.cat(column)[back] for column in zip(*parts, strict=True))

    def extract(
        self, images: Tensor, modality: Tensor, unnormalised: Tensor | None = None
    ) -> Features:
        """Run the contracting path on (B, 3, H, W) normalised images.

        Raises
        ------
        InputError, ModalityError
            If the shapes do not fit, a side is below 32 px, or the modality is unknown.
        """
        del unnormalised
        check_images(images)
        check_modality(modality, len(images), self.modalities)
        size = (-(-images.shape[-2] // 16), -(-images.shape[-1] // 16))
        whole = extend_to_grid(images, size)
        lowest, *skips = self._per_network(PlainUNet.contract, modality, whole)
        return Features(lowest, torch.zeros_like(images[:, :1]), tuple(skips))

    def decode_features(
        self, features: Features, modality: Tensor, prompt: Tensor | None = None
    ) -> Tensor:
        """Run the expanding path: logits (B, 1, 16h, 16w), h = ceil(H/16); no prompt is taken."""
        refuse_prompt(prompt, "none")
        maps = (features.embedding, *features.skips)
        return self._per_network(PlainUNet.expand, modality, *maps)[0]

    def forward(self, images: Tensor, modality: Tensor) -> ModelOutput:
        """Segment images.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised, H and W of 32 px and more.
        modality : Tensor
            (B,) int64 index into :attr:`modalities`; may differ within the batch.

        Returns
        -------
        ModelOutput
            Mask logits (B, 1, 16h, 16w): one per pixel. The embedding is the lowest map, at S/16.
        """
        features = self.extract(images, modality)
        return ModelOutput(self.decode_features(features, modality), None, features.embedding)


def build_unet(modalities: tuple[str, ...], **overrides: Any) -> YardstickUNet:
    """Build the yardstick with fresh weights.

    Parameters
    ----------
    modalities : tuple of str
        Names, in index order.
    **overrides
        Other fields of :class:`UNetConfig`.

    Raises
    ------
    InputError
        If a field is unknown or a value does not fit.
    """
    try:
        return YardstickUNet(UNetConfig.model_validate({"modalities": modalities, **overrides}))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"The U-Net cannot be configured like this: {problems}.") from error


def save_unet(
    path: str | Path,
    model: YardstickUNet,
    *,
    name: str,
    inputs: Mapping[str, InputSpec],
    licence: str,
    training: Mapping[str, Any] | None = None,
    threshold: float = 0.5,
) -> Path:
    """Write a checkpoint of the same format as the models', for :func:`load_unet`.

    Parameters
    ----------
    path : str or Path
        Target, normally ``*.safetensors``.
    model : YardstickUNet
        Weights to store, in half precision.
    name, inputs, licence, training, threshold
        See :class:`napari_espmedsam.model.checkpoint.CheckpointHeader`.

    Raises
    ------
    OutputError
        If the folder does not exist or cannot be written.
    """
    header = CheckpointHeader(
        name=name,
        architecture=ARCHITECTURE,
        config=model.config.model_dump(mode="json"),
        modalities=model.modalities,
        inputs=dict(inputs),
        training=dict(training or {}),
        licence=licence,
        threshold=threshold,
    )
    return save_checkpoint(path, model, header)


class LoadedUNet(NamedTuple):
    """A U-Net ready to run (eval mode, float32, on the CPU) and where it came from."""

    model: YardstickUNet
    header: CheckpointHeader
    sha256: str


def load_unet(path: str | Path) -> LoadedUNet:
    """Load a checkpoint written by :func:`save_unet`.

    Raises
    ------
    CheckpointError
        If the file is damaged, or holds another architecture.
    """
    path = Path(path)
    header = read_header(path)
    if header.architecture != ARCHITECTURE:
        raise CheckpointError(
            f"{path.name} holds the architecture {header.architecture!r}, not {ARCHITECTURE!r}."
        )
    try:
        model = build_unet(**header.config)
    except InputError as error:
        raise CheckpointError(f"{path.name} describes no U-Net: {error}") from error
    load_strict(model, load_file(path), path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedUNet(model.eval().to(torch.float32), header, digest)

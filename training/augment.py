"""Random training crops: geometry once for image and mask, then intensity for the image alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from training.config import AugmentConfig


def uniform(low: float, high: float) -> float:
    """Draw from [low, high) with torch's generator, which the loop seeds per step."""
    return low + (high - low) * float(torch.rand(()))


def mirrored(length: int, extended: int) -> Tensor:
    """Indices (extended,) that continue 0..length-1 by reflection, as often as needed."""
    index = torch.arange(extended) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


class ScaledCrop(v2.Transform):
    """Cut a random square and resize it to ``crop`` px, at ``scale`` times a random zoom.

    One interpolation does crop and zoom together. Where the image is smaller than the square it is
    extended by reflection.
    """

    def __init__(self, crop: int, scale: float, zoom: tuple[float, float]) -> None:
        super().__init__()
        self.crop, self.scale, self.zoom = crop, scale, zoom

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Choose the square: side and offsets in image pixels."""
        height, width = tvf.get_size(flat_inputs[0])
        zoom = math.exp(uniform(math.log(self.zoom[0]), math.log(self.zoom[1])))
        side = max(8, round(self.crop / (self.scale * zoom)))
        pad_y, pad_x = max(0, side - height), max(0, side - width)
        top = int(torch.randint(height + pad_y - side + 1, ()))
        left = int(torch.randint(width + pad_x - side + 1, ()))
        return {"side": side, "pad": (pad_x, pad_y), "top": top, "left": left}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to an image or a mask (a float image in {0, 1})."""
        pad_x, pad_y = params["pad"]
        side = params["side"]
        if pad_x or pad_y:
            height, width = inpt.shape[-2:]
            rows, columns = mirrored(height, height + pad_y), mirrored(width, width + pad_x)
            inpt = tv_tensors.wrap(inpt[..., rows[:, None], columns], like=inpt)
        return tvf.resized_crop(
            inpt, params["top"], params["left"], side, side, [self.crop, self.crop], antialias=True
        )


class WholeView(v2.Transform):
    """Zoom, shift and turn an image that is already ``crop`` px a side; outside is black."""

    def __init__(self, crop: int, config: AugmentConfig) -> None:
        super().__init__()
        self.crop, self.config = crop, config

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Choose angle, shift and zoom."""
        c = self.config
        return {
            "angle": uniform(-c.rotation, c.rotation),
            "translate": [round(uniform(-c.shift, c.shift) * self.crop) for _ in range(2)],
            "scale": math.exp(uniform(math.log(c.zoom[0]), math.log(c.zoom[1]))),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to an image or a mask (a float image in {0, 1})."""
        return tvf.affine(
            inpt, shear=[0.0, 0.0], interpolation=v2.InterpolationMode.BILINEAR, **params
        )


class RandomQuarterTurn(v2.Transform):
    """Rotate by 0, 90, 180 or 270 degrees."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Choose the number of turns."""
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn the last two axes."""
        return tv_tensors.wrap(torch.rot90(inpt, params["turns"], (-2, -1)), like=inpt)


class RandomGamma(v2.Transform):
    """Raise an image in [0, 1] to a log-uniform power."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = math.log(low), math.log(high)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Choose the exponent."""
        return {"gamma": math.exp(uniform(self.low, self.high))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to an image in [0, 1]."""
        return inpt ** params["gamma"]


class RandomTint(v2.Transform):
    """Scale the channels independently, as a coloured lookup table or another stain does."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Choose one gain per channel; the largest is 1."""
        gains = 0.2 + 0.8 * torch.rand(3, 1, 1)
        return {"gains": gains / gains.max()}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to a (3, H, W) image in [0, 1]."""
        return inpt * params["gains"]


_FLIPS: dict[str, list[v2.Transform]] = {
    "any": [v2.RandomHorizontalFlip(), RandomQuarterTurn()],
    "horizontal": [v2.RandomHorizontalFlip()],
    "none": [],
}


class TrainingTransform:
    """Joint geometry, then intensity.

    Parameters
    ----------
    config : AugmentConfig
        Ranges and probabilities.
    crop : int
        Side of the result in model pixels.
    scale : float or None
        Model pixels per image pixel; None where images come resized as a whole.
    """

    def __init__(self, config: AugmentConfig, crop: int, scale: float | None) -> None:
        self.geometry = v2.Compose(
            [
                WholeView(crop, config) if scale is None else ScaledCrop(crop, scale, config.zoom),
                *_FLIPS[config.flips],
            ]
        )
        self.intensity = v2.Compose(
            [
                v2.RandomApply([change], p=p)
                for change, p in (
                    (RandomGamma(0.5, 2.0), config.gamma),
                    (v2.ColorJitter(0.25, 0.25, 0.3, 0.06), config.jitter),
                    (RandomTint(), config.tint),
                    (v2.Grayscale(3), config.greyscale),
                    (v2.RandomInvert(p=1.0), config.invert),
                    (v2.GaussianBlur(5, (0.3, 1.5)), config.blur),
                    (v2.GaussianNoise(sigma=0.04), config.noise),
                )
                if p > 0
            ]
            or [v2.Identity()]
        )

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one sample.

        Parameters
        ----------
        image : Tensor
            (3, H, W) float32 in [0, 1].
        mask : Tensor
            (1, H, W) float32 in {0, 1}.

        Returns
        -------
        tuple of Tensor
            Image (3, crop, crop) in [0, 1] and mask (1, crop, crop) in {0, 1}.
        """
        # The mask travels as an image: interpolated and cut at 0.5 its outline stays smooth.
        image, mask = self.geometry(tv_tensors.Image(image), tv_tensors.Image(mask))
        image = self.intensity(image)
        return image.as_subclass(Tensor).clamp(0, 1), (mask.as_subclass(Tensor) >= 0.5).float()

"""Half precision: where it may be asked for, and weights that need no conversion in each pass."""

from __future__ import annotations

import torch
from torch import nn

from napari_espmedsam.errors import InputError

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

#: Layers that autocast computes in half precision whatever their inputs are.
_CAST = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def check_half(precision: str, device: str) -> None:
    """Refuse a half precision that a device lacks.

    Parameters
    ----------
    precision : str
        Any; only "bfloat16" and "float16" are looked at.
    device : str
        As torch calls it.

    Raises
    ------
    InputError
        For float16 without a GPU, and bfloat16 on a CUDA card that only emulates it.
    """
    if precision == "float16" and device == "cpu":
        raise InputError(
            "precision is 'float16', which is for GPUs, and the model is to run on cpu. Choose "
            "bfloat16, or float32."
        )
    if precision == "bfloat16" and device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise InputError(
                f"precision is 'bfloat16', which {device} lacks (compute capability "
                f"{major}.{minor}; it comes with 8.0). Choose float16, or float32."
            )


def halve_weights(encoder: nn.Module, dtype: torch.dtype) -> None:
    """Convert, in place, the weights that autocast would convert in every pass, to the same values.

    From then on the encoder is of use under autocast alone. What autocast leaves in float32 stays
    so. (Decoders are small, and read some weights in other ways than by calling their layer.)
    """
    for part in encoder.modules():
        if isinstance(part, _CAST):
            part.to(dtype)

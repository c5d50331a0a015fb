"""Choice of the compute device, with the reason in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_espmedsam.errors import DeviceError


@dataclass(frozen=True)
class DeviceChoice:
    """A device and why it was taken.

    Attributes
    ----------
    device : str
        What torch calls it: "cpu", "mps", "cuda:0".
    reason : str
        One sentence for a status line or a log.
    distrusted : bool
        Whether it, or float32 on it, stands in for a device or a precision that computes something
        else than the CPU.
    """

    device: str
    reason: str
    distrusted: bool = False

    @property
    def note(self) -> str:
        """What a result has to say of it: the reason where it stands in for another, or ""."""
        return self.reason if self.distrusted else ""


def choose_device(wish: str = "auto") -> DeviceChoice:
    """Choose where to compute.

    Parameters
    ----------
    wish : str
        "auto" takes CUDA when present, then MPS (Apple), then the CPU. "cpu", "cuda", "cuda:1"
        and "mps" are taken as said.

    Returns
    -------
    DeviceChoice
        The device and the reason.

    Raises
    ------
    DeviceError
        If the wish is unknown or not available here; the message lists what is.
    """
    offered = available_devices()
    if wish == "auto":
        return DeviceChoice(offered[0], _reason_for(offered[0]))
    wanted = "cuda:0" if wish == "cuda" else wish
    if wanted not in offered:
        raise DeviceError(
            f"The device {wish!r} is not available here. Choose one of: auto, "
            f"{', '.join(offered)}. (PyTorch {torch.__version__}, "
            f"{'built for CUDA ' + torch.version.cuda if torch.version.cuda else 'no CUDA build'}.)"
        )
    return DeviceChoice(wanted, f"{_name_of(wanted)}, as asked for.")


def available_devices() -> tuple[str, ...]:
    """List the devices of this machine, fastest first; the CPU is always the last."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return (*cuda, *mps, "cpu")


def _name_of(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return {"mps": "The Apple GPU (MPS)", "cpu": f"The CPU ({torch.get_num_threads()} threads)"}[
        device
    ]


def _reason_for(device: str) -> str:
    if device == "cpu":
        return f"{_name_of(device)}: PyTorch finds neither a CUDA nor an Apple GPU here."
    return f"{_name_of(device)}: the fastest device that PyTorch finds here."


def free_memory(device: str) -> None:
    """Give memory that no tensor uses any more back to the device, for other programs.

    Parameters
    ----------
    device : str
        As torch calls it. The CPU needs no such thing.
    """
    kind = device.split(":")[0]
    if kind == "cuda" and torch.cuda.is_available():
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
    elif kind == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()

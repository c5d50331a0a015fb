"""Exceptions raised by napari-espmedsam.

Every message names the offending value, the limit it broke and the way to mend it, so that the
command line and the widgets can show ``str(error)`` unchanged.
"""

from __future__ import annotations


class EspMedSamError(Exception):
    """Base class of every error that the package raises on purpose."""


class InputError(EspMedSamError, ValueError):
    """An image, array or setting that cannot be used as it is."""


class ModalityError(InputError):
    """A modality that the loaded checkpoint was not trained for."""


class CheckpointError(EspMedSamError):
    """A weight file that is damaged, foreign or does not match its architecture."""


class OutputError(EspMedSamError):
    """A result that cannot be written where it was asked for."""


class DeviceError(EspMedSamError):
    """A compute device that this machine or this PyTorch build does not offer."""


class ClusterError(EspMedSamError):
    """A cluster that cannot be reached, has gone, or does not suit the job."""

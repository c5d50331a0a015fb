"""Compressed DICOM frames that Pillow cannot decode, through imagecodecs.

JPEG Lossless and JPEG-LS are what many X-ray detectors write. Shaped as pydicom wants a decoding
plugin to be: https://pydicom.github.io/pydicom/stable/guides/decoding/decoder_plugins.html
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

LABEL = "imagecodecs"
DECODER_DEPENDENCIES = {
    uid.JPEGExtended12Bit: ("imagecodecs",),
    uid.JPEGLossless: ("imagecodecs",),
    uid.JPEGLosslessSV1: ("imagecodecs",),
    uid.JPEGLSLossless: ("imagecodecs",),
    uid.JPEGLSNearLossless: ("imagecodecs",),
}
_LOCK = threading.Lock()


def register() -> None:
    """Tell pydicom of this plugin; further calls do nothing."""
    with _LOCK:
        for syntax in DECODER_DEPENDENCIES:
            decoder = get_decoder(syntax)
            if LABEL not in decoder.available_plugins:
                decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def is_available(syntax: str) -> bool:
    """Tell pydicom whether a transfer syntax can be decoded."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode one frame for pydicom; colours stay as they are encoded."""
    import imagecodecs

    if runner.transfer_syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        pixels = imagecodecs.jpegls_decode(source)
    elif runner.transfer_syntax == uid.JPEGExtended12Bit:
        pixels = imagecodecs.jpeg8_decode(source)
    else:
        pixels = imagecodecs.ljpeg_decode(source)
    pixels = np.ascontiguousarray(pixels)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()

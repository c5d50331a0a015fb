"""Refuse chunks that are cut short before C-Blosc reads on beyond their end."""

from __future__ import annotations

from typing import Any

HEADER = 16  # bytes; the last four are the length of the whole chunk


def check_blosc_chunks() -> None:
    """Have numcodecs check the length of each Blosc chunk that it decodes, from now on.

    numcodecs 0.16 hands a chunk to C-Blosc with no word on its length. C-Blosc believes the header,
    so an OME-Zarr that was copied in part could end the process, and napari with it.
    """
    from numcodecs.blosc import Blosc

    if getattr(Blosc.decode, "checks_length", False):
        return
    decode = Blosc.decode

    def checked(self: Any, buf: Any, out: Any = None) -> Any:
        chunk = memoryview(buf).cast("B")
        promised = int.from_bytes(chunk[HEADER - 4 : HEADER], "little")
        if not HEADER <= promised <= len(chunk):
            raise ValueError(f"a Blosc chunk of {len(chunk)} bytes is cut short")
        return decode(self, buf, out)

    checked.checks_length = True  # type: ignore[attr-defined]
    Blosc.decode = checked

"""Work on some rows of a map at a time: the wide maps in between never exist as a whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 16  # of the result

RowsToRows = Callable[[Tensor], Tensor]


def in_pieces(x: Tensor) -> bool:
    """Whether to work piece by piece. Caches of processors gain by it; GPUs and graphs lose."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def in_bands(function: RowsToRows, x: Tensor, stride: int = 1) -> Tensor:
    """Return ``function(x)``, computed band by band.

    Parameters
    ----------
    function : callable
        From (B, H, W, C) to (B, ceil(H / stride), W', C'). Beyond the edge of what it is given it
        assumes zeros, at each step; a row of its result depends on the rows of ``x`` that belong
        to this row and the next ones above and below.
    x : Tensor
        (B, H, W, C).
    stride : int
        Rows of ``x`` per row of the result.

    Returns
    -------
    Tensor
        (B, ceil(H / stride), W', C').
    """
    if not in_pieces(x):
        return function(x)
    batch, height = len(x), -(-x.shape[1] // stride)
    out = x.new_empty(0)
    for top in range(0, height, ROWS):
        # The rows next to the band come out wrong, and are dropped.
        start = max(0, top - 1)
        band = function(x[:, start * stride : (top + ROWS + 1) * stride])
        if top == 0:
            out = band.new_empty(batch, height, *band.shape[2:])
        out[:, top : top + ROWS] = band[:, top - start : top - start + ROWS]
    return out


def overwrite_in_bands(function: RowsToRows, x: Tensor) -> Tensor:
    """Put :func:`in_bands` of ``x``, which has the same shape, in its place and return it."""
    if not in_pieces(x):
        return function(x)
    above = x[:, :0]  # the row above the band, as it was
    for top in range(0, x.shape[1], ROWS):
        band = torch.cat([above, x[:, top : top + ROWS + 1]], dim=1)
        known = above.shape[1]
        above = x[:, top + ROWS - 1 : top + ROWS].clone()
        x[:, top : top + ROWS] = function(band)[:, known : known + ROWS]
    return x

"""Rehearse what a user does to a prompt: switch objects off, and say that others are there.

A model that only ever sees its own prompts learns that image and prompt say the same, and that the
prompt may be ignored. Where rows of a batch carry corrections, the mask that is asked for follows
them, so the decoder learns to obey. It sees corrections as numbers of their own, and rows in which
its own prompt misses objects, so that it obeys the user without trusting itself more than before.
Beyond the papers; ``prompt_corrections`` in a recipe.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MISSED, UNTOUCHED, OFF, ON = -2.0, -1.0, 0.0, 1.0
#: What the decoder sees of off and on; its own prompt is 0 and 1.
CORRECTION_LEVELS = (-1.0, 2.0)
OFF_SHARE = 0.5  # of the objects
ON_SHARE = 0.5  # of those that stay
MISSED_SHARE = 0.5  # of the rows that nobody corrects, and there of the objects
#: A brush is wider than the object: a mask prompt (cell 1) is wiped this far around it, in px.
BRUSH = 5


def draw_corrections(mask: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Draw corrections of one image's prompt and the mask that they ask for.

    Random numbers come from torch's generator.

    Parameters
    ----------
    mask : Tensor
        (1, S, S) float in {0, 1}: the ground truth.
    cell : int
        Side of a prompt cell in px; 1 for a mask prompt.

    Returns
    -------
    corrections : Tensor
        (1, ceil(S / cell), ceil(S / cell)) float: see ``model.no_prompt.correct_prompt``.
    wanted : Tensor
        (1, S, S) float in {0, 1}: ground truth without the objects that were switched off.
    """
    count, labels = cv2.connectedComponents(mask[0].numpy().astype(np.uint8))
    objects = torch.from_numpy(labels.astype(np.int64))
    off = torch.rand(count) < OFF_SHARE
    named = (torch.rand(count) < ON_SHARE) & ~off
    off[0] = named[0] = False
    wanted = (mask[0] * ~off[objects])[None]
    wiped = _cells(_widened(off[objects].float()[None], cell), cell)
    kept = _cells(wanted, cell)
    corrections = torch.full_like(kept, UNTOUCHED)
    corrections[(wiped > 0) & (kept == 0)] = OFF  # a cell that a kept object needs stays as it is
    corrections[_cells(named[objects].float()[None], cell) > 0] = ON
    return corrections, wanted


def no_corrections(mask: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Leave the prompt of an image to the model, as :func:`draw_corrections` returns it.

    In some rows it misses objects that are asked for all the same: where nobody said "off", an
    empty prompt is no reason to see nothing.
    """
    untouched = torch.full_like(_cells(mask, cell), UNTOUCHED)
    if float(torch.rand(())) >= MISSED_SHARE:
        return untouched, mask
    count, labels = cv2.connectedComponents(mask[0].numpy().astype(np.uint8))
    objects = torch.from_numpy(labels.astype(np.int64))
    missed = torch.rand(count) < MISSED_SHARE
    missed[0] = False
    hidden = _cells(_widened(missed[objects].float()[None], cell), cell)
    return torch.where(hidden > 0, MISSED, untouched), mask


def _cells(mask: Tensor, cell: int) -> Tensor:
    """Cells that hold any foreground, as in eq. 6."""
    return F.max_pool2d(mask[None], cell, cell, ceil_mode=True)[0]


def _widened(mask: Tensor, cell: int) -> Tensor:
    if cell > 1:
        return mask
    return F.max_pool2d(mask[None], 2 * BRUSH + 1, 1, BRUSH)[0]

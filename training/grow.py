"""Add modalities to a trained model: new private parts beside the old ones, which stay as they are.

ESP-MedSAM sections 3.2.3 and 3.4: a modality owns a bag, a query and a mask MLP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.registry import Model, build


@torch.no_grad()
def with_modalities(model: Model, wanted: Sequence[str]) -> Model:
    """Return a model that has every wanted modality, or ``model`` itself if it has them all.

    Parameters
    ----------
    model : ESPMedSAM or MedFastSAM
        The trained model; not changed.
    wanted : sequence of str
        Modalities that the result must have. New ones come last, in this order.

    Returns
    -------
    ESPMedSAM or MedFastSAM
        Old parameters are copies, bit by bit. A new bag starts as a no-op; a new query and mask
        MLP start as the mean query and as the first modality's MLP.

    Raises
    ------
    InputError
        If the layout has no private parts to add.
    """
    new = [name for name in wanted if name not in model.modalities]
    if not new:
        return model
    changes = {"modalities": (*model.modalities, *new)}
    config = type(model.config).model_validate({**model.config.model_dump(), **changes})
    if not isinstance(model, ESPMedSAM):
        grown = build(config)
        grown.load_state_dict(model.state_dict())
        return grown
    if model.config.query_rows or model.config.query_count or model.config.mask_mlp == "shared":
        raise InputError(
            f"Modality {new[0]!r} cannot be added to this layout: its queries or mask MLPs are "
            "shared. Start from an esp_medsam checkpoint with private ones."
        )
    grown = build(config)
    grown.load_state_dict(_grown_state(model, len(new)), strict=False)
    return grown


def _grown_state(model: ESPMedSAM, n: int) -> dict[str, Tensor]:
    """State of ``model`` with ``n`` more queries and mask MLPs (bags start fresh)."""
    state = dict(model.state_dict())
    queries = state["decoder.queries"]
    state["decoder.queries"] = torch.cat([queries, queries.mean(0).expand(n, -1)])
    first = "decoder.mask_mlps.0."
    k = len(model.modalities)
    for name in [name for name in state if name.startswith(first)]:
        for i in range(n):
            state[f"decoder.mask_mlps.{k + i}.{name.removeprefix(first)}"] = state[name]
    return state
